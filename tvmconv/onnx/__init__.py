"""ONNX: the convolutions of models and of single nodes. Needs onnx; for running models, onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvmconv.onnx.layers import Extraction, Layer, extract
    from tvmconv.onnx.model import Model, load

__all__ = ["Extraction", "Layer", "Model", "extract", "load"]

_NAMES = {
    "tvmconv.onnx.layers": ("Extraction", "Layer", "extract"),
    "tvmconv.onnx.model": ("Model", "load"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tvmconv.onnx' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
