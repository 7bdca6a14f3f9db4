"""normalise: rows in passes while they are in the cache: what is over a row first, then its elements.

Nothing is kept between the passes but y itself, where that is as precise as what is computed.
"""

from __future__ import annotations

import math

from tvm import tirx

from tvmconv.compiler.codegen.nest import (
    Array,
    Index,
    Loop,
    broadcast_steps,
    computed,
    held,
    in_blocks,
    itemsize,
    loop,
    merged,
    vectors,
)  # fmt: skip
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.operators import values as v_
from tvmconv.compiler.operators.expression import exp, log
from tvmconv.compiler.operators.rows import Rows, by_rows
from tvmconv.compiler.operators.values import number
from tvmconv.schedules.machines import Machine
from tvmconv.specs.operators import Normalise
from tvmconv.specs.operators.copy import strides

_X, _OVER, _Y, _AFFINE = range(4)  # places in
_COST = 24  # multiply-adds that an element takes about as long as


def body(op: Normalise, machine: Machine, inputs: list[Array], outputs: list[Array]) -> tirx.Stmt:
    """The kernel's body."""
    shape, (y,) = op.inputs[0].shape, outputs
    lanes, work = machine.lanes(itemsize(y.dtype)), _COST * op.inputs[0].size
    if op.method == "lrn":
        return _lrn(op, inputs[0], y, lanes, work)
    over = [int(axis in op.axes) * step for axis, step in enumerate(strides(shape))]
    others = [broadcast_steps(one.shape, shape) for one in op.inputs[1:]]
    x_steps, y_steps = (array.steps(strides(shape)) for array in (inputs[0], y))
    loops = merged(shape, x_steps, over, y_steps, *others)
    make = _softmax if op.method == "softmax" else _log_softmax if op.method == "log_softmax" else _standard
    return by_rows(loops, lambda one: one.steps[_OVER] == 0, lanes, 3 + len(others),
                   lambda rows: sequence(make(op, rows, inputs, y)), work)  # fmt: skip


def _least(dtype: str) -> tirx.Expr:
    return tirx.const(-math.inf, dtype)


def _zero(dtype: str) -> tirx.Expr:
    return tirx.const(0.0, dtype)


def _softmax(op: Normalise, rows: Rows, inputs: list[Array], y: Array) -> list[tirx.Stmt]:
    (x,), kind = inputs, y.kind
    most, stmts = rows.folded(_least(kind), v_.largest, lambda at, _: x.at(at[_X]))

    def power(at: tuple[Index, ...], row: Index) -> tirx.Expr:
        return exp(x.at(at[_X]) - most.at(row))

    held_in_y = y.dtype == kind
    if held_in_y:
        stmts.append(rows.each(lambda at, row: y.put(at[_Y], power(at, row))))
    total, more = rows.folded(
        _zero(kind), v_.add, (lambda at, _: y.at(at[_Y])) if held_in_y else power
    )  # fmt: skip
    share, made = rows.held(kind)
    stmts += [*more, made, rows.every(lambda row: share.put(row, number(1, total.at(row)) / total.at(row)))]

    def final(at: tuple[Index, ...], row: Index) -> tirx.Stmt:
        return y.put(at[_Y], (y.at(at[_Y]) if held_in_y else power(at, row)) * share.at(row))

    return [*stmts, rows.each(final)]


def _log_softmax(op: Normalise, rows: Rows, inputs: list[Array], y: Array) -> list[tirx.Stmt]:
    (x,), kind = inputs, y.kind
    most, stmts = rows.folded(_least(kind), v_.largest, lambda at, _: x.at(at[_X]))
    total, more = rows.folded(_zero(kind), v_.add, lambda at, row: exp(x.at(at[_X]) - most.at(row)))
    below, made = rows.held(kind)
    stmts += [*more, made, rows.every(lambda row: below.put(row, log(total.at(row))))]
    return [*stmts, rows.each(lambda at, row: y.put(at[_Y], x.at(at[_X]) - most.at(row) - below.at(row)))]


def _standard(op: Normalise, rows: Rows, inputs: list[Array], y: Array) -> list[tirx.Stmt]:
    x, *affine = inputs
    kind, part = y.kind, tirx.const(1 / math.prod(op.inputs[0].shape[axis] for axis in op.axes), y.kind)
    mean, made = rows.held(kind)
    stmts = [made]
    if op.method == "standard":
        total, more = rows.folded(_zero(kind), v_.add, lambda at, _: x.at(at[_X]))
        stmts += [*more, rows.every(lambda row: mean.put(row, total.at(row) * part))]
    else:
        stmts.append(rows.every(lambda row: mean.put(row, _zero(kind))))

    def square(at: tuple[Index, ...], row: Index) -> tirx.Expr:
        return v_.once(x.at(at[_X]) - mean.at(row), lambda apart: apart * apart)

    squares, more = rows.folded(_zero(kind), v_.add, square)
    scale, made = rows.held(kind)
    epsilon = tirx.const(op.epsilon, kind)
    one = tirx.const(1.0, kind)
    stmts += [*more, made, rows.every(
        lambda row: scale.put(row, one / tirx.sqrt(squares.at(row) * part + epsilon)))]  # fmt: skip

    def final(at: tuple[Index, ...], row: Index) -> tirx.Stmt:
        value = (x.at(at[_X]) - mean.at(row)) * scale.at(row)
        for apply, array, place in zip((v_.mul, v_.add), affine, at[_AFFINE:], strict=False):
            value = apply(value, array.at(place))
        return y.put(at[_Y], value)

    return [*stmts, rows.each(final)]


def _lrn(op: Normalise, x: Array, y: Array, lanes: int, work: float) -> tirx.Stmt:
    """Squares of a block, with zeros on both sides along the axis, then sums of them."""
    (axis,), shape, kind = op.axes, op.inputs[0].shape, computed(op.inputs[0].dtype)
    size, before = shape[axis], (op.size - 1) // 2
    inner = math.prod(shape[axis + 1 :])
    outer = merged(shape[:axis], *(array.steps(strides(shape))[:axis] for array in (x, y)))
    zero = tirx.const(0.0, kind)

    def block(at: tuple[Index, ...], width: int) -> tirx.Stmt:
        wide = size + op.size - 1
        squares, made = held(wide * width, kind)
        middle, last = before * width, (before + size) * width

        def square(c: Index) -> tirx.Stmt:
            return vectors(width, lanes, lambda i: squares.put(middle + c * width + i, v_.once(
                x.at(at[0] + c * inner + i), lambda v: v * v)))  # fmt: skip

        def result(c: Index, i: Index) -> tirx.Stmt:
            total = squares.at(c * width + i)
            for k in range(1, op.size):
                total = total + squares.at((c + k) * width + i)
            place = c * inner + i
            scale = tirx.const(op.alpha / op.size, kind) * total + tirx.const(op.bias, kind)
            return y.put(at[1] + place, x.at(at[0] + place) * _to_minus(scale, op.beta))

        stmts = [made]
        for start, stop in ((0, middle), (last, wide * width)):
            if stop > start:
                stmts.append(
                    vectors(stop - start, lanes, lambda i, start=start: squares.put(start + i, zero))
                )
        if inner == 1:  # vectors along the axis itself
            stmts += [vectors(size, lanes, square), vectors(size, lanes, lambda c: result(c, 0))]
        else:
            stmts += [loop(size, square), loop(size, lambda c: vectors(width, lanes, lambda i: result(c, i)))]
        return sequence(stmts)

    return in_blocks(outer, Loop(inner, (1, 1)), min(inner, 4 * lanes), block, work)


def _to_minus(v: tirx.Expr, beta: float) -> tirx.Expr:
    """v ** -beta, of a number above 0."""
    if beta == 0.75:
        return v_.once(tirx.sqrt(v), lambda root: number(1, v) / (root * tirx.sqrt(root)))
    if beta == 0.5:
        return number(1, v) / tirx.sqrt(v)
    return exp(log(v) * number(-beta, v))
