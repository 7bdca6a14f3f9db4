"""matmul: a task packs a panel of b's columns, and multiplies all rows of a, or a share of them, by it in
register tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tvm import tirx

from tvmconv.base.memory import LINE
from tvmconv.compiler.codegen.nest import (
    Array,
    Index,
    Loop,
    broadcast_steps,
    held,
    in_blocks,
    itemsize,
    loop,
    merged,
    moved,
    tile,
    vectors,
)  # fmt: skip
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.operators.copy import transposed as turned
from tvmconv.compiler.operators.values import number
from tvmconv.schedules.cpu.tiles import FEWEST_TASKS
from tvmconv.schedules.machines import Machine
from tvmconv.specs.operators import MatMul
from tvmconv.specs.operators.copy import strides

_VECTORS = 2  # of a panel's width
_MOST_ROWS = 8  # of a register tile


class Factor(NamedTuple):
    """A matrix: how far apart its rows and its columns are."""

    array: Array
    row: int
    column: int


Store = Callable[[tuple[Index, ...], tirx.Expr], tirx.Stmt]


def body(op: MatMul, machine: Machine, inputs: list[Array], outputs: list[Array]) -> tirx.Stmt:
    """The kernel's body."""
    (result,), (y,) = op.infer(), outputs
    *batch, rows, columns = result.shape
    inner = op.inputs[0].shape[-2 if op.transpose_a else -1]
    a, b = (
        Factor(array, *array.steps(strides(one.shape))[-2:][:: -1 if transposed else 1])
        for array, one, transposed in zip(inputs, op.inputs, (op.transpose_a, op.transpose_b), strict=False)
    )
    steps = [
        array.steps(broadcast_steps(one.shape, result.shape))
        for array, one in zip((y, *inputs[2:]), (result, *op.inputs[2:]), strict=True)
    ]
    of_batch = [
        array.steps([step * math.prod(one.shape[-2:]) for step in broadcast_steps(one.shape[:-2], batch)])
        for array, one in zip(inputs[:2], op.inputs[:2], strict=True)
    ]
    loops = merged(batch, *of_batch, *(of[:-2] for of in steps))

    def store(at: tuple[Index, ...], value: tirx.Expr) -> tirx.Stmt:
        return y.put(at[0], value + inputs[2].at(at[1]) if len(inputs) > 2 else value)

    return product((rows, inner, columns), a, b, loops, [of[-2:] for of in steps], store, machine)


def product(sizes: tuple[int, int, int], a: Factor, b: Factor, batch: Sequence[Loop],
            results: Sequence[Sequence[int]], store: Store, machine: Machine,
            start_of_b: int = 0) -> tirx.Stmt:  # fmt: skip
    """a (rows, inner) times b (inner, columns), for each iteration of ``batch``, whose steps are those of a,
    of b, and of each of ``results``, (row, column) steps of arrays that ``store(places, value)`` uses.
    ``start_of_b``: where b begins in its array."""
    rows, inner, columns = sizes
    kind = a.array.kind
    lanes = machine.lanes(itemsize(kind))
    block = min(_VECTORS * lanes, columns)
    high = min(_MOST_ROWS, (machine.vector_registers - 3) // _VECTORS, rows)
    tasks = math.prod(one.size for one in batch) * -(-columns // block)
    pieces = min(-(-FEWEST_TASKS // tasks), -(-rows // high))
    share = -(-rows // (pieces * high)) * high  # rows of a task
    packs = b.column != 1 or share > 2 * high
    stmts = []

    def task(at: tuple[Index, ...], height: int, width: int) -> tirx.Stmt:
        """``height`` rows of a times a panel of ``width`` columns."""
        made: list[tirx.Stmt] = []
        panel = b.array, at[1], b.row
        if packs:
            packed, alloc = held(max(inner * width, 1), kind, "panel")
            panel, made = (packed, 0, width), [alloc]
            if b.column == 1 or width == 1:
                made.append(loop(inner, lambda k: vectors(width, lanes, lambda i: packed.put(
                    k * width + i, b.array.at(at[1] + k * b.row + i * b.column)))))  # fmt: skip
            else:
                made.append(turned(
                    b.array, packed, [], Loop(inner, (b.row, width)), Loop(width, (b.column, 1)), (at[1], 0),
                    lanes, LINE // itemsize(kind), 0))  # fmt: skip

        def part(first: int, count: int, tall: int) -> tirx.Stmt:
            return loop(count, lambda m: _tile(moved(at, tuple(
                (first + m * tall) * step for step in (a.row, 0, *(of[0] for of in results)))),
                tall, width, panel))  # fmt: skip

        if height >= high:
            made.append(part(0, height // high, high))
        if height % high:
            made.append(part(height // high * high, 1, height % high))
        return sequence(made)

    def _tile(at: tuple[Index, ...], tall: int, width: int, panel: tuple[Array, Index, int]) -> tirx.Stmt:
        sums, made = held(tall * width, kind, "sums")
        source, start, step = panel
        zero = number(0, sums.at(0))

        def term(k: Index, r: int) -> tirx.Stmt:
            left = a.array.at(at[0] + r * a.row + k * a.column)
            return tile(width, lanes, lambda i: sums.put(
                r * width + i, sums.at(r * width + i) + left * source.at(start + k * step + i)))  # fmt: skip

        def stored(r: int) -> tirx.Stmt:
            here = [place + r * of[0] for place, of in zip(at[2:], results, strict=True)]
            return tile(width, lanes, lambda i: store(
                tuple(place + i * of[1] if of[1] else place for place, of in zip(here, results, strict=True)),
                sums.at(r * width + i)))  # fmt: skip

        return sequence([
            made, *(tile(width, lanes, lambda i, r=r: sums.put(r * width + i, zero)) for r in range(tall)),
            loop(inner, lambda k: sequence([term(k, r) for r in range(tall)])),
            *(stored(r) for r in range(tall)),
        ])  # fmt: skip

    whole = columns // block
    for first, count, width in ((0, whole, block), (whole * block, 1, columns % block)):
        if not count * width:
            continue
        across = (0, b.column, *(of[1] for of in results))
        panels = Loop(count, tuple(step * block for step in across))
        start = [step * first for step in across]
        start[1] += start_of_b
        down = Loop(rows, (a.row, 0, *(of[0] for of in results)))

        def some(at: tuple[Index, ...], height: int, start: Any = start, width: int = width) -> tirx.Stmt:
            return task(moved(at, start), height, width)

        work = math.prod(one.size for one in batch) * rows * max(inner, 1) * count * width
        stmts.append(in_blocks([*batch, panels], down, min(share, rows), some, work))
    return sequence(stmts)


