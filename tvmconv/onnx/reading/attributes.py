"""The meaning of a convolution node's attributes: from a node and its arrays' shapes to a ConvSpec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import SpecError
from tvmconv.onnx.reading.graph import attributes, node_name
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
    x, w = tuple(x_shape), tuple(w_shape)
    try:
        found, kernel = window(node, x, w)
        rank = len(kernel)
        strides, dilations = per_dim(found, "strides", rank), per_dim(found, "dilations", rank)
        group = found.get("group", 1)
        if w[1] * group != x[1]:
            raise SpecError(f"w: shape {w} with group {group}, expected {x[1]} input channels as x {x} has")
        pads = padding(found, x[2:], kernel, strides, dilations)
        return ConvSpec(
            shape_in(layout, x), w[0], kernel, stride=strides, padding=pads, dilation=dilations, groups=group,
            layout=layout, **options,
        )  # fmt: skip
    except SpecError as error:
        raise SpecError(f"node {node_name(node)}: {error}") from None


def window(node: NodeProto, x: tuple[int, ...], w: tuple[int, ...]) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(attributes, kernel) of a node whose weights of shape ``w`` end with the kernel. Raises SpecError."""
    if not 3 <= len(x) <= 5:
        raise SpecError(f"x: shape {x}, expected 3 to 5 dims (1 to 3 of them spatial)")
    if len(w) != len(x):
        raise SpecError(f"w: shape {w}, expected {len(x)} dims as x {x} has")
    found = attributes(node)
    stated = found.get("kernel_shape")
    if stated is not None and tuple(stated) != w[2:]:
        raise SpecError(f"kernel_shape: {tuple(stated)}, expected {w[2:]} as the weights {w} have")
    return found, w[2:]


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
