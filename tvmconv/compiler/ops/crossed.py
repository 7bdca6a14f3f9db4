"""The convolution of channels-first arrays with its sums channels-last: vectors of output channels, which the
last stage transposes into planes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, join, place_of, split

if TYPE_CHECKING:
    from tvm import te, tirx


def sums(p: Problem, packing: Packing, x: Any, w: te.Tensor) -> Any:
    """The stage ``conv``, ``(batch, *out_spatial, groups, out_group)``; as a function of an index into the
    channels-first result. ``x``: a ``conv.Padded``."""
    padded = x.copy()

    def read(n, g, i, pixel, taps):
        return padded(*join(p, n, g, i, place_of(p, pixel, taps)))

    return sums_of(p, packing, read, w)


def sums_of(p: Problem, packing: Packing, read: Callable[..., tirx.Expr], w: te.Tensor) -> Any:
    """See ``sums``; ``read``: x as a function of (n, g, i, place in the output, taps)."""
    from tvm import te

    from tvmconv.compiler.ops.conv import live_axes

    q = replace(p, channels_last=True)
    axes, taps = live_axes(p)
    i = te.reduce_axis((0, p.in_group), name="i")

    def value(*at):
        n, g, o, spatial = split(q, at)
        weight = w(*packing.index(p, g, o, tuple(taps), i))
        return te.sum(read(n, g, i, spatial, taps) * weight, axis=[*axes, i])

    conv = te.compute(q.y_shape, value, name="conv")

    return lambda *at: conv(*join(q, *split(p, at)))


ALGORITHM = Sums("crossed", sums)
