"""Tiles transposed in registers.

An unrolled loop that stores vectors, whose lanes it loads from as many rows of a tile while the loop itself
goes along the rows, would load them element by element. Here the rows are loaded as vectors, and exchange
elements by shuffles: first within 16 bytes, which every machine does in one instruction, then of whole
16-byte units.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.rewrite import func_pass, sequence, substitute
from tvmconv.compiler.lower.words import READS, lanes_of, own_op

_FEWEST = 2  # iterations, and lanes, for which it pays
# Around the value of a variable: TVM's simplifier inlines whatever has no side effects wherever it is named,
# and turns shuffles of shuffles into trees of thousands of nodes.
_HELD = "tvmconv.held"
_STORED = {"bfloat16": "uint16"}  # in the end, when TVM would leave the types of variables as they were


def _crossed(loop: tirx.For) -> tirx.Stmt:
    if loop.kind != tirx.ForKind.UNROLLED or int(loop.extent) < _FEWEST:
        return loop
    if not isinstance(loop.body, tirx.BufferStore):
        return loop
    loads = _loads_across(loop)
    if not loads:
        return loop
    parts, first, count = [], int(loop.min), int(loop.extent)
    while count:
        lanes = lanes_of(loads[0])
        width = min(1 << (count.bit_length() - 1), max(16, lanes))
        parts += _chunk(loop, loads, first, width)
        first, count = first + width, count - width
    return sequence(parts)


def _loads_across(loop: tirx.For) -> list[tvm.ir.TensorLoad]:
    """The loads with strided lanes, whose neighbours in memory are loaded by the next iterations."""
    found: list[tvm.ir.TensorLoad] = []
    analyzer, var = tvm.sym.Analyzer(), loop.loop_var

    def note(load: tvm.ir.TensorLoad) -> None:
        if len(load.indices) != 1 or not isinstance(load.indices[0], tirx.Ramp):
            return
        (index,) = load.indices
        if not isinstance(index.stride, tirx.IntImm) or index.stride.value < _FEWEST:
            return
        after = substitute(index.base, var, var + tirx.const(1, var.ty.dtype))
        step = analyzer.simplify(after - index.base)
        if isinstance(step, tirx.IntImm) and step.value == 1 and index.stride.value >= int(loop.extent):
            found.append(load)

    tvm_ffi.structural_walk(loop.body.value, [(tvm.ir.TensorLoad, note)])
    return found


def _chunk(loop: tirx.For, loads: Sequence[tvm.ir.TensorLoad], first: int, width: int) -> list[tirx.Stmt]:
    """The iterations [first, first + width) of ``loop``."""
    var = loop.loop_var
    stmts: list[tirx.Stmt] = []
    columns: list[list[tirx.Expr]] = []
    for load in loads:
        index, kind = load.indices[0], str(load.source.dtype)
        base = substitute(index.base, var, tirx.const(first, var.ty.dtype))
        rows = []
        for lane in range(int(index.lanes)):
            at = base + index.stride * lane
            row = tirx.BufferLoad(load.source, [tirx.Ramp(at, 1, width) if width > 1 else at])
            rows.append(_seen_as(_STORED.get(kind, kind), row))
        columns.append([_seen_as(kind, column) for column in _transposed(rows, width, kind, stmts)])
    if _is_long(loop.body.value):
        return [*stmts, *_looped(loop, loads, columns, first)]
    for k in range(width):
        own = [column[k] for column in columns]
        store = substitute(_with(loop.body, loads, own), var, tirx.const(first + k, var.ty.dtype))
        stmts.append(_renamed(store))
    return stmts


def _seen_as(kind: str, value: tirx.Expr) -> tirx.Expr:
    """The same bits as elements of another type."""
    lanes = lanes_of(value)
    asked = kind if lanes == 1 else f"{kind}x{lanes}"
    return value if str(value.ty.dtype) == asked else tirx.reinterpret(asked, value)


def _with(
    store: tirx.BufferStore, loads: Sequence[tvm.ir.TensorLoad], values: Sequence[tirx.Expr]
) -> tirx.BufferStore:
    """``store`` with each of ``values`` in the place of its load."""

    def swap(load: tvm.ir.TensorLoad) -> tirx.Expr:
        return next((v for known, v in zip(loads, values, strict=True) if load.same_as(known)), load)

    return tvm_ffi.structural_map(store, [(tvm.ir.TensorLoad, swap)])


def _looped(
    loop: tirx.For, loads: Sequence[tvm.ir.TensorLoad], columns: Sequence[Sequence[tirx.Expr]], first: int
) -> list[tirx.Stmt]:
    """The iterations from ``first`` on, in a loop, since the stored expression takes LLVM long; ``columns``
    of the loads in arrays on the stack."""
    var = loop.loop_var
    stmts: list[tirx.Stmt] = []
    own: list[tirx.Expr] = []
    for load, column in zip(loads, columns, strict=True):
        lanes = lanes_of(column[0])
        apart = 1 << (lanes - 1).bit_length()
        buffer = tirx.decl_buffer((len(column) * apart,), str(load.source.dtype), "crossed", scope="local")
        stmts.append(tirx.AllocBuffer(buffer))
        for k, value in enumerate(column):
            stmts.append(tirx.BufferStore(buffer, value, [tirx.Ramp(k * apart, 1, lanes)]))
        own.append(tirx.BufferLoad(buffer, [tirx.Ramp((var - first) * apart, 1, lanes)]))
    fresh = tirx.Var(var.name, var.ty.dtype)
    store = _renamed(substitute(_with(loop.body, loads, own), var, fresh))
    start, count = (tirx.const(n, var.ty.dtype) for n in (first, len(columns[0])))
    return [*stmts, tirx.For(fresh, start, count, tirx.ForKind.SERIAL, store)]


def _is_long(value: tirx.Expr) -> bool:
    """Whether an expression has names for its parts, as polynomials and exponentials have."""
    found: list[tirx.Let] = []
    tvm_ffi.structural_walk(value, [(tirx.Let, found.append)])
    return bool(found)


def _renamed(store: tirx.BufferStore) -> tirx.BufferStore:
    """``store`` with its own variables, if its value has any."""
    bound: list[tirx.Var] = []
    tvm_ffi.structural_walk(store.value, [(tirx.Let, lambda let: bound.append(let.var))])
    fresh = [tirx.Var(v.name, v.ty.dtype) for v in bound]

    def swap(v: tirx.Var) -> tirx.Var:
        return next((new for old, new in zip(bound, fresh, strict=True) if v.same_as(old)), v)

    return tvm_ffi.structural_map(store, [(tirx.Var, swap)]) if bound else store


def _transposed(rows: list[tirx.Expr], width: int, kind: str, stmts: list[tirx.Stmt]) -> list[tirx.Expr]:
    """Vector k of the result has element k of each of ``rows``, vectors of ``width``, a power of two."""
    height = len(rows)
    whole = 1 << (height - 1).bit_length()
    unit = max(1, 16 // tvm.DataType(kind).itemsize)  # elements that are exchanged before wholes of them are
    unit = min(unit, width, whole)

    def bound(value: tirx.Expr) -> tirx.Expr:
        var = tirx.Var("t", value.ty.dtype)
        stmts.append(tirx.Bind(var, tvm.ir.Call(own_op(_HELD, READS), [value], ret_ty=value.ty)))
        return var

    def mixed(vectors: Sequence[tirx.Expr], places: Sequence[int]) -> tirx.Expr:
        return bound(tirx.Shuffle(list(vectors), [tirx.const(at, "int32") for at in places]))

    rows = [bound(row) for row in rows]
    rows += [rows[-1]] * (whole - height)
    result: list[tirx.Expr] = [rows[0]] * width

    def cross_units(vectors: list[tirx.Expr], size: int) -> list[list[tirx.Expr]]:
        """For each column of a unit: vectors whose units have that column of ``unit`` rows, by rounds that
        interleave pairs of vectors in runs of ``size``."""
        if size == unit:
            return [vectors]
        found = []
        for half in (0, unit // 2):
            places = [
                which * width + at + half + run + e
                for at in range(0, width, unit)
                for run in range(0, unit // 2, size)
                for which in (0, 1)
                for e in range(size)
            ]
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            found += cross_units([mixed(pair, places) for pair in pairs], size * 2)
        return found

    def cross_wholes(vectors: list[tirx.Expr], column: int, step: int) -> None:
        """Collect, from each of ``vectors``, the units of ``column`` and those that are ``step`` apart."""
        if step == width:
            while len(vectors) > 1:
                every = range(2 * lanes_of(vectors[0]))
                vectors = [mixed(pair, every) for pair in zip(vectors[::2], vectors[1::2], strict=True)]
            result[column] = vectors[0]
            return
        for odd in (0, 1):
            taken = []
            for at in range(0, len(vectors), 2):
                pair = vectors[at : at + 2]
                units = len(pair) * lanes_of(pair[0]) // unit
                taken.append(mixed(pair, [u * unit + e for u in range(odd, units, 2) for e in range(unit)]))
            cross_wholes(taken, column + odd * step, step * 2)

    groups = [cross_units(rows[at : at + unit], 1) for at in range(0, whole, unit)]
    for column in range(unit):
        cross_wholes([group[column][0] for group in groups], column, unit)
    if height < whole:
        result = [mixed([vector], range(height)) for vector in result]
    return result


CrossTiles = func_pass(
    "tvmconv.CrossTiles", lambda body: tvm_ffi.structural_map(body, [(tirx.For, _crossed)])
)


def _let_go(call: tvm.ir.Call) -> tirx.Expr:
    return call.args[0] if isinstance(call.op, tvm.ir.Op) and call.op.name == _HELD else call


LetGo = func_pass(
    "tvmconv.LetGo", lambda body: tvm_ffi.structural_map(body, [(tvm.ir.Call, _let_go)])
)  # what CrossTiles held, when nothing is left to simplify
