"""im2col in strips, channels-first: the inputs of a few rows of outputs are copied contiguously, whatever the
stride and dilation, and multiplied while they are in the core's cache.

A strip is ``tall`` rows of the output, or ``long`` pixels of one row. Its pixels are contiguous, so vectors
continue from row to row.
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
class PanelsPacking(Packing):
    """Weights as in ``Packing``, and the size of a strip."""

    tall: int = 1
    long: int = 1

    def strips(self, p: Problem) -> tuple[int, int]:
        """The number of strips down the rows of the output (all its dims but the last), and along a row."""
        return -(-prod(p.out_spatial[:-1]) // self.tall), -(-p.out_spatial[-1] // self.long)


def y_shape(p: Problem, packing: PanelsPacking) -> tuple[int, ...]:
    """Of the result as it is computed: batch, groups, channels, strips down and along, pixels of a strip."""
    return (p.batch, p.groups, p.out_group, *packing.strips(p), packing.tall * packing.long)


def place(p: Problem, packing: PanelsPacking, at: Sequence[tirx.Expr]) -> tuple[tuple, list[tirx.Expr]]:
    """(n, g, o, (pixel,)) of an element of ``y_shape``, and when there is such an output."""
    n, g, o, down, along, pixel = at
    width, rows = p.out_spatial[-1], prod(p.out_spatial[:-1])
    if packing.long == width:
        found = down * (packing.tall * width) + pixel
        return (n, g, o, (found,)), [found < rows * width] if rows % packing.tall else []
    column = along * packing.long + pixel
    return (n, g, o, (down * width + column,)), [column < width] if width % packing.long else []


def sums(p: Problem, packing: PanelsPacking, x: Any, w: te.Tensor) -> te.Tensor:
    """The convolution as stages ``columns`` and ``conv``, the latter of ``y_shape``.

    ``x``: a ``conv.Padded``; ``w``: packed for ``flat(p)``. Columns leave out taps that see only padding."""
    from tvm import te

    q, (down, along) = flat(p), packing.strips(p)
    live = [p.live_taps(d) for d in range(len(p.kernel))]
    counts = [len(taps) for taps in live]
    rows, width = prod(p.out_spatial[:-1]), p.out_spatial[-1]

    def taps_of(numbers) -> list:
        return [k + taps.start if taps.start else k for k, taps in zip(numbers, live, strict=True)]

    def column(n, g, high, wide, *rest):
        *taps, i, row, at = rest
        row, at = high * packing.tall + row, wide * packing.long + at
        inside = [row < rows] * (rows % packing.tall > 0) + [at < width] * (width % packing.long > 0)
        source = place_of(p, [*places(p.out_spatial[:-1], row), at], taps_of(taps))
        return x(n, g, i, source, inside)

    shape = (p.batch, p.groups, down, along, *counts, p.in_group, packing.tall, packing.long)
    columns = te.compute(shape, column, name="columns")
    axes = [te.reduce_axis((0, count), name=f"k{d}") for d, count in enumerate(counts)]
    i = te.reduce_axis((0, p.in_group), name="i")

    def value(n, g, o, high, wide, pixel):
        at = (pixel // packing.long, pixel % packing.long) if packing.tall > 1 else (0, pixel)
        whole = 0
        for tap, size in zip(taps_of(axes), p.kernel, strict=True):
            whole = whole * size + tap
        read = columns(n, g, high, wide, *axes, i, *at)
        return te.sum(read * w(*packing.index(q, g, o, (whole,), i)), axis=[*axes, i])

    return te.compute(y_shape(p, packing), value, name="conv")


ALGORITHM = Sums("panels", sums, PanelsPacking, flat=True, shape=y_shape, place=place)
