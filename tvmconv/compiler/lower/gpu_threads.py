"""Loops spread over the threads of a GPU.

``tvmconv.spread = [n, threads]`` on a loop makes blocks and threads of it and the n - 1 loops directly
inside, as one, the innermost fastest. TVM's own ``bind`` of a fused loop refuses stages computed at it, and
would guard every statement if threads are left over; here one condition encloses all of them.
"""

from __future__ import annotations

import tvm
from tvm import tirx

from tvmconv.compiler.lower.rewrite import func_pass, substitute, with_parts

SPREAD = "tvmconv.spread"
_THREAD_INDEX = 1  # IterVar's type


def spread_loops(stmt: tirx.Stmt) -> tirx.Stmt:
    if isinstance(stmt, tirx.For) and SPREAD in stmt.annotations:
        count, threads = map(int, stmt.annotations[SPREAD])
        return _spread(stmt, count, threads)
    return with_parts(stmt, spread_loops)


def _spread(loop: tirx.For, count: int, threads: int) -> tirx.Stmt:
    loops = [loop]
    while len(loops) < count:
        loops.append(loops[-1].body)
        if not isinstance(loops[-1], tirx.For):
            raise AssertionError(f"{SPREAD} of {count} loops from {loop.loop_var}: not directly nested")
    total = 1
    for each in loops:
        total *= int(each.extent)
    blocks = -(-total // threads)
    block, thread = tirx.Var("blockIdx_x", "int32"), tirx.Var("threadIdx_x", "int32")
    index, body, inner = block * threads + thread, loops[-1].body, 1
    for each in reversed(loops):
        extent = int(each.extent)
        at = tirx.floordiv(index, inner) if inner > 1 else index
        at = tirx.floormod(at, extent) if inner * extent < total else at
        body = substitute(body, each.loop_var, at)
        inner *= extent
    if blocks * threads > total:
        body = tirx.IfThenElse(index < total, body, None)
    for var, extent, tag in ((thread, threads, "threadIdx.x"), (block, blocks, "blockIdx.x")):
        axis = tirx.IterVar(tvm.ir.Range(0, extent), var, _THREAD_INDEX, tag)
        body = tirx.AttrStmt(axis, "thread_extent", tirx.const(extent, "int32"), body)
    return body


SpreadLoops = func_pass("tvmconv.SpreadLoops", spread_loops)
