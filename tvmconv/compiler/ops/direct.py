"""The convolution as defined: a sum over taps and input channels for each output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, join, split

if TYPE_CHECKING:
    from tvm import te


def sums(p: Problem, packing: Packing, x: Any, w: te.Tensor) -> te.Tensor:
    """The stage ``conv``, shaped as ``p``'s y; ``x``: a ``conv.Padded``."""
    from tvm import te

    padded = x.copy()
    live = [p.live_taps(d) for d in range(len(p.kernel))]
    axes = [te.reduce_axis((0, len(taps)), name=f"k{d}") for d, taps in enumerate(live)]
    taps = [axis + first.start if first.start else axis for axis, first in zip(axes, live, strict=True)]
    i = te.reduce_axis((0, p.in_group), name="i")

    def value(*at):
        n, g, o, spatial = split(p, at)
        dims = zip(spatial, p.stride, taps, p.dilation, strict=True)
        source = [s * stride + k * dilation for s, stride, k, dilation in dims]
        weight = w(*packing.index(p, g, o, tuple(taps), i))
        return te.sum(padded(*join(p, n, g, i, source)) * weight, axis=[*axes, i])

    return te.compute(p.y_shape, value, name="conv")


ALGORITHM = Sums("direct", sums)
