"""The meaning of a ConvTranspose node's attributes: from a node and its arrays' shapes to a ConvSpec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import SpecError
from tvmconv.onnx.reading.attributes import AUTO_PADS, Pairs, Window, shape_in, window
from tvmconv.onnx.reading.graph import told_of
from tvmconv.specs.conv import ConvSpec

if TYPE_CHECKING:
    from onnx import NodeProto


def transposed_spec(
    node: NodeProto,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    *,
    layout: str = "NCHW",
    **options: Any,
) -> ConvSpec:
    """The spec of a ConvTranspose node.

    ``x_shape`` (N, C, *spatial) and ``w_shape`` (C, O/group, *kernel) are ONNX's; ``layout`` is that of the
    spec. ``options`` are ConvSpec's, of what the node does not say. Raises SpecError, which names the node.
    """
    with told_of(node):
        at = window(node, x_shape, w_shape)
        x, w = at.x, at.w
        if w[0] != x[1]:
            raise SpecError(f"w: shape {w}, expected {x[1]} input channels as x {x} has")
        pads, extra = _cropped(at)
        return ConvSpec(
            shape_in(layout, x), w[1] * at.group, at.kernel, stride=at.strides, padding=pads,
            output_padding=extra, dilation=at.dilations, groups=at.group, layout=layout, transposed=True,
            **options,
        )  # fmt: skip


def _cropped(at: Window) -> tuple[Pairs, tuple[int, ...]]:
    """((low, high) crops, output padding) a spatial dim.

    A wanted size, by ``output_shape`` or SAME (input times stride), sets the crops, and the odd element goes
    to the end with SAME_UPPER, to the beginning otherwise. What is short of it becomes output padding, as in
    onnxruntime. Else the crops are ``pads``.
    """
    found, sizes, rank = at.attributes, at.x[2:], len(at.kernel)
    extra = tuple(found.get("output_padding", (0,) * rank))
    if len(extra) != rank:
        raise SpecError(f"output_padding: {extra}, expected {rank}: one for each spatial dim")
    auto = found.get("auto_pad", "NOTSET")
    wanted = found.get("output_shape")
    if wanted is not None and len(wanted) not in (rank, rank + 2):
        raise SpecError(f"output_shape: {tuple(wanted)}, expected {rank}: one for each spatial dim")
    if wanted is None and auto in AUTO_PADS and not auto.startswith("SAME"):
        return at.padding(), extra
    if auto not in AUTO_PADS:
        raise SpecError(f"auto_pad: {auto!r}, expected one of {', '.join(AUTO_PADS)}")
    if wanted is None:
        wanted = [size * stride for size, stride in zip(sizes, at.strides, strict=True)]
    pairs, grown = [], []
    dims = zip(sizes, at.kernel, at.strides, at.dilations, extra, wanted[-rank:], strict=True)
    for size, taps, stride, dilation, more, target in dims:
        full = (size - 1) * stride + dilation * (taps - 1) + 1
        most = full + max(stride, dilation) - 1
        if not 1 <= target <= most:
            raise SpecError(f"output_shape: {tuple(wanted)}, expected 1 to {most} where it is {target}")
        over = full + more - target
        crop = max(over, 0)
        small, large = crop // 2, crop - crop // 2
        pairs.append((small, large) if auto == "SAME_UPPER" else (large, small))
        grown.append(more + max(-over, 0))
    return tuple(pairs), tuple(grown)
