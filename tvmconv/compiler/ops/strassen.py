"""Strassen's product for pointwise convolutions: 7 products of halves where the definition has 8, or 49 of
quarters where it has 64.

Strassen, "Gaussian Elimination is not Optimal" (1969). A pair of pixels, by the halves of its input channels,
is a 2 x 2 matrix, and so are the weights by the halves of their channels; seven products of sums of these
elements give the halves of the output channels of both pixels. Each further level does the same to those
products. The sums of weights are made when these are packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem
from tvmconv.compiler.ops.toom_cook import Matrix, Transform
from tvmconv.specs.checks import suits_strassen

if TYPE_CHECKING:
    from tvm import te, tirx

# Of the elements (first row, second row) of x, of the weights, and of the products of their sums.
_SEVEN = (
    ((1, 0, 0, 1), (0, 0, 1, 1), (1, 0, 0, 0), (0, 0, 0, 1), (1, 1, 0, 0), (-1, 0, 1, 0), (0, 1, 0, -1)),
    ((1, 0, 0, 1), (1, 0, 0, 0), (0, 1, 0, -1), (-1, 0, 1, 0), (0, 0, 0, 1), (1, 1, 0, 0), (0, 0, 1, 1)),
    ((1, 0, 0, 1, -1, 0, 1), (0, 0, 1, 0, 1, 0, 0), (0, 1, 0, 1, 0, 0, 0), (1, -1, 1, 0, 0, 1, 0)),
)
LEVELS = (1, 2)


def fits(p: Problem, levels: int = 1) -> bool:
    """Whether ``p`` is a convolution that this algorithm computes."""
    suits = suits_strassen(p.kernel, p.stride, p.pad, p.in_group, p.out_group, levels=levels)
    return suits and p.dtype == "float32"


@lru_cache
def transform(levels: int) -> Transform:
    """The sums of the elements of x and of the weights, and those of their products. Elements are numbered by
    row and column, level by level: see ``_row`` and ``_column``."""
    left, weight, output = (_power(matrix, levels) for matrix in _SEVEN)
    return Transform(4**levels, 1, left, weight, output)


def _power(matrix: Matrix, levels: int) -> Matrix:
    """The Kronecker product of ``matrix`` with itself."""
    found: Matrix = ((1.0,),)
    for _ in range(levels):
        found = tuple(
            tuple(float(a * b) for a, b in product(more, row)) for more, row in product(found, matrix)
        )
    return found


def _row(element: int, levels: int) -> int:
    """The row of an element of a matrix of ``2**levels`` rows and columns."""
    return sum((element >> 2 * level + 1 & 1) << level for level in range(levels))


def _column(element: int, levels: int) -> int:
    return sum((element >> 2 * level & 1) << level for level in range(levels))


@dataclass(frozen=True)
class StrassenPacking:
    """Sums of weights: ``[groups, ceil(part of out_group / block), 7**levels, part of in_group, block]``,
    in the order in which they are used, filled up with zeros. A part: one of ``2**levels``."""

    block: int
    levels: int = 1

    @property
    def parts(self) -> int:
        """Of channels, and pixels side by side."""
        return 2**self.levels

    def tiles(self, p: Problem) -> int:
        """How many sets of so many pixels there are; the last one may hang over."""
        return -(-p.out_spatial[0] // self.parts)

    def dtype(self, p: Problem) -> str:
        """See ``Packing``."""
        return p.acc_dtype

    def shape(self, p: Problem) -> tuple[int, ...]:
        blocks = -(-p.out_group // self.parts // self.block)
        return (p.groups, blocks, 7**self.levels, p.in_group // self.parts, self.block)

    def pack(self, p: Problem, w: te.Tensor) -> te.Tensor:
        """The packed weights from ``w``, the user's OIHW or HWIO array, as stages ``packed`` (as in
        ``Packing``), ``transformed``."""
        from tvm import te, tirx

        deep, wide, levels = p.in_group // self.parts, p.out_group // self.parts, self.levels
        plain, taps = Packing(wide).pack(p, w), [0] * len(p.kernel)

        def value(g, block, s, i, lane):
            o = block * self.block + lane
            found = transform(levels).of_weight(
                s, lambda k: plain(g, _column(k, levels), *taps, _row(k, levels) * deep + i, o)
            )
            if wide % self.block == 0:
                return found
            return te.if_then_else(o < wide, found, tirx.const(0, self.dtype(p)))

        return te.compute(self.shape(p), value, name="transformed")

    def pack_array(self, p: Problem, w: np.ndarray) -> np.ndarray:
        """What ``pack`` computes, in NumPy."""
        deep, wide, levels = p.in_group // self.parts, p.out_group // self.parts, self.levels
        plain = Packing(wide).pack_array(p, w).reshape(p.groups, self.parts, self.parts, deep, wide)
        elements = np.stack(
            [plain[:, _column(k, levels), _row(k, levels)] for k in range(4**levels)]
        )  # fmt: skip
        found = np.einsum("sk,kgio->sgio", np.asarray(transform(levels).weight, w.dtype), elements)
        blocks = self.shape(p)[1]
        padded = np.pad(found, [(0, 0)] * 3 + [(0, blocks * self.block - wide)])
        split = padded.reshape(*padded.shape[:3], blocks, self.block)
        return np.ascontiguousarray(np.moveaxis(split, (1, 3), (0, 1)))


def sums(p: Problem, packing: StrassenPacking, x: Any, w: te.Tensor) -> te.Tensor:
    """The convolution as stages ``sides``, ``products``, ``conv``; the last of ``y_shape``.

    ``x``: a ``conv.Padded``, as far as ``patch_reach``."""
    from tvm import te

    parts, levels, own = packing.parts, packing.levels, transform(packing.levels)
    deep, wide, tiles = p.in_group // parts, p.out_group // parts, packing.tiles(p)

    def side(s, n, t, g, i):
        return own.of_input(
            s, lambda k: x(n, g, _column(k, levels) * deep + i, (t * parts + _row(k, levels),))
        )

    sides = te.compute((own.products, p.batch, tiles, p.groups, deep), side, name="sides")
    i = te.reduce_axis((0, deep), name="i")

    def of_sums(s, n, t, g, o):
        weight = w(g, te.indexdiv(o, packing.block), s, i, te.indexmod(o, packing.block))
        return te.sum(sides(s, n, t, g, i) * weight, axis=i)

    products = te.compute((own.products, p.batch, tiles, p.groups, wide), of_sums, name="products")

    def element(n, t, k, g, o):
        return own.of_output(k, lambda s: products(s, n, t, g, o))

    return te.compute(y_shape(p, packing), element, name="conv")


def y_shape(p: Problem, packing: StrassenPacking) -> tuple[int, ...]:
    """Of the result as it is computed: batch, tiles, elements of a tile, groups, channels of a part."""
    return (p.batch, packing.tiles(p), 4**packing.levels, p.groups, p.out_group // packing.parts)


def place(p: Problem, packing: StrassenPacking, at: Sequence[tirx.Expr]) -> tuple[tuple, list[tirx.Expr]]:
    """(n, g, o, spatial) of an element of ``y_shape``, and when there is such an output."""
    n, t, k, g, o = at
    levels, parts, pixels = packing.levels, packing.parts, p.out_spatial[0]
    pixel = t * parts + _row(k, levels)
    channel = _column(k, levels) * (p.out_group // parts) + o
    return (n, g, channel, [pixel]), [pixel < pixels] if pixels % parts else []


def patch_reach(p: Problem, packing: StrassenPacking) -> tuple[int, ...]:
    """Positions of the padded pixels that are looked at: the last tile may hang over."""
    return (packing.parts * packing.tiles(p),)


ALGORITHM = Sums(
    "strassen", sums, StrassenPacking, shape=y_shape, place=place, reach=patch_reach, combines=True
)
