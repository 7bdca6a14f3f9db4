"""PyTorch: a module compiled whole (needs onnx as well), or its convolutions replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvmconv.base.lazy import lazily

if TYPE_CHECKING:
    from tvmconv.torch.compiling import CompiledModule, compile
    from tvmconv.torch.replacing import Convolution, replace_convolutions

__all__ = ["CompiledModule", "Convolution", "compile", "replace_convolutions"]

_NAMES = {
    "tvmconv.torch.compiling": ("CompiledModule", "compile"),
    "tvmconv.torch.replacing": ("Convolution", "replace_convolutions"),
}
__getattr__, __dir__ = lazily(__name__, _NAMES, __all__)
