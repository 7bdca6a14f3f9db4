"""gather and scatter: a loop nest over the indices, each read once and held inside its axis."""

from __future__ import annotations

import math

from tvm import tirx

from tvmconv.compiler.codegen.nest import (
    Array,
    Index,
    Loop,
    along,
    further,
    in_blocks,
    itemsize,
    loop,
    merged,
    named,
    nest,
    spread,
    vectors,
)  # fmt: skip
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.operators import copy
from tvmconv.compiler.operators import values as v_
from tvmconv.schedules.machines import Machine
from tvmconv.specs.operators import Gather, Scatter, Type
from tvmconv.specs.operators.base import INTEGERS
from tvmconv.specs.operators.copy import strides

_JOIN = {"add": v_.add, "mul": v_.mul, "max": v_.largest, "min": v_.least}


def stored(type_: Type) -> Type:
    """What is only moved is bits; integers stay what they are, for indices are among them."""
    return type_ if type_.dtype in INTEGERS else copy.stored(type_)


def gather_body(op: Gather, machine: Machine, inputs: list[Array], outputs: list[Array]) -> tirx.Stmt:
    """The kernel's body."""
    (x, indices), (y,) = inputs, outputs
    lanes, size = machine.lanes(itemsize(x.dtype)), op.infer()[0].size
    x_steps, steps = strides(op.inputs[0].shape), strides(op.inputs[1].shape)
    shape, apart = op.inputs[0].shape, x_steps[op.axis]

    def place(at: Index) -> tuple[tirx.Var, tirx.Stmt]:
        return _place(indices, at, op.inputs[1].dtype, shape[op.axis])

    if op.elements:
        aside = [0 if axis == op.axis else step for axis, step in enumerate(x_steps)]
        loops = merged(op.inputs[1].shape, aside, steps, strides(op.infer()[0].shape))

        def row(at: tuple[Index, ...], width: int) -> tirx.Stmt:
            def element(i: Index) -> tirx.Stmt:
                a, b, c = (further(*pair) for pair in zip(at, (i,) * 3, inner, strict=True))
                where, made = place(b)
                return sequence([made, y.put(c, x.at(a + where * apart))])

            return loop(width, element)

        inner = loops[-1].steps if loops else (0, 0, 0)
        return along(loops, lanes, row, 4 * size, 3)
    count, many = math.prod(shape[op.axis + 1 :]), op.inputs[1].size
    before = Loop(math.prod(shape[: op.axis]), (shape[op.axis] * count, 0, many * count))
    each = Loop(many, (0, 1, count))

    def some(at: tuple[Index, ...], width: int) -> tirx.Stmt:
        def one(i: Index) -> tirx.Stmt:
            where, made = place(at[1] + i)
            a, c = at[0] + where * apart, at[2] + i * count
            return sequence([made, vectors(count, lanes, lambda k: y.put(c + k, x.at(a + k)))])

        return loop(width, one)

    return in_blocks([before], each, max(1, min(many, -(-4096 // max(count, 1)))), some, 2 * size)


def scatter_body(op: Scatter, machine: Machine, inputs: list[Array], outputs: list[Array]) -> tirx.Stmt:
    """The kernel's body."""
    (x, indices, updates), (y,) = inputs, outputs
    lanes = machine.lanes(itemsize(x.dtype))
    copied = along([Loop(op.inputs[0].size, (1,))], lanes,
                   lambda at, width: vectors(width, lanes, lambda i: y.put(at[0] + i, x.at(at[0] + i))),
                   op.inputs[0].size, 1)  # fmt: skip
    shape, steps = op.inputs[1].shape, strides(op.inputs[1].shape)
    y_steps = strides(op.inputs[0].shape)
    others = [axis for axis in range(len(shape)) if axis != op.axis]
    outer = merged([shape[axis] for axis in others], [y_steps[axis] for axis in others],
                   [steps[axis] for axis in others])  # fmt: skip

    def line(at: tuple[Index, ...]) -> tirx.Stmt:
        """What goes along the axis: one thread's, for it may meet."""
        def one(at: tuple[Index, ...]) -> tirx.Stmt:
            where, made = _place(indices, at[1], op.inputs[1].dtype, op.inputs[0].shape[op.axis])
            to, value = at[0] + where * y_steps[op.axis], updates.at(at[1])
            join = _JOIN.get(op.reduction)
            return sequence([made, y.put(to, join(y.at(to), value) if join else value)])

        return nest([Loop(shape[op.axis], (0, steps[op.axis]))], lambda i: one(
            tuple(a + b for a, b in zip(at, i, strict=True))), 2)  # fmt: skip

    return sequence([copied, spread(outer, line, 2, 8 * op.inputs[1].size)])


def _place(indices: Array, at: Index, dtype: str, size: int) -> tuple[tirx.Var, tirx.Stmt]:
    """An index as a place along an axis of so many elements."""
    index = indices.at(at)
    size_ = tirx.const(size, dtype)
    index = tirx.Select(index < tirx.const(0, dtype), index + size_, index)
    index = tirx.max(tirx.min(index, size_ - tirx.const(1, dtype)), tirx.const(0, dtype))
    return named("place", index.astype("int32"))
