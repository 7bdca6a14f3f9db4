"""PyTorch's tensors as our arrays lie: channels-last ones as NHWC, without a copy."""

from __future__ import annotations

from typing import Any

from tvmconv.base.errors import Error, SpecError

try:
    import torch
except ModuleNotFoundError:
    raise Error("tvmconv.torch needs PyTorch: pip install 'tvmconv[torch]'") from None


def on_cpu(name: str, x: Any) -> None:
    """Raise SpecError for what is no tensor in CPU memory."""
    if not isinstance(x, torch.Tensor):
        raise SpecError(f"{name}: {type(x).__name__}, expected a torch.Tensor")
    if x.device.type != "cpu":
        raise SpecError(f"{name}: on {x.device}, expected a tensor in CPU memory")


def checked(name: str, x: Any) -> torch.Tensor:
    """A tensor that can be read; raises SpecError for others."""
    on_cpu(name, x)
    if x.requires_grad and torch.is_grad_enabled():
        raise SpecError(
            f"{name}: requires a gradient, which compiled code does not have; expected a call under "
            "torch.inference_mode() or torch.no_grad()"
        )
    return x.detach()


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether a batch of images or volumes lies channels-last, and not channels-first as well."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.dim() in formats and not x.is_contiguous() and x.is_contiguous(memory_format=formats[x.dim()])


def to_last(x: torch.Tensor) -> torch.Tensor:
    """(N, C, ...) seen as (N, ..., C)."""
    return x.movedim(1, -1)


def to_first(x: torch.Tensor) -> torch.Tensor:
    """(N, ..., C) seen as (N, C, ...)."""
    return x.movedim(-1, 1)
