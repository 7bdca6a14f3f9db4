"""Winograd's F(2x2, 3x3): 3x3 convolution at stride 1 with 16 multiplications where the definition has 36.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015): each 2x2 tile of the output comes
from a 4x4 patch d of x as A^T [(G g G^T) * (B^T d B)] A, the product summed over input channels.

With a dilation d, rows that are d apart form an image of their own, and so do columns: there are d of them
in a dimension, each with its tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tvmconv.ops.packing import Packing
from tvmconv.ops.problem import Problem

if TYPE_CHECKING:
    from tvm import te, tirx

INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # B^T
WEIGHT = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))  # G
OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))  # A^T


def fits(p: Problem) -> bool:
    """Whether ``p`` is a 3x3 convolution that this algorithm computes."""
    return p.kernel == (3, 3) and p.stride == (1, 1) and p.dtype == "float32"


def tiles(p: Problem) -> tuple[int, int]:
    """How many tiles cover each dimension of one of the images; the last one may hang over."""
    height, width = (-(-size // (2 * d)) for size, d in zip(p.out_spatial, p.dilation, strict=True))
    return height, width


@dataclass(frozen=True)
class WinogradPacking:
    """Transformed weights: ``[4, 4, groups, ceil(out_group / block), in_group, block]``."""

    block: int

    def dtype(self, p: Problem) -> str:
        """See ``Packing``."""
        return p.acc_dtype

    def shape(self, p: Problem) -> tuple[int, ...]:
        rows, blocks, _, _, i, block = Packing(self.block).shape(p)
        return (4, 4, rows, blocks, i, block)

    def pack(self, p: Problem, w: te.Tensor) -> te.Tensor:
        """The packed weights from ``w``, the user's OIHW or HWIO array."""
        from tvm import te

        plain = Packing(self.block).pack(p, w)

        def value(a, b, g, block, i, lane):
            def column(c: int):
                return combined(WEIGHT, a, lambda r: plain(g, block, r, c, i, lane))

            return combined(WEIGHT, b, column)

        return te.compute(self.shape(p), value, name="transformed")

    def pack_array(self, p: Problem, w: np.ndarray) -> np.ndarray:
        """What ``pack`` computes, in NumPy."""
        g = np.asarray(WEIGHT, w.dtype)
        plain = Packing(self.block).pack_array(p, w)
        return np.ascontiguousarray(np.einsum("ar,gkrcil,bc->abgkil", g, plain, g))


def sums(p: Problem, packing: WinogradPacking, padded: Callable[..., tirx.Expr], w: te.Tensor) -> te.Tensor:
    """The convolution as stages ``pad``, ``patches``, ``products``, ``conv``; the last of ``y_shape``.

    ``padded(n, h, w, g, i)``: x with its zeros, as far as ``patch_reach``. The stages have a dimension of
    images before each dimension of places or tiles.
    """
    from tvm import te

    n, (height, width), (down, across) = p.batch, tiles(p), p.dilation
    pad = te.compute(
        (n, down, 2 * height + 2, across, 2 * width + 2, p.groups, p.in_group),
        lambda n, py, h, px, w, g, i: padded(n, h * down + py, w * across + px, g, i), name="pad",
    )  # fmt: skip

    def patch(a, b, n, py, th, px, tw, g, i):
        def column(c: int):
            return combined(INPUT, a, lambda r: pad(n, py, th * 2 + r, px, tw * 2 + c, g, i))

        return combined(INPUT, b, column)

    places = (4, 4, n, down, height, across, width, p.groups)
    patches = te.compute((*places, p.in_group), patch, name="patches")
    i = te.reduce_axis((0, p.in_group), name="i")

    def product(a, b, *at):
        *place, g, o = at
        weight = w(a, b, g, te.indexdiv(o, packing.block), i, te.indexmod(o, packing.block))
        return te.sum(patches(a, b, *place, g, i) * weight, axis=i)

    products = te.compute((*places, p.out_group), product, name="products")

    def tile(n, py, th, row, px, tw, col, g, o):
        def column(b: int):
            return combined(OUTPUT, row, lambda a: products(a, b, n, py, th, px, tw, g, o))

        return combined(OUTPUT, col, column)

    return te.compute(y_shape(p), tile, name="conv")


def y_shape(p: Problem) -> tuple[int, ...]:
    """Of the result as it is computed: batch; image, tile and place in the tile of rows, then of columns;
    groups, channels."""
    (height, width), (down, across) = tiles(p), p.dilation
    return (p.batch, down, height, 2, across, width, 2, p.groups, p.out_group)


def place(p: Problem, at: Sequence[tirx.Expr]) -> tuple[tuple, list[tirx.Expr]]:
    """(n, g, o, spatial) of an element of ``y_shape``, and when there is such an output."""
    n, py, th, row, px, tw, col, g, o = at
    (down, across), (height, width) = p.dilation, p.out_spatial
    spatial = [(th * 2 + row) * down + py, (tw * 2 + col) * across + px]
    dims = ((spatial[0], height, down), (spatial[1], width, across))
    return (n, g, o, spatial), [s < size for s, size, d in dims if size % (2 * d)]


def patch_reach(p: Problem) -> tuple[int, ...]:
    """Positions of each padded dimension that the patches look at: the last tile may hang over."""
    return tuple((2 * count + 2) * d for count, d in zip(tiles(p), p.dilation, strict=True))


def combined(
    matrix: Sequence[Sequence[float]], row: tirx.Expr, term: Callable[[int], tirx.Expr]
) -> tirx.Expr:
    """``sum_k matrix[row][k] * term(k)`` without products by 0 and 1; unrolling makes ``row`` known."""
    from tvm import tirx

    def of_row(coefficients: Sequence[float]) -> tirx.Expr:
        total = None
        for k, c in enumerate(coefficients):
            if c:
                value = term(k) if abs(c) == 1 else term(k) * tirx.const(abs(c), "float32")
                if total is None:
                    total = value if c > 0 else -value
                else:
                    total = total + value if c > 0 else total - value
        return total

    *first, last = (of_row(coefficients) for coefficients in matrix)
    for k in reversed(range(len(first))):
        last = tirx.Select(row == k, first[k], last)
    return last
