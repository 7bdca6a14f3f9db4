"""Whole networks: a graph of a few operators, made from an ONNX model, simplified, laid out in memory."""
