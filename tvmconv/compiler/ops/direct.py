"""The convolution as defined: a sum over taps and input channels for each output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, join, place_of, split

if TYPE_CHECKING:
    from tvm import te


def sums(p: Problem, packing: Packing, x: Any, w: te.Tensor) -> te.Tensor:
    """The stage ``conv``, shaped as ``p``'s y; ``x``: a ``conv.Padded``."""
    from tvm import te

    from tvmconv.compiler.ops.conv import live_axes

    padded = x.copy()
    axes, taps = live_axes(p)
    i = te.reduce_axis((0, p.in_group), name="i")

    def value(*at):
        n, g, o, spatial = split(p, at)
        weight = w(*packing.index(p, g, o, tuple(taps), i))
        return te.sum(padded(*join(p, n, g, i, place_of(p, spatial, taps))) * weight, axis=[*axes, i])

    return te.compute(p.y_shape, value, name="conv")


ALGORITHM = Sums("direct", sums)
