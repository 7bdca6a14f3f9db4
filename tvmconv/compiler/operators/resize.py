"""resize: one axis after the other, by tables of taps; the last two in one pass over rows in the cache.

Nearest takes each element from where all tables point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from tvm import tirx

from tvmconv.compiler.codegen.nest import (
    Array,
    Index,
    Loop,
    along,
    held,
    in_blocks,
    itemsize,
    loop,
    spread,
    table,
    vectors,
)  # fmt: skip
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.operators import values as v_
from tvmconv.schedules.machines import Machine
from tvmconv.specs.operators import Resize
from tvmconv.specs.operators.copy import strides


def body(op: Resize, machine: Machine, inputs: list[Array], outputs: list[Array]) -> tirx.Stmt:
    """The kernel's body."""
    (x,), (y,) = inputs, outputs
    lanes = machine.lanes(itemsize(y.dtype))
    if op.mode == "nearest" or not op.axes:
        return sequence([*_nearest(op, x, y, lanes), *_outside(op, y, lanes)])
    return sequence([*_weighted(op, x, y, lanes), *_outside(op, y, lanes)])


def _nearest(op: Resize, x: Array, y: Array, lanes: int) -> list[tirx.Stmt]:
    shape, apart, to = op.inputs[0].shape, x.steps(strides(op.inputs[0].shape)), y.steps(strides(op.shape))
    stmts: list[tirx.Stmt] = []
    tables: dict[int, Array] = {}
    for axis in op.axes:
        tables[axis], made = table(op.taps(axis)[0][:, 0] * apart[axis], "int32")
        stmts += made
    after = max(op.axes, default=-1) + 1  # dims from here on are copied as they are
    run = math.prod(shape[after:])
    loops = [Loop(op.shape[axis], tuple(int(k == axis) for k in range(after))) for axis in range(after)]
    if run == 1 and loops:
        *loops, last = loops
    else:
        last = Loop(run, (0,) * after)

    def row(at: tuple[Index, ...], width: int) -> tirx.Stmt:
        def element(i: Index) -> tirx.Stmt:
            where = [at[a] + i if last.steps[a] else at[a] for a in range(after)]
            source = target = 0 if any(last.steps) else i
            for axis, place in enumerate(where):
                source = source + (tables[axis].at(place) if axis in tables else place * apart[axis])
                target = target + place * to[axis]
            return y.put(target, x.at(source))

        return vectors(width, lanes, element)

    return [*stmts, along([*loops, last], lanes, row, 2 * math.prod(op.shape), after)]


def _weighted(op: Resize, x: Array, y: Array, lanes: int) -> list[tirx.Stmt]:
    shape, stmts = list(op.inputs[0].shape), []
    taps: dict[int, tuple[Array, Array, int]] = {}
    for axis in op.axes:
        indices, weights, _ = op.taps(axis)
        used = weights.any(0)  # a tap that no element has is left out
        indices, weights = indices[:, used], weights[:, used]
        where, made = table(indices.ravel(), "int32")
        share, more = table(weights.ravel(), y.kind)
        taps[axis], stmts = (where, share, int(used.sum())), [*stmts, *made, *more]
    *first, last = op.axes
    for axis in first[:-1]:
        shape[axis] = op.shape[axis]
        between, made = held(math.prod(shape), y.kind)
        stmts += [made, _pass(op, x, between, tuple(shape), axis, taps[axis], lanes)]
        x = between
    if not first:
        return [*stmts, _pass(op, x, y, op.shape, last, taps[last], lanes)]
    # For each place along the last axis but one: a row of x, then the row of y that it gives.
    upper = first[-1]
    outer, size, wanted = math.prod(shape[:upper]), shape[upper], op.shape[upper]
    between, inner = shape[upper + 1 : last], math.prod(shape[last + 1 :])
    before, narrow, wide = math.prod(between), shape[last], op.shape[last]
    width = before * narrow * inner
    # Where rows of pixels lie apart, each goes on its own; `inner` is then one.
    lines, line_ = (before * narrow, inner) if x.rows else (1, width)
    x_line, y_line = x.rows[1] if x.rows else width, y.rows[1] if y.rows else inner

    def task(at: tuple[Index, ...]) -> tirx.Stmt:
        row, made = held(width, y.kind)
        target = (at[0] * wanted + at[1]) * (before * wide)

        def above(r: Index, i: Index) -> tirx.Stmt:
            value = _sum(taps[upper], at[1], lambda k: x.at(
                (at[0] * size + k) * (lines * x_line) + r * x_line + i))  # fmt: skip
            return row.put(r * line_ + i, value)

        steps = [made, loop(lines, lambda r: vectors(line_, lanes, lambda i: above(r, i)))]

        def line(b: Index, i: Index, c: Index) -> tirx.Stmt:
            value = _sum(taps[last], i, lambda k: row.at((b * narrow + k) * inner + c))
            return y.put((target + b * wide + i) * y_line + c, value)

        if inner == 1:
            return sequence([*steps, loop(before, lambda b: vectors(wide, lanes, lambda i: line(b, i, 0)))])
        return sequence([*steps, loop(before, lambda b: loop(
            wide, lambda i: vectors(inner, lanes, lambda c: line(b, i, c))))])  # fmt: skip

    work = math.prod(op.shape) * 4
    return [*stmts, spread([Loop(outer, (1, 0)), Loop(wanted, (0, 1))], task, 2, work)]


def _pass(op: Resize, x: Array, y: Array, shape: tuple[int, ...], axis: int, taps: tuple[Array, Array, int],
          lanes: int) -> tirx.Stmt:  # fmt: skip
    """One axis of x sampled anew, to an array y of ``shape``."""
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    size, wanted = op.inputs[0].shape[axis], shape[axis]
    work = 4 * math.prod(shape)
    # Where rows of channels lie apart, each goes on its own.
    line = shape[-1] if x.rows or y.rows else inner
    lines = inner // line
    x_line, y_line = (array.rows[1] if array.rows else line for array in (x, y))

    def element(o: Index, i: Index, r: Index, c: Index) -> tirx.Stmt:
        value = _sum(taps, i, lambda k: x.at(((o * size + k) * lines + r) * x_line + c))
        return y.put(((o * wanted + i) * lines + r) * y_line + c, value)

    if inner == 1:
        return along([Loop(outer, (1, 0)), Loop(wanted, (0, 1))], lanes,
                     lambda at, n: vectors(n, lanes, lambda i: element(at[0], at[1] + i, 0, 0)), work, 2)
    loops = [Loop(outer, (1, 0, 0, 0)), Loop(wanted, (0, 1, 0, 0)), Loop(lines, (0, 0, 1, 0))]
    return in_blocks(loops, Loop(line, (0, 0, 0, 1)), line, lambda at, n: vectors(
        n, lanes, lambda c: element(at[0], at[1], at[2], at[3] + c)), work)  # fmt: skip


def _sum(taps: tuple[Array, Array, int], i: Index, element: Callable[[tirx.Expr], tirx.Expr]) -> tirx.Expr:
    where, share, count = taps
    total = None
    for k in range(count):
        term = element(where.at(i * count + k)) * share.at(i * count + k)
        total = term if total is None else total + term
    return total if total is not None else v_.number(0, share.at(0))


def _outside(op: Resize, y: Array, lanes: int) -> list[tirx.Stmt]:
    """What lies outside of x is stored last."""
    stmts: list[tirx.Stmt] = []
    value = tirx.const(op.extrapolation, y.kind)
    # TVM does not turn a bfloat16 that all lanes have into bits, as it does any other.
    each = loop if y.dtype == "bfloat16" else partial(vectors, lanes=lanes)
    for axis in op.axes:
        beyond = np.flatnonzero(~op.taps(axis)[2])
        if not len(beyond):
            continue
        inner = math.prod(op.shape[axis + 1 :])
        outer = math.prod(op.shape[:axis])
        where, made = table(beyond * inner, "int32")

        def rows(at: tuple[Index, ...], width: int, where: Array = where, step: int = inner * op.shape[axis]):
            return each(width, body=lambda i: y.put(at[0] * step + where.at(at[1]) + at[2] + i, value))

        loops = [Loop(outer, (1, 0, 0)), Loop(len(beyond), (0, 1, 0)), Loop(inner, (0, 0, 1))]
        stmts += [*made, along(loops, lanes, rows, outer * len(beyond) * inner, 3)]
    return stmts
