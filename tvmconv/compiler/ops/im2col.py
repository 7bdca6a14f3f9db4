"""im2col: the inputs of each output, copied contiguously, so that the convolution is a matrix product.

The copy costs memory traffic; it pays where rows are too short for vectors along them.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, flat, join, split

if TYPE_CHECKING:
    from tvm import te


def sums(p: Problem, packing: Packing, x: Any, w: te.Tensor) -> te.Tensor:
    """The convolution as stages ``columns`` and ``conv``, the latter shaped as ``flat(p)``'s y.

    ``x``: a ``conv.Padded``; ``w``: packed for ``flat(p)``. Columns leave out taps that see only padding.
    """
    from tvm import te

    q, padded = flat(p), x.copy()
    live = [p.live_taps(d) for d in range(len(p.kernel))]
    count = prod(map(len, live))
    inner = (count, p.in_group) if p.channels_last else (count, q.spatial[0])

    def taps_of(number) -> list:
        """The tap along each dimension, for a live tap given by its number."""
        taps = []
        for there in reversed(live):
            taps.append(te.indexmod(number, len(there)) + there.start)
            number = te.indexdiv(number, len(there))
        return taps[::-1]

    def column(*at):
        if p.channels_last:
            n, pixel, g, tap, i = at
        else:
            n, g, i, tap, pixel = at
        places = []
        for size in reversed(p.out_spatial):
            places.append(te.indexmod(pixel, size))
            pixel = te.indexdiv(pixel, size)
        dims = zip(reversed(places), p.stride, taps_of(tap), p.dilation, strict=True)
        return padded(*join(p, n, g, i, [place * s + k * d for place, s, k, d in dims]))

    columns = te.compute((*q.x_shape()[:-1], *inner), column, name="columns")
    tap, i = te.reduce_axis((0, count), name="k0"), te.reduce_axis((0, p.in_group), name="i")

    def value(*at):
        n, g, o, (pixel,) = split(q, at)
        read = columns(n, pixel, g, tap, i) if p.channels_last else columns(n, g, i, tap, pixel)
        whole = 0
        for k, size in zip(taps_of(tap), p.kernel, strict=True):
            whole = whole * size + k
        return te.sum(read * w(*packing.index(q, g, o, (whole,), i)), axis=[tap, i])

    return te.compute(q.y_shape, value, name="conv")


ALGORITHM = Sums("im2col", sums, flat=True)
