"""Convolution as a matrix product in whole tiles: im2col's columns, which a schedule computes where a tile
needs them and never writes to memory. The padding of the last tile repeats the last pixel, or has weights 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, flat, join, split

if TYPE_CHECKING:
    from tvm import te


@dataclass(frozen=True)
class GemmPacking(Packing):
    """Weights in blocks of a tile's output channels; ``pixels``: of a tile."""

    pixels: int = 1


def sums(p: Problem, packing: GemmPacking, x: Any, w: te.Tensor) -> te.Tensor:
    """The convolution as stages ``columns`` and ``conv``: the latter shaped as ``flat(p)``'s y,
    but with pixels and channels in whole tiles.

    ``x``: a ``conv.Padded``; ``w``: packed for ``flat(p)``.
    """
    from tvm import te, tirx

    q, padded = flat(p), x.copy()
    pixels, channels = whole_tiles(p, packing)
    if p.channels_last:
        shape = (q.batch, pixels, q.groups, p.taps, q.in_group)
        out = (q.batch, pixels, q.groups, channels)
    else:
        shape = (q.batch, q.groups, p.taps, q.in_group, pixels)
        out = (q.batch, q.groups, channels, pixels)
    inside = prod(p.out_spatial)

    def column(*at):
        if p.channels_last:
            n, pixel, g, tap, i = at
        else:
            n, g, tap, i, pixel = at
        if pixels > inside:
            pixel = tirx.min(pixel, inside - 1)
        source = []
        for size, kernel, stride, dilation in reversed(
            list(zip(p.out_spatial, p.kernel, p.stride, p.dilation, strict=True))
        ):
            source.append(te.indexmod(pixel, size) * stride + te.indexmod(tap, kernel) * dilation)
            pixel, tap = te.indexdiv(pixel, size), te.indexdiv(tap, kernel)
        return padded(*join(p, n, g, i, reversed(source)))

    columns = te.compute(shape, column, name="columns")
    tap, i = te.reduce_axis((0, p.taps), name="k0"), te.reduce_axis((0, p.in_group), name="i")

    def value(*at):
        n, g, o, (pixel,) = split(q, at)
        read = columns(n, pixel, g, tap, i) if p.channels_last else columns(n, g, tap, i, pixel)
        return te.sum(read * w(*packing.index(q, g, o, (tap,), i)), axis=[tap, i])

    return te.compute(out, value, name="conv")


def whole_tiles(p: Problem, packing: GemmPacking) -> tuple[int, int]:
    """(pixels, output channels per group) with the last tile of each padded."""
    pixels = -(-prod(p.out_spatial) // packing.pixels) * packing.pixels
    return pixels, -(-p.out_group // packing.block) * packing.block


ALGORITHM = Sums("implicit_gemm", sums, GemmPacking, flat=True)
