"""ONNX models read: graph, shapes, attributes."""
