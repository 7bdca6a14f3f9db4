"""Weights, and x, asked for before they are needed.

A network's weights come from memory; what the CPU fetches ahead by itself ends at each page, and it follows
few rows at once.

``tvmconv.ahead = [steps, bytes]`` on a loop: each iteration asks for so many bytes of the weights that the
one so many steps later reads.

``tvmconv.next = elements`` on a loop inside one with ``tvmconv.passes``, each of whose iterations reads all
of the same panel of so many weights: together they ask for the panel after it, each iteration of these loops
and of those between for an equal share, so that memory has the time of all passes to send it.

``tvmconv.rows = [length, count]`` on a loop whose iterations read ``count`` rows of x each, which begin
``length`` elements apart, inside a loop with ``tvmconv.strips = elements``, each of whose iterations reads so
many of each row, from where the one before left off: together they ask for the rows' next strip, in each
iteration of the loops between them for an equal share.

Past the last weights, or rows, this asks for what lies there: often the next layer's. It never faults.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.base.memory import LINE
from tvmconv.compiler.lower.rewrite import func_pass, sequence, substitute, with_body, with_parts

AHEAD = "tvmconv.ahead"
NEXT = "tvmconv.next"
PASSES = "tvmconv.passes"
ROWS = "tvmconv.rows"
STRIPS = "tvmconv.strips"
_WEIGHTS, _X = "w", "x"


def _asking(stmt: tirx.Stmt, around: Sequence[tirx.For] = ()) -> tirx.Stmt:
    """``stmt``, inside the loops ``around``, with what annotations say."""
    if not isinstance(stmt, tirx.For):
        return with_parts(stmt, lambda part: _asking(part, around))
    body, asked = _asking(stmt.body, [*around, stmt]), []
    if AHEAD in stmt.annotations:
        asked += _ahead(stmt, *(int(n) for n in stmt.annotations[AHEAD]))
    if NEXT in stmt.annotations and (passes := _within(around, PASSES)):
        asked += _share(stmt, passes, int(stmt.annotations[NEXT]))
    if ROWS in stmt.annotations and (loops := _within(around, STRIPS)):
        asked += _next_strip(stmt, loops, *(int(n) for n in stmt.annotations[ROWS]))
    return with_body(stmt, sequence([*asked, body]))


def _within(around: Sequence[tirx.For], key: str) -> Sequence[tirx.For]:
    """The innermost loop with this annotation, and those in it."""
    return next((around[at:] for at in reversed(range(len(around))) if key in around[at].annotations), ())


def _ahead(loop: tirx.For, steps: int, size: int) -> list[tirx.Stmt]:
    buffer, first = _first(loop, loop.loop_var + steps)
    return _lines(buffer, first, 0, size)


def _share(loop: tirx.For, around: Sequence[tirx.For], panel: int) -> list[tirx.Stmt]:
    buffer, first = _first(around[0], around[0].min)
    item = tvm.DataType(str(buffer.dtype)).itemsize
    done, passes = _done([*around, loop])
    share = -(-panel // passes)
    return _lines(buffer, first, panel + done * share, share * item)


def _next_strip(loop: tirx.For, around: Sequence[tirx.For], length: int, count: int) -> list[tirx.Stmt]:
    strips, *between = around
    elements = int(strips.annotations[STRIPS])
    buffer, first = _first(strips, strips.loop_var + 1, _X)
    done, passes = _done(between)
    share, row = -(-elements // passes), (loop.loop_var - loop.min) * count
    size = share * tvm.DataType(str(buffer.dtype)).itemsize
    return [
        line
        for one in range(count)
        for line in _lines(buffer, first, (row + one) * length + done * share, size)
    ]


def _done(loops: Sequence[tirx.For]) -> tuple[tirx.Expr, int]:
    """How many iterations of nested loops were before this one, and how many there are."""
    done, count = tirx.const(0, "int32"), 1
    for loop in loops:
        done = done * loop.extent + loop.loop_var - loop.min
        count *= int(loop.extent)
    return done, count


def _first(loop: tirx.For, at: tirx.Expr, name: str = _WEIGHTS) -> tuple[tirx.Buffer, list[tirx.Expr]]:
    """The weights, or another array, and the indices of the first that ``loop`` reads in the iteration
    ``at``."""
    inner: list[tirx.For] = []
    loads: list[tvm.ir.TensorLoad] = []
    tvm_ffi.structural_walk(loop.body, [(tirx.For, inner.append), (tvm.ir.TensorLoad, loads.append)])
    load = next(load for load in loads if load.source.name == name)
    indices = list(load.indices)
    for var, value in [*((each.loop_var, each.min) for each in inner), (loop.loop_var, at)]:
        indices = [substitute(index, var, value) for index in indices]
    return load.source, indices


def _lines(buffer: tirx.Buffer, first: list, offset: tirx.Expr | int, size: int) -> list[tirx.Stmt]:
    """Ask for each line of ``size`` bytes, ``offset`` elements after the one of indices ``first``."""
    item = tvm.DataType(str(buffer.dtype)).itemsize
    *outer, last = first
    return [_ask(buffer, [*outer, last + offset + at // item]) for at in range(0, size, LINE)]


def _ask(buffer: tirx.Buffer, indices: list[tirx.Expr]) -> tirx.Stmt:
    place = tirx.address_of(tirx.BufferLoad(buffer, indices))
    hints = (tirx.const(n, "int32") for n in (0, 2, 1))  # to read, into the core's second cache, data
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", place, *hints))


AskAhead = func_pass("tvmconv.AskAhead", _asking)
"""Before loops are peeled and unrolled, on arrays not flattened yet."""
