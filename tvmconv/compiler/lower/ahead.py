"""Weights asked for before they are needed.

A network's weights come from memory; what the CPU fetches ahead by itself ends at each page.

``tvmconv.ahead = [steps, bytes]`` on a loop: each iteration asks for so many bytes of the weights that the
one so many steps later reads.

``tvmconv.next = elements`` on a loop that reads a panel of so many weights, inside a loop with
``tvmconv.passes``, each of whose iterations reads all of the same panel: together they ask for the panel
after it, each iteration for an equal share, so that memory has the time of all passes to send it.

Past the last weights this asks for what lies there: often the next layer's. It never faults.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.rewrite import func_pass, sequence, substitute, with_body

AHEAD = "tvmconv.ahead"
NEXT = "tvmconv.next"
PASSES = "tvmconv.passes"
_LINE = 64  # bytes of a cache line
_WEIGHTS = "w"


def _asking(stmt: tirx.Stmt, passes: tirx.For | None = None) -> tirx.Stmt:
    """``stmt``, inside the loop ``passes``, with what annotations say."""
    if isinstance(stmt, tirx.SeqStmt):
        return sequence([_asking(s, passes) for s in stmt.seq])
    if isinstance(stmt, tirx.AttrStmt):
        return with_body(stmt, _asking(stmt.body, passes))
    if isinstance(stmt, tirx.IfThenElse):
        orelse = None if stmt.else_case is None else _asking(stmt.else_case, passes)
        return tirx.IfThenElse(stmt.condition, _asking(stmt.then_case, passes), orelse)
    if not isinstance(stmt, tirx.For):
        return stmt
    body = _asking(stmt.body, stmt if PASSES in stmt.annotations else passes)
    if AHEAD in stmt.annotations:
        asked = _ahead(stmt, *(int(n) for n in stmt.annotations[AHEAD]))
    elif NEXT in stmt.annotations and passes is not None:
        asked = _share(stmt, passes, int(stmt.annotations[NEXT]))
    else:
        asked = []
    return with_body(stmt, sequence([*asked, body]))


def _ahead(loop: tirx.For, steps: int, size: int) -> list[tirx.Stmt]:
    buffer, first = _first(loop, loop.loop_var + steps)
    return _lines(buffer, first, 0, size)


def _share(loop: tirx.For, passes: tirx.For, panel: int) -> list[tirx.Stmt]:
    buffer, first = _first(loop, loop.min)
    item = tvm.DataType(str(buffer.dtype)).itemsize
    share = -(-panel // (int(loop.extent) * int(passes.extent)))
    step = (passes.loop_var - passes.min) * loop.extent + loop.loop_var - loop.min
    return _lines(buffer, first, panel + step * share, share * item)


def _first(loop: tirx.For, at: tirx.Expr) -> tuple[tirx.Buffer, list[tirx.Expr]]:
    """The weights, and the indices of the first that ``loop`` reads in the iteration ``at``."""
    inner: list[tirx.For] = []
    loads: list[tvm.ir.TensorLoad] = []
    tvm_ffi.structural_walk(loop.body, [(tirx.For, inner.append), (tvm.ir.TensorLoad, loads.append)])
    load = next(load for load in loads if load.source.name == _WEIGHTS)
    indices = list(load.indices)
    for var, value in [*((each.loop_var, each.min) for each in inner), (loop.loop_var, at)]:
        indices = [substitute(index, var, value) for index in indices]
    return load.source, indices


def _lines(buffer: tirx.Buffer, first: list, offset: tirx.Expr | int, size: int) -> list[tirx.Stmt]:
    """Ask for each line of ``size`` bytes, ``offset`` elements after the one of indices ``first``."""
    item = tvm.DataType(str(buffer.dtype)).itemsize
    *outer, last = first
    return [_ask(buffer, [*outer, last + offset + at // item]) for at in range(0, size, _LINE)]


def _ask(buffer: tirx.Buffer, indices: list[tirx.Expr]) -> tirx.Stmt:
    place = tirx.address_of(tirx.BufferLoad(buffer, indices))
    hints = (tirx.const(n, "int32") for n in (0, 2, 1))  # to read, into the core's second cache, data
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", place, *hints))


AskAhead = func_pass("tvmconv.AskAhead", _asking)
"""Before loops are peeled and unrolled, on arrays not flattened yet."""
