"""Whole networks: a graph of a few operators, made from an ONNX model, simplified, laid out in memory, and
compiled into one function. Needs onnx; for comparing with onnxruntime, that as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvmconv.network.checking import Deviation, Difference, compare, first_deviation
    from tvmconv.network.compiling import Network, compile, read

__all__ = ["Deviation", "Difference", "Network", "compare", "compile", "first_deviation", "read"]

_NAMES = {
    "tvmconv.network.checking": ("Deviation", "Difference", "compare", "first_deviation"),
    "tvmconv.network.compiling": ("Network", "compile", "read"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tvmconv.network' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
