"""Loop nests of operators, written down as they run: loops are few and fixed, so there is little to search.

Arrays are flat; ``steps`` say how far apart in each the neighbours along a loop are (0: the same element).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.base.dtypes import numpy_dtype
from tvmconv.compiler.lower.loops import PARALLEL, VECTORS
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.ops.casts import narrowed, widened
from tvmconv.schedules.cpu.tiles import FEWEST_TASKS, PARALLEL_MACS
from tvmconv.specs.operators import Type

Index = Any  # an int, or an int32 expression
_STACK = 1 << 13  # bytes of an array that may be on the stack


class Loop(NamedTuple):
    """A loop's iterations and its step in each array."""

    size: int
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Array:
    """A flat array. ``dtype``: of its elements; flags are bytes. ``kind``: of what is computed from them.
    ``rows``: (elements of a row, elements from one row to the next) where rows lie apart."""

    buffer: Any
    dtype: str
    rows: tuple[int, int] | None = None

    @property
    def kind(self) -> str:
        return computed(self.dtype)

    def steps(self, dense: Sequence[int]) -> list[int]:
        """Steps in it, from those in a dense array."""
        if self.rows is None:
            return list(dense)
        width, pitch = self.rows
        return [step if step < width else step // width * pitch for step in dense]

    def at(self, *index: Index) -> tirx.Expr:
        """An element as it is computed with."""
        value = tirx.BufferLoad(self.buffer, list(map(as_expr, index)))
        if self.dtype == "bool":
            return tirx.NE(value, tirx.const(0, "uint8"))
        return widened(value, self.kind) if self.kind != self.dtype else value

    def put(self, index: Index, value: tirx.Expr) -> tirx.Stmt:
        """Store a value, of ``kind`` or of the array's own type."""
        if self.dtype == "bool":
            value = tirx.Select(value, tirx.const(1, "uint8"), tirx.const(0, "uint8"))
        elif value.ty.dtype != self.dtype:
            value = narrowed(value, self.dtype)
        return tirx.BufferStore(self.buffer, value, list(map(as_expr, _several(index))))


def _several(index: Index) -> tuple[Index, ...]:
    return index if isinstance(index, tuple) else (index,)


def image(name: str, shape: Sequence[int], dtype: str) -> Array:
    """An argument of the kernel whose elements are found by pixel and channel: pixels may lie apart."""
    return Array(tirx.decl_buffer((prod(shape[:-1]), shape[-1]), dtype, name), dtype)


def computed(dtype: str) -> str:
    """The type in which elements of ``dtype`` are computed."""
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def itemsize(dtype: str) -> int:
    """Bytes of an element as it is computed with."""
    return int(numpy_dtype(computed(dtype)).itemsize)


def parameter(name: str, type_: Type, pitch: int = 0) -> Array:
    """An argument of the kernel, its rows every ``pitch`` elements unless that is 0."""
    stored, size, rows = "uint8" if type_.dtype == "bool" else type_.dtype, type_.size, None
    if pitch and size:
        rows = (type_.shape[-1] if type_.shape else 1, pitch)
        size = (size // rows[0] - 1) * pitch + rows[0]
    return Array(tirx.decl_buffer((max(size, 1),), stored, name), type_.dtype, rows)


def held(size: int, dtype: str, name: str = "held") -> tuple[Array, tirx.Stmt]:
    """An array of the kernel's own, and the statement that makes it: from there on it is there."""
    scope = "local" if size * itemsize(dtype) <= _STACK else "global"
    buffer = tirx.decl_buffer((size,), dtype, name, scope=scope)
    return Array(buffer, dtype), tirx.AllocBuffer(buffer)


def table(values: Iterable[Any], dtype: str) -> tuple[Array, list[tirx.Stmt]]:
    """An array of constants, and what makes it."""
    numbers = np.asarray(list(values)).tolist()
    array, made = held(len(numbers), dtype, "table")
    stmts = [made]
    for start in range(0, len(numbers), 8):
        part = [tirx.const(number, dtype) for number in numbers[start : start + 8]]
        if len(part) == 1:
            stmts.append(tirx.BufferStore(array.buffer, part[0], [start]))
        else:
            lanes = [tirx.const(lane, "int32") for lane in range(len(part))]
            where = [tirx.Ramp(start, 1, len(part))]
            stmts.append(tirx.BufferStore(array.buffer, tirx.Shuffle(part, lanes), where))
    return array, stmts


def merged(sizes: Sequence[int], *steps: Sequence[int]) -> list[Loop]:
    """The loops over ``sizes``, of which array k is gone through by ``steps[k]``: those of one iteration
    left out, those that are one in every array joined."""
    loops: list[Loop] = []
    for size, *own in zip(sizes, *steps, strict=True):
        if loops and size != 1 and loops[-1].steps == tuple(step * size for step in own):
            loops[-1] = Loop(loops[-1].size * size, tuple(own))
        elif size != 1:
            loops.append(Loop(size, tuple(own)))
    return loops


def broadcast_steps(shape: Sequence[int], to: Sequence[int]) -> list[int]:
    """The steps of a dense array of ``shape`` along the dims of the shape that it broadcasts to."""
    wide = (1,) * (len(to) - len(shape)) + tuple(shape)
    return [0 if size == 1 else prod(wide[dim + 1 :]) for dim, size in enumerate(wide)]


def places(loops: Sequence[Loop], indices: Sequence[Index], arrays: int) -> tuple[Index, ...]:
    """Where these iterations are in each of the arrays."""
    return tuple(
        _sum(index * loop.steps[k] for loop, index in zip(loops, indices, strict=True) if loop.steps[k])
        for k in range(arrays)
    )


def moved(at: Sequence[Index], by: Sequence[Index]) -> tuple[Index, ...]:
    """Places, each by as much further."""
    return tuple(_sum(pair) for pair in zip(at, by, strict=True))


def further(at: Index, i: Index, step: int) -> Index:
    """The place i iterations further on."""
    return at if not step else at + i if step == 1 else at + i * step


def loop(size: int, body: Callable[[Index], tirx.Stmt], kind: Any = tirx.ForKind.SERIAL,
         **annotations: Any) -> tirx.Stmt:  # fmt: skip
    """``body`` for each index below ``size``."""
    if size == 0:
        return tirx.Evaluate(tirx.const(0, "int32"))
    if size == 1:
        return body(0)
    var = tirx.Var("i", "int32")
    inside = body(var)
    if (kind == tirx.ForKind.VECTORIZED or VECTORS in annotations) and _calls_out(inside):
        kind, annotations = tirx.ForKind.SERIAL, {}
    return tirx.For(var, 0, size, kind, inside, annotations=annotations)


def _calls_out(stmt: tirx.Stmt) -> bool:
    """Whether a function of the C library is called, which has one lane: TVM takes a vector apart for that,
    but not where names stand for parts of an expression."""
    calls: list[tvm.ir.Call] = []
    tvm_ffi.structural_walk(stmt, [(tvm.ir.Call, calls.append)])
    return any(getattr(call.op, "name", "").endswith("call_pure_extern") for call in calls)


def vectors(size: int, lanes: int, body: Callable[[Index], tirx.Stmt]) -> tirx.Stmt:
    """``body`` for each index, in a loop over vectors."""
    return loop(size, body, **{VECTORS: lanes})


def tile(size: int, lanes: int, body: Callable[[Index], tirx.Stmt]) -> tirx.Stmt:
    """``body`` for each index, in vectors written out one after the other."""
    parts = []
    for start in range(0, size, lanes):
        width = min(lanes, size - start)
        parts.append(loop(width, lambda lane, start=start: body(start + lane), tirx.ForKind.VECTORIZED))
    return sequence(parts)


def nest(loops: Sequence[Loop], body: Callable[[tuple[Index, ...]], tirx.Stmt], arrays: int) -> tirx.Stmt:
    """``body`` at the places of each iteration of these loops."""

    def inside(rest: Sequence[Loop], at: tuple[Index, ...]) -> tirx.Stmt:
        if not rest:
            return body(at)
        return loop(rest[0].size, lambda i: inside(rest[1:], moved(at, places(rest[:1], [i], arrays))))

    return inside(loops, (0,) * arrays)


def spread(loops: Sequence[Loop], body: Callable[[tuple[Index, ...]], tirx.Stmt], arrays: int,
           work: float) -> tirx.Stmt:  # fmt: skip
    """As ``nest``, over the threads if so many multiply-adds, or what takes as long, are worth it."""
    turning = [one for one in loops if one.size > 1]
    stmt = nest(turning, body, arrays)
    if work < PARALLEL_MACS or not turning:
        return stmt
    annotations = {PARALLEL: len(turning)}
    return tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, stmt.body, annotations=annotations)


Body = Callable[[tuple[Index, ...], int], tirx.Stmt]


def in_blocks(outer: Sequence[Loop], inner: Loop, block: int, body: Body, work: float) -> tirx.Stmt:
    """``body(places, width)`` for each iteration of ``outer``, and each ``width``, at most ``block``,
    iterations of ``inner`` from ``places`` on; over the threads."""
    arrays, stmts = len(inner.steps), []
    whole = inner.size // block
    for first, count, width in ((0, whole, block), (whole * block, 1, inner.size % block)):
        if not count * width:
            continue
        blocks = Loop(count, tuple(step * block for step in inner.steps))
        start = tuple(step * first for step in inner.steps)

        def part(at: tuple[Index, ...], width: int = width, start: tuple[int, ...] = start) -> tirx.Stmt:
            return body(moved(at, start), width)

        stmts.append(spread([*outer, blocks], part, arrays, work * count * width / inner.size))
    return sequence(stmts)


def along(loops: Sequence[Loop], lanes: int, body: Body, work: float, arrays: int) -> tirx.Stmt:
    """As ``in_blocks``, of the innermost of ``loops``: whole, or, where the others are few, cut so that every
    thread has some."""
    *outer, inner = loops or [Loop(1, (0,) * arrays)]
    block = inner.size
    if work >= PARALLEL_MACS:
        pieces = -(-FEWEST_TASKS // prod(one.size for one in outer))
        block = min(block, -(-inner.size // (pieces * lanes)) * lanes)
    return in_blocks(outer, inner, block, body, work)


def in_tiles(size: int, most: int, body: Callable[[Index, int], tirx.Stmt]) -> tirx.Stmt:
    """``body(first, count)`` for tiles of ``most``, and what is left of ``size``."""
    parts = [loop(size // most, lambda p: body(p * most, most))] if size >= most else []
    if size % most:
        parts.append(body(size // most * most, size % most))
    return sequence(parts or [tirx.Evaluate(tirx.const(0, "int32"))])


def counted(extent: Any, body: Callable[[Index], tirx.Stmt]) -> tirx.Stmt:
    """``body`` for each index below an extent that is known at run time."""
    var = tirx.Var("i", "int32")
    return tirx.For(var, 0, extent, tirx.ForKind.SERIAL, body(var))


def named(name: str, value: tirx.Expr) -> tuple[tirx.Var, tirx.Stmt]:
    """A name for a value, and the statement after which it has it.

    By way of memory, which LLVM takes out again: TVM would try what it knows of the value on every index."""
    var, (array, made) = tirx.Var(name, "int32"), held(1, "int32", name)
    return var, sequence([made, array.put(0, value), tirx.Bind(var, array.at(0))])


def _sum(values: Iterable[Index]) -> Index:
    total: Index = 0
    for value in values:
        zero = isinstance(total, int) and total == 0
        total = value if zero else total + value
    return total


def as_expr(index: Index) -> tirx.Expr:
    """An index as an expression."""
    return tirx.const(index, "int32") if isinstance(index, int) else index
