"""PyTorch: a module compiled whole (needs onnx as well), its convolutions replaced, and convolutions as
operators for torch.compile and autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvmconv.base.lazy import lazily

if TYPE_CHECKING:
    from tvmconv.torch.compiling import CompiledModule, compile
    from tvmconv.torch.functions import conv, conv_transpose
    from tvmconv.torch.replacing import Convolution, replace_convolutions

__all__ = ["CompiledModule", "Convolution", "compile", "conv", "conv_transpose", "replace_convolutions"]

_NAMES = {
    "tvmconv.torch.compiling": ("CompiledModule", "compile"),
    "tvmconv.torch.functions": ("conv", "conv_transpose"),
    "tvmconv.torch.replacing": ("Convolution", "replace_convolutions"),
}
__getattr__, __dir__ = lazily(__name__, _NAMES, __all__)
