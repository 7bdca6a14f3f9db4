"""reduce: each row in one pass; where an extreme is, in two, the second for the first place that is equal."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from tvm import tirx

from tvmconv.base.dtypes import FLOATS
from tvmconv.compiler.codegen.nest import Array, Index, computed, further, itemsize, merged
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.operators import values as v_
from tvmconv.compiler.operators.rows import Rows, by_rows
from tvmconv.compiler.operators.values import is_float, number
from tvmconv.schedules.machines import Machine
from tvmconv.specs.operators import Reduce, Type
from tvmconv.specs.operators.copy import strides

_X, _Y, _PLACE = range(3)


def stored(type_: Type) -> Type:
    """Flags as bytes, whose extremes are theirs."""
    return Type(type_.shape, "uint8" if type_.dtype == "bool" else type_.dtype)


def body(op: Reduce, machine: Machine, inputs: list[Array], outputs: list[Array]) -> tirx.Stmt:
    """The kernel's body."""
    (x,), (y,) = inputs, outputs
    shape = op.inputs[0].shape
    kept = [1 if axis in op.axes else size for axis, size in enumerate(shape)]
    to = [0 if axis in op.axes else step for axis, step in enumerate(strides(kept))]
    place = [int(axis in op.axes) * math.prod(n for a, n in enumerate(shape) if a in op.axes and a > axis)
             for axis in range(len(shape))]  # fmt: skip
    loops = merged(shape, x.steps(strides(shape)), y.steps(to), place)
    task = _argument if op.operation.startswith("arg") else _plain
    # A loop over what is kept moves y, if there is any.
    return by_rows(loops, lambda one: one.steps[_Y] > 0, machine.lanes(itemsize(x.dtype)), 3,
                   lambda rows: task(op, rows, x, y), 2 * op.inputs[0].size)  # fmt: skip


def _plain(op: Reduce, rows: Rows, x: Array, y: Array) -> tirx.Stmt:
    start, join, term = _OPERATIONS[op.operation]
    first = start(computed(x.dtype))
    sums, stmts = rows.folded(first, join, lambda at, _: term(x.at(at[_X])))
    count = math.prod(op.inputs[0].shape[axis] for axis in op.axes)

    def finished(total: tirx.Expr) -> tirx.Expr:
        if op.operation == "l2":
            return tirx.sqrt(total)
        if op.operation != "mean":
            return total
        if is_float(total):
            return total * number(1 / count if count else math.nan, total)
        wide = total.astype("int64")
        return tirx.truncdiv(wide, tirx.const(max(count, 1), "int64")).astype(x.dtype)

    return sequence([*stmts, _results(rows, y, lambda row: finished(sums.at(row)))])


def _argument(op: Reduce, rows: Rows, x: Array, y: Array) -> tirx.Stmt:
    start, join, _ = _OPERATIONS["max" if op.operation == "argmax" else "min"]
    best, stmts = rows.folded(start(computed(x.dtype)), join, lambda at, _: x.at(at[_X]))
    nowhere = tirx.const(-1 if op.last else op.inputs[0].shape[op.axes[0]], "int32")

    def place(at: tuple[Index, ...], row: Index) -> tirx.Expr:
        def found(value: tirx.Expr) -> tirx.Expr:
            same = tirx.EQ(value, best.at(row))
            if is_float(value):
                same = tirx.Or(same, tirx.isnan(value))
            here = at[_PLACE] if not isinstance(at[_PLACE], int) else tirx.const(at[_PLACE], "int32")
            return tirx.Select(same, here, nowhere)

        return v_.once(x.at(at[_X]), found)

    where, more = rows.folded(nowhere, tirx.max if op.last else tirx.min, place)
    return sequence([*stmts, *more, _results(rows, y, lambda row: where.at(row).astype("int64"))])


def _results(rows: Rows, y: Array, value: Callable[[Index], tirx.Expr]) -> tirx.Stmt:
    step = 0 if rows.along else rows.inner.steps[_Y]
    return rows.every(lambda row: y.put(further(rows.at[_Y], row, step), value(row)))


def _extreme(largest: bool) -> Callable[[str], tirx.Expr]:
    def of(dtype: str) -> tirx.Expr:
        if dtype in FLOATS:
            return tirx.const(-math.inf if largest else math.inf, dtype)
        limits = np.iinfo(dtype)
        return tirx.const(int(limits.min if largest else limits.max), dtype)

    return of


def _same(value: tirx.Expr) -> tirx.Expr:
    return value


def _zero(dtype: str) -> tirx.Expr:
    return tirx.const(0, dtype)


# What a sum begins with, how two are joined, and what of an element is joined.
_OPERATIONS = {
    "sum": (_zero, v_.add, _same), "mean": (_zero, v_.add, _same),
    "prod": (lambda dtype: tirx.const(1, dtype), v_.mul, _same),
    "max": (_extreme(True), v_.largest, _same), "min": (_extreme(False), v_.least, _same),
    "l1": (_zero, v_.add, v_.absolute), "l2": (_zero, v_.add, lambda v: v * v),
}  # fmt: skip
