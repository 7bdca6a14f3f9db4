"""Whole networks: a graph of a few operators, made from an ONNX model, simplified, laid out in memory, and
compiled into one function. Needs onnx; for comparing with onnxruntime, that as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvmconv.base.lazy import lazily

if TYPE_CHECKING:
    from tvmconv.network.checking import Deviation, Difference, compare, first_deviation
    from tvmconv.network.compiling import Network, compile, read

__all__ = ["Deviation", "Difference", "Network", "compare", "compile", "first_deviation", "read"]

_NAMES = {
    "tvmconv.network.checking": ("Deviation", "Difference", "compare", "first_deviation"),
    "tvmconv.network.compiling": ("Network", "compile", "read"),
}
__getattr__, __dir__ = lazily(__name__, _NAMES, __all__)
