"""The meaning of a convolution node's attributes: from a node and its arrays' shapes to a ConvSpec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tvmconv.base.errors import SpecError
from tvmconv.onnx.reading.graph import attributes, told_of
from tvmconv.specs.conv import ConvSpec

if TYPE_CHECKING:
    from onnx import NodeProto

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")

QLINEAR_INPUTS = (
    "x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point", "bias",
)  # fmt: skip
INTEGER_INPUTS = ("x", "w", "x_zero_point", "w_zero_point")

Pairs = tuple[tuple[int, int], ...]


def conv_spec(
    node: NodeProto,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    *,
    layout: str = "NCHW",
    **options: Any,
) -> ConvSpec:
    """The spec of a Conv node.

    ``x_shape`` (N, C, *spatial) and ``w_shape`` (O, C/group, *kernel) are ONNX's; ``layout`` is that of the
    spec. ``options`` are ConvSpec's, of what the node does not say. Raises SpecError, which names the node.
    """
    with told_of(node):
        at = window(node, x_shape, w_shape)
        x, w = at.x, at.w
        if w[1] * at.group != x[1]:
            raise SpecError(
                f"w: shape {w} with group {at.group}, expected {x[1]} input channels as x {x} has"
            )
        return ConvSpec(
            shape_in(layout, x), w[0], at.kernel, stride=at.strides, padding=at.padding(),
            dilation=at.dilations, groups=at.group, layout=layout, **options,
        )  # fmt: skip


class Window(NamedTuple):
    """What a node says of the windows over an image. ``x``, ``w``: the shapes of its arrays."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    attributes: dict[str, Any]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    group: int

    def padding(self) -> Pairs:
        """As `padding`."""
        return padding(self.attributes, self.x[2:], self.kernel, self.strides, self.dilations)


def window(node: NodeProto, x_shape: Sequence[int], w_shape: Sequence[int]) -> Window:
    """The windows of a node whose weights' shape ends with the kernel. Raises SpecError."""
    x, w = tuple(x_shape), tuple(w_shape)
    if not 3 <= len(x) <= 5:
        raise SpecError(f"x: shape {x}, expected 3 to 5 dims (1 to 3 of them spatial)")
    if len(w) != len(x):
        raise SpecError(f"w: shape {w}, expected {len(x)} dims as x {x} has")
    found, kernel = attributes(node), w[2:]
    stated = found.get("kernel_shape")
    if stated is not None and tuple(stated) != kernel:
        raise SpecError(f"kernel_shape: {tuple(stated)}, expected {kernel} as the weights {w} have")
    strides, dilations = (per_dim(found, name, len(kernel)) for name in ("strides", "dilations"))
    return Window(x, w, found, kernel, strides, dilations, found.get("group", 1))


def padding(
    found: dict[str, Any], sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int],
    dilations: Sequence[int],
) -> Pairs:  # fmt: skip
    """(low, high) zeros a spatial dim from ``auto_pad`` and ``pads``, for windows over ``sizes``.

    SAME gives ceil(size / stride) results; the odd element goes to the end (SAME_UPPER) or to the beginning
    (SAME_LOWER). ``pads`` counts only with NOTSET, as in onnxruntime.
    """
    auto = found.get("auto_pad", "NOTSET")
    if auto not in AUTO_PADS:
        raise SpecError(f"auto_pad: {auto!r}, expected one of {', '.join(AUTO_PADS)}")
    rank = len(sizes)
    if auto == "VALID":
        return ((0, 0),) * rank
    if auto == "NOTSET":
        pads = list(found.get("pads", [0] * 2 * rank))
        if len(pads) != 2 * rank:
            raise SpecError(f"pads: {pads}, expected {2 * rank}: a begin for each spatial dim, then the ends")
        return tuple(zip(pads[:rank], pads[rank:], strict=True))
    pairs = []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        results = -(-size // stride)
        total = max((results - 1) * stride + dilation * (taps - 1) + 1 - size, 0)
        small, large = total // 2, total - total // 2
        pairs.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return tuple(pairs)


def per_dim(found: dict[str, Any], name: str, rank: int) -> tuple[int, ...]:
    values = tuple(found.get(name, (1,) * rank))
    if len(values) != rank or min(values) < 1:
        raise SpecError(f"{name}: {values}, expected {rank} positive integers")
    return values


def shape_in(layout: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in ``layout`` of an array that is channels-first."""
    return (shape[0], *shape[2:], shape[1]) if layout == "NHWC" else tuple(shape)
