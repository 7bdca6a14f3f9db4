"""Short convolutions in one dimension with few multiplications: the algorithm of Toom and Cook.

A few outputs of a correlation with the taps g are computed from the elements d that they see as A^T [(G g) *
(B^T d)]: A^T and G evaluate polynomials at a few points, infinity among them, and B^T interpolates
(transposed; Blahut, "Fast Algorithms for Signal Processing", 2010). With a stride s it is the sum of s such
correlations, of every s-th tap with every s-th element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm import tirx

Matrix = tuple[tuple[float, ...], ...]

# The first ones need no multiplications and are exact for integers; each further one is less accurate.
_POINTS = (0, 1, -1, Fraction(1, 2), -2)


@dataclass(frozen=True)
class Transform:
    """The matrices for ``outputs`` neighbours: ``input`` B^T, ``weight`` G, ``output`` A^T."""

    outputs: int
    stride: int
    input: Matrix
    weight: Matrix
    output: Matrix

    @property
    def products(self) -> int:
        """How many multiplications there are."""
        return len(self.input)

    @property
    def input_work(self) -> int:
        """Vector operations that B^T d takes: terms, loads and stores, of which each counts as two."""
        return _terms(self.input) + len(self.input[0]) + 2 * self.products

    @property
    def output_work(self) -> int:
        """Vector operations that A^T of the products takes: terms and loads."""
        return _terms(self.output) + self.products

    @property
    def exact(self) -> bool:
        """Whether small integers come out exactly: all coefficients are sums of few powers of two."""
        return all((64 * c).is_integer() for row in self.weight for c in row)

    @property
    def step(self) -> int:
        """From the first element of a set of outputs to that of the next."""
        return self.outputs * self.stride

    def reach(self, count: int) -> int:
        """How many elements ``count`` adjacent sets of outputs see."""
        return (count - 1) * self.step + len(self.input[0])

    def of_input(self, row: tirx.Expr, term: Callable[[int], tirx.Expr]) -> tirx.Expr:
        """An element of B^T d, with ``term(k)`` that of d."""
        return _combined(self.input, row, term, lambda k: k // self.stride % 2)

    def of_weight(self, row: tirx.Expr, term: Callable[[int], tirx.Expr]) -> tirx.Expr:
        """An element of G g, with ``term(k)`` that of g."""
        return _combined(self.weight, row, term, lambda k: 0)

    def of_output(self, row: tirx.Expr, term: Callable[[int], tirx.Expr]) -> tirx.Expr:
        """An output, with ``term(k)`` a product."""
        return _combined(self.output, row, term, lambda k: (k + 1) // 2)


def _terms(matrix: Matrix) -> int:
    return sum(c != 0 for row in matrix for c in row)


def most_outputs(taps: int, stride: int = 1) -> int:
    """How many outputs there are points for."""
    return len(_POINTS) + 2 - -(-taps // stride)


@lru_cache
def transform(outputs: int, taps: int, stride: int = 1) -> Transform:
    """For ``outputs`` outputs of a correlation with ``taps`` taps."""
    seen = (outputs - 1) * stride + taps
    left, weight, output = [], [], [[] for _ in range(outputs)]
    for first in range(min(stride, taps)):
        own = range(first, taps, stride)
        b, g, a = _short(outputs, len(own))
        left += [_spread(row, range(first, seen, stride), seen) for row in b]
        weight += [_spread(row, own, taps) for row in g]
        for row, more in zip(output, a, strict=True):
            row += more
    return Transform(outputs, stride, *(tuple(map(tuple, m)) for m in (left, weight, output)))


def _spread(row: Sequence[float], places: Sequence[int], size: int) -> list[float]:
    found = [0.0] * size
    for place, value in zip(places, row, strict=False):
        found[place] = value
    return found


def _short(outputs: int, taps: int) -> tuple[list[list[float]], list[list[float]], list[list[float]]]:
    """B^T, G and A^T without a stride."""
    if taps == 1:
        one = [[float(r == c) for c in range(outputs)] for r in range(outputs)]
        return one, [[1.0]] * outputs, one
    points = [Fraction(a) for a in _POINTS[: outputs + taps - 2]]
    left, weight = [], []
    for a in points:
        others = [b for b in points if b != a]
        scale = prod((a - b for b in others), start=Fraction(1))
        left.append([*_product(others), Fraction(0)])
        weight.append([a**k / scale for k in range(taps)])
    left.append(_product(points))
    weight.append([Fraction(k == taps - 1) for k in range(taps)])
    output = [[a**k for a in points] + [Fraction(k == outputs - 1)] for k in range(outputs)]
    bt, gt, at = ([[float(v) for v in row] for row in m] for m in (left, weight, output))
    return bt, gt, at


def _product(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of the polynomial with these roots and a leading 1, the constant one first."""
    found, none = [Fraction(1)], Fraction(0)
    for root in roots:
        found = [up - root * own for up, own in zip([none, *found], [*found, none], strict=True)]
    return found


def _combined(
    matrix: Matrix, row: tirx.Expr, term: Callable[[int], tirx.Expr], apart: Callable[[int], int]
) -> tirx.Expr:
    """``sum_k matrix[row][k] * term(k)`` without products by 0 and 1; unrolling makes ``row`` known."""
    from tvm import tirx

    *first, last = (_of_row(coefficients, term, apart) for coefficients in matrix)
    for k in reversed(range(len(first))):
        last = tirx.Select(row == k, first[k], last)
    return last


def _of_row(
    coefficients: Sequence[float], term: Callable[[int], tirx.Expr], apart: Callable[[int], int]
) -> tirx.Expr:
    """Terms that are ``apart`` are summed separately: rows for points of opposite signs share these sums."""
    sums: dict[int, list[tuple[float, tirx.Expr]]] = {}
    for k, c in enumerate(coefficients):
        if c:
            sums.setdefault(apart(k), []).append((c, term(k)))
    parts = []
    for own in sums.values():
        unit = min((c for c, _ in own), key=abs)
        parts.append((unit, _total([(c / unit, value) for c, value in own])))
    return _total(parts)


def _total(parts: Sequence[tuple[float, tirx.Expr]]) -> tirx.Expr:
    from tvm import tirx

    def times(c: float, value: tirx.Expr) -> tirx.Expr:
        return value if c == 1 else value * tirx.const(c, "float32")

    (c, value), *more = sorted(parts, key=lambda part: part[0] < 0)  # one that is added first, if any is
    found = times(c, value)
    for c, value in more:
        found = found + times(c, value) if c > 0 else found - times(-c, value)
    return found
