"""Winograd's algorithm for small kernels: fewer multiplications than the definition has, by tiles of y.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015): each tile of the output comes from
a patch d of x as A^T [(G g G^T) * (B^T d B)] A, the product summed over input channels. F(2x2, 3x3) takes 16
multiplications where the definition has 36, F(4x4, 3x3) 36 where it has 144.

With a dilation d, rows that are d apart form an image of their own, and so do columns: there are d of them
in a dimension, each with its tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem
from tvmconv.compiler.ops.toom_cook import Transform, most_outputs, transform
from tvmconv.specs.checks import suits_winograd

if TYPE_CHECKING:
    from tvm import te, tirx


def fits(p: Problem) -> bool:
    """Whether ``p`` is a convolution that this algorithm computes."""
    return suits_winograd(p.kernel, p.stride, p.dilation) and p.dtype == "float32"


def sides(taps: int, stride: int) -> tuple[int, ...]:
    """How many outputs a tile may have in a dimension."""
    return tuple(m for m in ((2, 4), (2, 3))[stride == 2] if m <= most_outputs(taps, stride))


@dataclass(frozen=True)
class WinogradPacking:
    """Transformed weights: ``[groups / together, ceil(out_group / block), products down, products across,
    in_group, block * together]``, in the order in which they are used.

    tile: rows and columns of the output that come from one patch. together: so many groups side by side, of
    which the weights for one output channel follow each other.
    """

    block: int
    tile: tuple[int, int] = (2, 2)
    together: int = 1

    def transforms(self, p: Problem) -> tuple[Transform, Transform]:
        """Of rows and of columns."""
        down, across = (transform(m, k, s) for m, k, s in zip(self.tile, p.kernel, p.stride, strict=True))
        return down, across

    def tiles(self, p: Problem) -> tuple[int, int]:
        """How many tiles cover each dimension of one of the images; the last one may hang over."""
        height, width = (
            -(-size // (m * d)) for size, m, d in zip(p.out_spatial, self.tile, p.dilation, strict=True)
        )
        return height, width

    def dtype(self, p: Problem) -> str:
        """See ``Packing``."""
        return p.acc_dtype

    def shape(self, p: Problem) -> tuple[int, ...]:
        rows, blocks, _, _, i, block = Packing(self.block).shape(p)
        down, across = self.transforms(p)
        return (rows // self.together, blocks, down.products, across.products, i, block * self.together)

    def pack(self, p: Problem, w: te.Tensor) -> te.Tensor:
        """The packed weights from ``w``, the user's OIHW or HWIO array, as stages ``packed`` (as in
        ``Packing``), ``columns``, ``transformed``."""
        from tvm import te

        plain, together = Packing(self.block).pack(p, w), self.together
        down, across = self.transforms(p)

        def column(at, block, a, c, i, lane):
            g, o = at * together + te.indexmod(lane, together), te.indexdiv(lane, together)
            return down.of_weight(a, lambda r: plain(g, block, r, c, i, o))

        shape = self.shape(p)
        columns = te.compute((*shape[:3], p.kernel[1], *shape[4:]), column, name="columns")

        def value(at, block, a, b, *rest):
            return across.of_weight(b, lambda c: columns(at, block, a, c, *rest))

        return te.compute(shape, value, name="transformed")

    def pack_array(self, p: Problem, w: np.ndarray) -> np.ndarray:
        """What ``pack`` computes, in NumPy."""
        down, across = (np.asarray(t.weight, w.dtype) for t in self.transforms(p))
        plain = Packing(self.block).pack_array(p, w)
        found = np.einsum("ar,gkrcil,bc->gkabil", down, plain, across)
        found = found.reshape(-1, self.together, *found.shape[1:])
        return np.ascontiguousarray(np.moveaxis(found, 1, -1)).reshape(self.shape(p))


def sums(p: Problem, packing: WinogradPacking, x: Any, w: te.Tensor) -> te.Tensor:
    """The convolution as stages ``pad``, ``rows``, ``patches``, ``products``, ``folded``, ``conv``; the last
    of ``y_shape``.

    ``x``: a ``conv.Padded``, as far as ``patch_reach``. The stages have a dimension of
    images before each dimension of places or tiles. In between, ``together`` groups are side by side.
    """
    from tvm import te

    n, (height, width), (down, across) = p.batch, packing.tiles(p), p.dilation
    of_rows, of_columns = packing.transforms(p)
    together, tall = packing.together, packing.tile[0]
    many, channels = p.groups // together, together * p.in_group

    def inside(n, py, h, px, w, at, c):
        g, i = at * together + te.indexdiv(c, p.in_group), te.indexmod(c, p.in_group)
        return x(n, g, i, (h * down + py, w * across + px))

    h, w_ = of_rows.reach(height), of_columns.reach(width)
    pad = te.compute((n, down, h, across, w_, many, channels), inside, name="pad")

    def row(a, n, py, th, px, w, at, c):
        return of_rows.of_input(a, lambda r: pad(n, py, th * of_rows.step + r, px, w, at, c))

    rows = te.compute((of_rows.products, n, down, height, across, w_, many, channels), row, name="rows")

    def patch(a, b, n, py, th, px, tw, at, i, t):
        left, c = tw * of_columns.step, t * p.in_group + i
        return of_columns.of_input(b, lambda r: rows(a, n, py, th, px, left + r, at, c))

    places = (n, down, height, across, width, many)
    products_shape = (of_rows.products, of_columns.products, *places)
    patches = te.compute((*products_shape, p.in_group, together), patch, name="patches")
    i = te.reduce_axis((0, p.in_group), name="i")

    def product(a, b, *at):
        *place, g, o, t = at
        block, lane = te.indexdiv(o, packing.block), te.indexmod(o, packing.block)
        return te.sum(patches(a, b, *place, g, i, t) * w(g, block, a, b, i, lane * together + t), axis=i)

    products = te.compute((*products_shape, p.out_group, together), product, name="products")

    def fold(row, b, *at):
        return of_rows.of_output(row, lambda a: products(a, b, *at))

    folded = te.compute((tall, of_columns.products, *places, p.out_group, together), fold, name="folded")

    def tile(n, py, th, row, px, tw, col, g, o):
        at, t = te.indexdiv(g, together), te.indexmod(g, together)
        return of_columns.of_output(col, lambda b: folded(row, b, n, py, th, px, tw, at, o, t))

    return te.compute(y_shape(p, packing), tile, name="conv")


def y_shape(p: Problem, packing: WinogradPacking) -> tuple[int, ...]:
    """Of the result as it is computed: batch; image, tile and place in the tile of rows, then of columns;
    groups, channels."""
    (height, width), (down, across), (tall, wide) = packing.tiles(p), p.dilation, packing.tile
    return (p.batch, down, height, tall, across, width, wide, p.groups, p.out_group)


def place(p: Problem, packing: WinogradPacking, at: Sequence[tirx.Expr]) -> tuple[tuple, list[tirx.Expr]]:
    """(n, g, o, spatial) of an element of ``y_shape``, and when there is such an output."""
    n, py, th, row, px, tw, col, g, o = at
    (down, across), (tall, wide) = p.dilation, packing.tile
    spatial = [(th * tall + row) * down + py, (tw * wide + col) * across + px]
    dims = zip(spatial, p.out_spatial, p.dilation, packing.tile, strict=True)
    return (n, g, o, spatial), [s < size for s, size, d, m in dims if size % (m * d)]


def patch_reach(p: Problem, packing: WinogradPacking) -> tuple[int, ...]:
    """Positions of each padded dimension that the patches look at: the last tile may hang over."""
    dims = zip(packing.transforms(p), packing.tiles(p), p.dilation, strict=True)
    return tuple(t.reach(count) * d for t, count, d in dims)


ALGORITHM = Sums(
    "winograd", sums, WinogradPacking, shape=y_shape, place=place, reach=patch_reach, combines=True
)
