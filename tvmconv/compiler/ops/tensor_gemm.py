"""Convolution as a matrix product for tensor cores: tiles of 16 rows by 8 columns, whose sums are laid out as
in the instruction, four in each of a warp's 32 threads.

With channels last, rows are pixels and columns output channels; with channels first, the other way round:
columns are what is contiguous in the result. The order of the columns of a warp's tile is chosen so that a
thread's own sums are neighbours, for a single store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, join, place_of, places

if TYPE_CHECKING:
    from tvm import te

    from tvmconv.schedules.dots import Dot

ROWS, COLUMNS = 16, 8  # of the instruction's result
HALF = 8  # rows: a thread has sums of two rows this far apart


@dataclass(frozen=True)
class TensorPacking(Packing):
    """Weights in pieces that a block of threads loads at a time: ``block`` output channels by ``depth`` input
    channels, or words of these, contiguous. ``pixels``: of a block's tile; ``columns``: of a warp's."""

    pixels: int = ROWS
    depth: int = 16
    columns: int = COLUMNS

    def dtype(self, p: Problem) -> str:
        """Factors stay as they are."""
        return p.dtype

    def shape(self, p: Problem) -> tuple[int, ...]:
        """[groups, blocks, taps, in_group / depth, block, depth]."""
        return (p.groups, -(-p.out_group // self.block), p.taps, p.in_group // self.depth, self.block,
                self.depth)  # fmt: skip

    def whole_tiles(self, p: Problem) -> tuple[int, int]:
        """(pixels, output channels per group) with the last tile of each padded."""
        pixels = -(-prod(p.out_spatial) // self.pixels) * self.pixels
        return pixels, -(-p.out_group // self.block) * self.block

    def sums_shape(self, p: Problem) -> tuple[int, ...]:
        """[batch, groups, row tiles, halves, rows of one, warps' columns, quads, tiles, neighbours]."""
        pixels, channels = self.whole_tiles(p)
        rows, across = (pixels, channels) if p.channels_last else (channels, pixels)
        tiles = (across // self.columns, 4, self.columns // COLUMNS, 2)
        return (p.batch, p.groups, rows // ROWS, 2, HALF, *tiles)

    def pixel_dims(self, p: Problem, of: Sequence) -> tuple:
        """Of that shape, or of an index of it, the dimensions that say which pixel."""
        return (*of[:2], *(of[2:5] if p.channels_last else of[5:]))

    def place(self, p: Problem, at: Sequence) -> tuple[tuple, list]:
        """(n, g, o, (pixel,)) of the sum at an index of that shape, and when there is such an output."""
        n, g, tile, half, row, warp, quad, t, pair = at
        down = tile * ROWS + half * HALF + row
        across = warp * self.columns + quad * (self.columns // 4) + t * 2 + pair
        pixel, o = (down, across) if p.channels_last else (across, down)
        ends = zip((pixel, o), self.whole_tiles(p), (prod(p.out_spatial), p.out_group), strict=True)
        return (n, g, o, (pixel,)), [index < end for index, tiles, end in ends if tiles > end]

    def packed(self, p: Problem, element: Callable[[Any, Sequence, Any], Any], dtype: str) -> te.Tensor:
        """See ``Packing``."""
        from tvm import te, tirx

        def value(g, block, tap, part, at, i):
            o = block * self.block + at
            o = _in_order(o, self.columns) if p.channels_last else o
            found = element(p.own_channel(g * p.out_group + o), places(p.kernel, tap), part * self.depth + i)
            if p.out_group % self.block == 0:
                return found
            return te.if_then_else(o < p.out_group, found, tirx.const(0, dtype))

        return te.compute(self.shape(p), value, name="packed")


def _in_order(position: Any, columns: int) -> Any:
    """The column of the result that is at ``position`` of a row of tiles, ``columns`` to a warp. A thread has
    two neighbours of each tile, and those of all tiles become neighbours."""
    tile, inside = position % columns // COLUMNS, position % COLUMNS
    return position // columns * columns + inside // 2 * (columns // 4) + tile * 2 + inside % 2


def products(
    p: Problem, packing: TensorPacking, source: Callable[..., Any], w: te.Tensor, dot: Dot | None = None
) -> te.Tensor:
    """The convolution as stages ``columns`` and ``conv``, the latter of ``packing.sums_shape(p)``.

    ``source``: a function of (n, g, i, padded place), an element of x, or a word of them if ``dot``
    multiplies those (i then counts words, and so does ``p.in_group``); ``w``: packed.
    """
    from tvm import te, tirx

    from tvmconv.compiler.lower.dots import dot_product

    pixels, _ = packing.whole_tiles(p)
    inside = prod(p.out_spatial)

    def column(n, g, position, tap, i):
        pixel = position if p.channels_last else _in_order(position, packing.columns)
        if pixels > inside:
            pixel = tirx.min(pixel, inside - 1)
        return source(n, g, i, place_of(p, places(p.out_spatial, pixel), places(p.kernel, tap)))

    columns = te.compute((p.batch, p.groups, pixels, p.taps, p.in_group), column, name="columns")
    tap = te.reduce_axis((0, p.taps), name="tap")
    part = te.reduce_axis((0, p.in_group // packing.depth), name="part")
    i = te.reduce_axis((0, packing.depth), name="i")

    def product(x, weight):
        rows, across = (x, weight) if p.channels_last else (weight, x)
        if dot is None:
            return rows.astype(p.acc_dtype) * across.astype(p.acc_dtype)
        return dot_product(dot if p.channels_last else dot.mirrored, rows, across)

    def value(n, g, tile, half, row, warp, quad, t, pair):
        down = tile * ROWS + half * HALF + row
        at = warp * packing.columns + t * COLUMNS + quad * 2 + pair
        pixel, o = (down, at) if p.channels_last else (at, down)
        x = columns(n, g, pixel, tap, part * packing.depth + i)
        weight = w(g, te.indexdiv(o, packing.block), tap, part, te.indexmod(o, packing.block), i)
        return te.sum(product(x, weight), axis=[tap, part, i])

    return te.compute(packing.sums_shape(p), value, name="conv")


def sums(p: Problem, packing: TensorPacking, x: Any, w: te.Tensor) -> te.Tensor:
    """``products`` of floats; ``x``: a ``conv.Padded``."""
    padded = x.copy()
    return products(p, packing, lambda n, g, i, at: padded(*join(p, n, g, i, at)), w)


ALGORITHM = Sums(
    "tensor_gemm", sums, TensorPacking, flat=True, shape=lambda p, packing: packing.sums_shape(p),
    place=lambda p, packing, at: packing.place(p, at),
)  # fmt: skip
