"""x with its image continued around it: mirrored, repeated at the edges, or from the other side.

A convolution of that, without padding, is a convolution with ``padding_mode``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from tvmconv.compiler.ops.problem import places
from tvmconv.specs.conv import ConvSpec, without_borders


def bordered_func(spec: ConvSpec, shape: Sequence[int]) -> tirx.PrimFunc:
    """``(x, bordered)``: x as ``spec`` has it; ``bordered`` of ``shape``, any in which the padded x fits.

    One stage, ``border``. Along a row a condition separates x itself from its borders.
    """
    padded = without_borders(spec).input_shape
    first = 1 if spec.channels_last else 2  # the first spatial dim
    x = te.placeholder(spec.input_shape, spec.dtype, name="x")

    def value(*at):
        number: Any = 0
        for index, size in zip(at, shape, strict=True):
            number = number * size + index
        where = places(padded, number)
        for d, (size, (lo, _)) in enumerate(zip(spec.in_spatial, spec.padding, strict=True), first):
            where[d] = where[d] - lo
            last = d == first + spec.rank - 1
            if last:
                inside = te.all(where[d] >= 0, where[d] < size)
                own = x(*where[:d], where[d], *where[d + 1 :])
            where[d] = _MAPS[spec.padding_mode](where[d], size)
        other = x(*where)
        return other if spec.padding[-1] == (0, 0) else te.if_then_else(inside, own, other)

    return te.create_prim_func([x, te.compute(tuple(shape), value, name="border")])


def _replicate(at: tirx.Expr, size: int) -> tirx.Expr:
    return te.max(te.min(at, size - 1), 0)


def _reflect(at: tirx.Expr, size: int) -> tirx.Expr:
    near = te.max(at, -at)  # no border is as wide as x
    return te.min(near, 2 * (size - 1) - near)


def _circular(at: tirx.Expr, size: int) -> tirx.Expr:
    return te.indexmod(at + size, size)  # no border is wider than x


_MAPS = {"replicate": _replicate, "reflect": _reflect, "circular": _circular}
