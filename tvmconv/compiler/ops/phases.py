"""The convolution as defined, over a copy of x with the elements of a row sorted by their place within the
stride: the elements that a tap reads for neighbouring outputs are then neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.copies import SortedRows
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, place_of, reach_of, split

if TYPE_CHECKING:
    from tvm import te


def reach(p: Problem, packing: Packing) -> tuple[int, ...]:
    """Positions of each padded dimension that are copied: of the last one, whole strides."""
    *outer, last = (reach_of(p, d) for d in range(len(p.spatial)))
    return (*outer, -(-last // p.stride[-1]) * p.stride[-1])


def sums(p: Problem, packing: Packing, x: Any, w: te.Tensor) -> te.Tensor:
    """The stages ``pad``, as ``SortedRows`` lie, and ``conv``, shaped as ``p``'s y; ``x``: a
    ``conv.Padded``."""
    from tvm import te

    from tvmconv.compiler.ops.conv import live_axes

    rows = SortedRows(p, x.reach)
    axes, taps = live_axes(p)
    i = te.reduce_axis((0, p.in_group), name="i")

    pad = te.compute(rows.shape, lambda *at: x(*rows.parts(at)), name="pad")

    def value(*at):
        n, g, o, spatial = split(p, at)
        weight = w(*packing.index(p, g, o, tuple(taps), i))
        return te.sum(pad(*rows.index(n, g, i, place_of(p, spatial, taps))) * weight, axis=[*axes, i])

    return te.compute(p.y_shape, value, name="conv")


ALGORITHM = Sums("phases", sums, reach=reach, copy=SortedRows)
