"""The convolution of channels-first arrays with its sums channels-last: vectors of output channels, which the
last stage transposes into planes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, join, place_of, split

if TYPE_CHECKING:
    from tvm import te


def sums(p: Problem, packing: Packing, x: Any, w: te.Tensor):
    """The stage ``conv``, ``(batch, *out_spatial, groups, out_group)``; as a function of an index into the
    channels-first result. ``x``: a ``conv.Padded``."""
    from tvm import te

    q, padded = replace(p, channels_last=True), x.copy()
    live = [p.live_taps(d) for d in range(len(p.kernel))]
    axes = [te.reduce_axis((0, len(taps)), name=f"k{d}") for d, taps in enumerate(live)]
    taps = [axis + first.start if first.start else axis for axis, first in zip(axes, live, strict=True)]
    i = te.reduce_axis((0, p.in_group), name="i")

    def value(*at):
        n, g, o, spatial = split(q, at)
        weight = w(*packing.index(p, g, o, tuple(taps), i))
        return te.sum(padded(*join(p, n, g, i, place_of(p, spatial, taps))) * weight, axis=[*axes, i])

    conv = te.compute(q.y_shape, value, name="conv")

    def read(*at):
        return conv(*join(q, *split(p, at)))

    return read


ALGORITHM = Sums("crossed", sums)
