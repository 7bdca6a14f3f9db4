"""conv and conv_transpose as operators of PyTorch: torch.compile traces through them, autograd goes through
PyTorch's own backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvmconv.base.errors import SpecError
from tvmconv.base.messages import shown
from tvmconv.frontends.api import function, spec_of
from tvmconv.specs.checks import read_integer, read_per_dim
from tvmconv.specs.padding import pads_of, transposed_pads_of
from tvmconv.specs.window import Ints, Padding
from tvmconv.torch.tensors import is_channels_last, on_cpu, to_first, to_last, torch

Tensor = torch.Tensor

_SCHEMA = (
    "(Tensor x, Tensor w, Tensor? bias, SymInt[] stride, SymInt[] padding, SymInt[] dilation, "
    "SymInt[] output_padding, SymInt groups, bool transposed, str target) -> Tensor"
)  # padding: low and high of each dim


def conv(
    x: Tensor, w: Tensor, bias: Tensor | None = None, *, stride: Ints = 1, padding: Padding = 0,
    dilation: Ints = 1, groups: int = 1, target: str = "native",
) -> Tensor:  # fmt: skip
    """The convolution of ``x`` (N, C, *spatial) with ``w`` (out, in/groups, *kernel), as ``tvmconv.conv``.

    An operator of PyTorch: `torch.compile` keeps it in its graph, and gradients are computed by PyTorch's own
    backward. Channels-last images give channels-last results, without a copy of either. The kernel is
    compiled on the first call with these shapes, then cached. ``bias``: (out,). ``padding``: "SAME", "VALID",
    "FULL", an integer, one per spatial dim, or (low, high) per spatial dim. Raises SpecError for arguments
    that do not fit, TargetError where the kernel is neither cached nor can be compiled.
    """
    _check(x, w, bias, target)
    rank = x.dim() - 2
    steps, spread = (read_per_dim(name, value, rank, 1)
                     for name, value in (("stride", stride), ("dilation", dilation)))  # fmt: skip
    pads = pads_of(padding, x.shape[2:], steps, _extents(w, spread))
    return _call(x, w, bias, steps, pads, spread, (0,) * rank, groups, False, target)


def conv_transpose(
    x: Tensor, w: Tensor, bias: Tensor | None = None, *, stride: Ints = 1, padding: Padding = 0,
    output_padding: Ints = 0, dilation: Ints = 1, groups: int = 1, target: str = "native",
) -> Tensor:  # fmt: skip
    """The transposed convolution of ``x`` (N, C, *spatial) with ``w`` (in, out/groups, *kernel), as
    ``tvmconv.conv_transpose``; the rest as for `conv`."""
    _check(x, w, bias, target)
    rank = x.dim() - 2
    steps, spread = (read_per_dim(name, value, rank, 1)
                     for name, value in (("stride", stride), ("dilation", dilation)))  # fmt: skip
    extra = read_per_dim("output_padding", output_padding, rank, 0)
    pads, extra = transposed_pads_of(padding, extra, steps, _extents(w, spread))
    return _call(x, w, bias, steps, pads, spread, extra, groups, True, target)


def _call(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Sequence[int], pads: Sequence[tuple[int, int]],
    dilation: Sequence[int], output_padding: Sequence[int], groups: Any, transposed: bool, target: str,
) -> Tensor:  # fmt: skip
    flat = [side for pair in pads for side in pair]
    groups = read_integer("groups", groups, 1)
    return _convolution(
        x, w, bias, list(stride), flat, list(dilation), list(output_padding), groups, transposed, target
    )


@torch.library.custom_op("tvmconv::convolution", mutates_args=(), schema=_SCHEMA)
def _convolution(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], output_padding: Sequence[int], groups: int, transposed: bool, target: str,
) -> Tensor:  # fmt: skip
    x, w, bias = x.detach(), w.detach(), None if bias is None else bias.detach()
    last = is_channels_last(x)
    if last:
        order = (*range(2, w.dim()), 0, 1) if transposed else (*range(2, w.dim()), 1, 0)
        x, w = to_last(x), w.permute(order)
    spec = _spec(x, w, bias, stride, padding, dilation, output_padding, groups, transposed, last)
    y: Tensor = function(spec, target)(x.contiguous(), w.contiguous(), bias)
    return to_first(y) if last else y


@_convolution.register_fake
def _(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], output_padding: Sequence[int], groups: int, transposed: bool, target: str,
) -> Tensor:  # fmt: skip
    sizes = [*x.shape, *w.shape, *stride, *padding, *dilation, *output_padding, groups]
    if all(type(size) is int for size in sizes):  # else they are symbols, of which no kernel is asked yet
        _spec(x, w, bias, stride, padding, dilation, output_padding, groups, transposed, False)
    return empty_result(x, w, stride, padding, dilation, output_padding, groups, transposed)


def empty_result(
    x: Tensor, w: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    output_padding: Sequence[int], groups: int, transposed: bool,
) -> Tensor:  # fmt: skip
    """What a convolution gives, without its numbers; sizes may be symbols. padding: low and high by dim."""
    out = []
    for size, k, s, d, lo, hi, extra in zip(
        x.shape[2:], w.shape[2:], stride, dilation, padding[::2], padding[1::2], output_padding, strict=True
    ):
        if transposed:
            out.append((size - 1) * s - lo - hi + d * (k - 1) + extra + 1)
        else:
            out.append((size + lo + hi - d * (k - 1) - 1) // s + 1)
    y = x.new_empty((x.shape[0], w.shape[1] * groups if transposed else w.shape[0], *out))
    return to_first(to_last(y).contiguous()) if is_channels_last(x) else y


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w, _, *ctx.options, _ = inputs
    ctx.save_for_backward(x, w)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    """PyTorch's own, on x that is padded, or on a result that is not cropped yet, where the two sides
    differ."""
    x, w = ctx.saved_tensors
    stride, flat, dilation, output_padding, groups, transposed = ctx.options
    needs = ctx.needs_input_grad
    bias = grad.sum((0, *range(2, grad.dim()))) if needs[2] else None
    lows, highs, sizes = flat[::2], flat[1::2], x.shape[2:]
    pads = list(lows)
    uneven = list(lows) != list(highs)
    if uneven:
        pads = [0] * len(lows)
        if transposed:
            whole = [
                (size - 1) * s + d * (k - 1) + 1
                for size, s, d, k in zip(sizes, stride, dilation, w.shape[2:], strict=True)
            ]
            rest = [full - lo - got for full, lo, got in zip(whole, lows, grad.shape[2:], strict=True)]
            grad, output_padding = _padded(grad, lows, rest), [0] * len(lows)
        else:
            x = _padded(x, lows, highs)
    gx, gw, _ = torch.ops.aten.convolution_backward(
        grad, x, w, None, stride, pads, dilation, transposed, output_padding, groups,
        [needs[0], needs[1], False],
    )  # fmt: skip
    if uneven and not transposed and gx is not None:
        for dim, (lo, size) in enumerate(zip(lows, sizes, strict=True), 2):
            gx = gx.narrow(dim, lo, size)
    return gx, gw, bias, *[None] * 7


_convolution.register_autograd(_backward, setup_context=_keep)


def _padded(x: Tensor, lows: Sequence[int], highs: Sequence[int]) -> Tensor:
    """Zeros around the spatial dims; cropped where a number is below 0."""
    pads = [side for pair in reversed(list(zip(lows, highs, strict=True))) for side in pair]
    return torch.nn.functional.pad(x, pads)


def _spec(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], output_padding: Sequence[int], groups: int, transposed: bool, last: bool,
) -> Any:  # fmt: skip
    options: dict[str, Any] = {"output_padding": tuple(output_padding)} if transposed else {}
    return spec_of(
        x, w, bias, stride=tuple(stride), dilation=tuple(dilation), groups=groups, transposed=transposed,
        padding=tuple(zip(padding[::2], padding[1::2], strict=True)), layout="NHWC" if last else "NCHW",
        **options,
    )  # fmt: skip


def _extents(w: Tensor, dilation: Sequence[int]) -> list[int]:
    return [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True)]


def _check(x: Any, w: Any, bias: Any, target: Any) -> None:
    """Raise SpecError for what is no such tensor, and what is no name of a target."""
    for name, tensor in (("x", x), ("w", w), ("bias", bias)):
        if tensor is None and name == "bias":
            continue
        on_cpu(name, tensor)
        if tensor.dtype != x.dtype:
            raise SpecError(f"{name}: {tensor.dtype}, expected {x.dtype} as x has")
    if not x.dtype.is_floating_point:
        raise SpecError(f"x: {x.dtype}, expected a floating-point type; integers are for tvmconv.conv")
    if not 3 <= x.dim() <= 5:
        raise SpecError(f"x: shape {tuple(x.shape)}, expected 3 to 5 dims")
    if w.dim() != x.dim():
        raise SpecError(f"w: shape {tuple(w.shape)}, expected {x.dim()} dims as x has")
    if not isinstance(target, str):
        raise SpecError(f"target: {shown(target)}, expected a name, as 'tvmconv targets' lists them")
