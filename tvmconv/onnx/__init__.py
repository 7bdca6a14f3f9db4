"""ONNX: the convolutions of models and of single nodes. Needs onnx; for running models, onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvmconv.base.lazy import lazily

if TYPE_CHECKING:
    from tvmconv.onnx.reading.model import Model, load, parse_shapes
    from tvmconv.onnx.recognising.extraction import extract
    from tvmconv.onnx.recognising.layers import Extraction, Layer
    from tvmconv.onnx.using.agreement import Agreement, verify_model
    from tvmconv.onnx.using.library import compile_model
    from tvmconv.onnx.using.run_node import run_node

__all__ = [
    "Agreement", "Extraction", "Layer", "Model", "compile_model", "extract", "load", "parse_shapes",
    "run_node", "verify_model",
]  # fmt: skip

_NAMES = {
    "tvmconv.onnx.using.agreement": ("Agreement", "verify_model"),
    "tvmconv.onnx.recognising.extraction": ("extract",),
    "tvmconv.onnx.recognising.layers": ("Extraction", "Layer"),
    "tvmconv.onnx.using.library": ("compile_model",),
    "tvmconv.onnx.reading.model": ("Model", "load", "parse_shapes"),
    "tvmconv.onnx.using.run_node": ("run_node",),
}
__getattr__, __dir__ = lazily(__name__, _NAMES, __all__)
