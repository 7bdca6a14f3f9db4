"""Arrays that a thread keeps from one iteration of a parallel loop to the next.

``tvmconv.kept = 1`` on a parallel loop: the arrays that its body begins with are made once for all the
iterations that a thread takes in a row, and hold in the next what they held in the one before. That one's
number is for the body to store, in the array called ``before``: at first it is `NONE`.
"""

from __future__ import annotations

import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.rewrite import func_pass, sequence

KEPT = "tvmconv.kept"
LAUNCH = "pragma_parallel_launch_point"  # of TVM: what is inside runs once for each task of the pool
BEFORE, NONE = "before", -2


def _kept(loop: tirx.For) -> tirx.Stmt:
    if KEPT not in loop.annotations:
        return loop
    stmts = list(loop.body.seq)
    count = next(at for at, stmt in enumerate(stmts) if not isinstance(stmt, tirx.AllocBuffer))
    made, rest = stmts[:count], stmts[count:]
    before = next(stmt.buffer for stmt in made if stmt.buffer.name == BEFORE)
    first = tirx.BufferStore(before, tirx.const(NONE, "int32"), [tirx.const(0, "int32")])
    inside = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, sequence(rest))
    zero, body = tirx.const(0, "int32"), sequence([*made, first, inside])
    return tirx.AttrStmt(zero, LAUNCH, zero, body)


KeepArrays = func_pass(
    "tvmconv.KeepArrays", lambda body: tvm_ffi.structural_map(body, [(tirx.For, _kept)])
)
