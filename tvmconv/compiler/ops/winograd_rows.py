"""Winograd's F(2, 3) along the rows of a depthwise convolution: a pair of outputs takes 4 multiplications for
each row of taps where the definition takes 6.

Two neighbours of the output come from four neighbours d of each row r of x that they see, and the taps g of
that row, as A^T sum_r [(G g_r) * (B^T d_r)], by the matrices of ``winograd`` in one dimension. The additions
pay only where they have a port of their own beside that of multiply-adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, reach_of
from tvmconv.compiler.ops.toom_cook import transform

if TYPE_CHECKING:
    from tvm import te, tirx

PAIR = transform(2, 3)


def fits(p: Problem) -> bool:
    """Whether ``p`` is a depthwise convolution that this algorithm computes."""
    pairs = p.kernel[1:] == (3,) and p.stride[1:] == (1,) and p.dilation[1:] == (1,) and p.out_spatial[-1] > 1
    return pairs and p.in_group == p.out_group == 1 and p.dtype == "float32"


def pairs(p: Problem) -> int:
    """How many pairs of outputs a row has; the last one may hang over."""
    return -(-p.out_spatial[-1] // 2)


@dataclass(frozen=True)
class RowsPacking:
    """Transformed weights: ``[ceil(groups / block), rows of taps, 4, block]``, filled up with zeros."""

    block: int

    def dtype(self, p: Problem) -> str:
        """See ``Packing``."""
        return p.acc_dtype

    def shape(self, p: Problem) -> tuple[int, ...]:
        return (-(-p.groups // self.block), p.kernel[0], 4, self.block)

    def pack(self, p: Problem, w: te.Tensor) -> te.Tensor:
        """The packed weights from ``w``, the user's OIHW or HWIO array."""
        from tvm import te

        plain = Packing(self.block, across_groups=True).pack(p, w)

        def value(block, r, i, lane):
            return PAIR.of_weight(i, lambda c: plain(0, block, r, c, 0, lane))

        return te.compute(self.shape(p), value, name="transformed")

    def pack_array(self, p: Problem, w: np.ndarray) -> np.ndarray:
        """What ``pack`` computes, in NumPy."""
        plain = Packing(self.block, across_groups=True).pack_array(p, w)[0, :, :, :, 0]
        return np.ascontiguousarray(np.einsum("brcl,ic->bril", plain, np.asarray(PAIR.weight, w.dtype)))


def sums(p: Problem, packing: RowsPacking, x: Any, w: te.Tensor) -> te.Tensor:
    """The convolution as stages ``rows``, ``products``, ``conv``; the last of ``y_shape``.

    ``x``: a ``conv.Padded``, as far as ``patch_reach``."""
    from tvm import te

    n, height, g = p.batch, p.out_spatial[0], p.groups
    stride, dilation = p.stride[0], p.dilation[0]

    def row(n, h, t, i, g):
        return PAIR.of_input(i, lambda c: x(n, g, 0, (h, 2 * t + c)))

    rows = te.compute((n, patch_reach(p, packing)[0], pairs(p), 4, g), row, name="rows")
    r = te.reduce_axis((0, p.kernel[0]), name="r")

    def product(n, h, t, i, g):
        block, lane = te.indexdiv(g, packing.block), te.indexmod(g, packing.block)
        if packing.block >= p.groups:  # of a loop over vectors, the last one partial, TVM would keep these
            block, lane = 0, g
        return te.sum(rows(n, h * stride + r * dilation, t, i, g) * w(block, r, i, lane), axis=r)

    products = te.compute((n, height, pairs(p), 4, g), product, name="products")

    def pair(n, h, t, col, g, o):
        return PAIR.of_output(col, lambda i: products(n, h, t, i, g))

    return te.compute(y_shape(p, packing), pair, name="conv")


def y_shape(p: Problem, packing: RowsPacking) -> tuple[int, ...]:
    """Of the result as it is computed: batch, rows, pairs, place in the pair, groups, channels."""
    return (p.batch, p.out_spatial[0], pairs(p), 2, p.groups, p.out_group)


def place(p: Problem, packing: RowsPacking, at: Sequence[tirx.Expr]) -> tuple[tuple, list[tirx.Expr]]:
    """(n, g, o, spatial) of an element of ``y_shape``, and when there is such an output."""
    n, h, t, col, g, o = at
    across, width = t * 2 + col, p.out_spatial[1]
    return (n, g, o, [h, across]), [across < width] if width % 2 else []


def patch_reach(p: Problem, packing: RowsPacking) -> tuple[int, ...]:
    """Positions of each padded dimension that are looked at: the last pair may hang over."""
    return reach_of(p, 0), 2 * pairs(p) + 2


ALGORITHM = Sums(
    "winograd_rows", sums, RowsPacking, shape=y_shape, place=place, reach=patch_reach, combines=True
)
