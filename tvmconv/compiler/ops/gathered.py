"""Pointwise convolution of channels-first arrays over x in tiles of pixels (stage ``columns``), each tile's
contiguous: the order in which register tiles read it, where the planes of x are far apart.

Sums are made by vectors of output channels, which the last stage transposes into planes, or of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, flat, place_of, places

if TYPE_CHECKING:
    from tvm import te, tirx


@dataclass(frozen=True)
class GatheredPacking(Packing):
    """Weights as in ``Packing``; the pixels of a tile, and whether vectors go along them."""

    width: int = 1
    along_pixels: bool = False

    def tiles(self, p: Problem) -> int:
        """The number of tiles of pixels; the last one may be partial."""
        return -(-prod(p.out_spatial) // self.width)


def y_shape(p: Problem, packing: GatheredPacking) -> tuple[int, ...]:
    """Of the result as it is computed: batch, groups, channels, tiles, pixels of a tile."""
    return (p.batch, p.groups, p.out_group, packing.tiles(p), packing.width)


def place(p: Problem, packing: GatheredPacking, at: Sequence[tirx.Expr]) -> tuple[tuple, list[tirx.Expr]]:
    """(n, g, o, (pixel,)) of an element of ``y_shape``, and when there is such an output."""
    n, g, o, tile, pixel = at
    found, pixels = tile * packing.width + pixel, prod(p.out_spatial)
    return (n, g, o, (found,)), [found < pixels] if pixels % packing.width else []


def sums(p: Problem, packing: GatheredPacking, x: Any, w: te.Tensor) -> Any:
    """The convolution as stages ``columns`` and ``conv``, as a function of an index into ``y_shape``.

    ``x``: a ``conv.Padded``; ``w``: packed for ``flat(p)``."""
    from tvm import te

    q, tiles, pixels, taps = flat(p), packing.tiles(p), prod(p.out_spatial), [0] * len(p.kernel)

    def sample(n, g, i, *spatial):
        return x(n, g, i, place_of(p, spatial, taps))

    dense = (p.batch, p.groups, p.in_group, *p.out_spatial)
    planes = te.compute(dense, sample, name="planes") if max(p.stride) > 1 else sample

    def column(n, g, tile, i, at):
        pixel = tile * packing.width + at
        found = planes(n, g, i, *places(p.out_spatial, pixel))
        return te.if_then_else(pixel < pixels, found, 0.0) if pixels % packing.width else found

    columns = te.compute((p.batch, p.groups, tiles, p.in_group, packing.width), column, name="columns")
    i = te.reduce_axis((0, p.in_group), name="i")

    def value(n, g, tile, at, o):
        return te.sum(columns(n, g, tile, i, at) * w(*packing.index(q, g, o, (0,), i)), axis=i)

    if packing.along_pixels:
        def of_channel(n, g, tile, o, at):
            return value(n, g, tile, at, o)

        conv = te.compute((p.batch, p.groups, tiles, p.out_group, packing.width), of_channel, name="conv")
        return lambda n, g, o, tile, at: conv(n, g, tile, o, at)
    conv = te.compute((p.batch, p.groups, tiles, packing.width, p.out_group), value, name="conv")
    return lambda n, g, o, tile, at: conv(n, g, tile, at, o)


ALGORITHM = Sums("gathered", sums, GatheredPacking, flat=True, shape=y_shape, place=place)
