"""Winograd's F(2x2, 3x3): 3x3 convolution at stride 1 with 16 multiplications where the definition has 36.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015): each 2x2 tile of the output comes
from a 4x4 patch d of x as A^T [(G g G^T) * (B^T d B)] A, the product summed over input channels.
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

_INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # B^T
_WEIGHT = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))  # G
_OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))  # A^T


def fits(p: Problem) -> bool:
    """Whether ``p`` is a 3x3 convolution that this algorithm computes."""
    return p.kernel == (3, 3) and p.stride == (1, 1) and p.dilation == (1, 1) and p.dtype == "float32"


@dataclass(frozen=True)
class WinogradPacking:
    """Transformed weights: ``[4, 4, groups, ceil(out_group / block), in_group, block]``."""

    block: int

    def shape(self, p: Problem) -> tuple[int, ...]:
        rows, blocks, _, _, i, block = Packing(self.block).shape(p)
        return (4, 4, rows, blocks, i, block)

    def pack(self, p: Problem, w: te.Tensor) -> te.Tensor:
        """The packed weights from ``w``, the user's OIHW or HWIO array."""
        from tvm import te

        plain = Packing(self.block).pack(p, w)

        def value(a, b, g, block, i, lane):
            def column(c: int):
                return _sum(_WEIGHT, a, lambda r: plain(g, block, r, c, i, lane))

            return _sum(_WEIGHT, b, column)

        return te.compute(self.shape(p), value, name="transformed")

    def pack_array(self, p: Problem, w: np.ndarray) -> np.ndarray:
        """What ``pack`` computes, in NumPy."""
        g = np.asarray(_WEIGHT, w.dtype)
        plain = Packing(self.block).pack_array(p, w)
        return np.ascontiguousarray(np.einsum("ar,gkrcil,bc->abgkil", g, plain, g))


def sums(p: Problem, packing: WinogradPacking, padded: te.Tensor, w: te.Tensor) -> te.Tensor:
    """The convolution of ``padded`` as stages ``patches``, ``products``, ``conv``, the last shaped as y.

    ``padded``: x with its zeros, ``[n, h, w, g, i]`` in either layout, as far as ``patch_reach``.
    """
    from tvm import te

    n, (height, width) = p.batch, (-(-size // 2) for size in p.out_spatial)

    def patch(a, b, n, th, tw, g, i):
        def column(c: int):
            return _sum(_INPUT, a, lambda r: padded(n, th * 2 + r, tw * 2 + c, g, i))

        return _sum(_INPUT, b, column)

    patches = te.compute((4, 4, n, height, width, p.groups, p.in_group), patch, name="patches")
    i = te.reduce_axis((0, p.in_group), name="i")

    def product(a, b, n, th, tw, g, o):
        weight = w(a, b, g, te.indexdiv(o, packing.block), i, te.indexmod(o, packing.block))
        return te.sum(patches(a, b, n, th, tw, g, i) * weight, axis=i)

    products = te.compute((4, 4, n, height, width, p.groups, p.out_group), product, name="products")

    def tile(*at):
        n, *(y, x), g, o = at if p.channels_last else (at[0], *at[3:], *at[1:3])

        def column(b: int):
            return _sum(
                _OUTPUT, te.indexmod(y, 2),
                lambda a: products(a, b, n, te.indexdiv(y, 2), te.indexdiv(x, 2), g, o),
            )  # fmt: skip

        return _sum(_OUTPUT, te.indexmod(x, 2), column)

    return te.compute(p.y_shape, tile, name="conv")


def patch_reach(p: Problem) -> tuple[int, ...]:
    """Positions of each padded dimension that the patches look at: the last tile may hang over."""
    return tuple(-(-size // 2) * 2 + 2 for size in p.out_spatial)


def _sum(
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
