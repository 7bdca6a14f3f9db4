"""Short copies as vectors.

LLVM turns a loop that copies a few elements into a memcpy, unrolls the loops around it, and then takes up to
half a minute for a few hundred of these in a row: longest with few registers or no vectors.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.rewrite import func_pass, sequence, substitute

_LONGEST = 64  # iterations; loops around longer copies are not unrolled
_BYTES = 16


def _in_vectors(loop: tirx.For) -> tirx.Stmt:
    size = _copied(loop)
    if size is None or not 1 < int(loop.extent) <= _LONGEST:
        return loop
    lanes, count, parts = _BYTES // size, int(loop.extent), []
    for start in range(0, count, lanes):
        width = min(lanes, count - start)
        lane = tirx.Var(loop.loop_var.name, loop.loop_var.ty.dtype)
        body = substitute(loop.body, loop.loop_var, lane + loop.min + start)
        parts.append(tirx.For(lane, 0, width, tirx.ForKind.VECTORIZED if width > 1 else loop.kind, body))
    return sequence(parts)


def _copied(loop: tirx.For) -> int | None:
    """Bytes of an element, if the loop copies contiguous elements to contiguous places."""
    store, known = loop.body, isinstance(loop.extent, tirx.IntImm) and loop.kind == tirx.ForKind.SERIAL
    if not known or not isinstance(store, tirx.BufferStore) or loop.annotations:
        return None
    load = store.value
    if not isinstance(load, tvm.ir.TensorLoad):
        return None
    if _follow(store.indices, loop.loop_var) and _follow(load.indices, loop.loop_var):
        return tvm.DataType(str(store.buffer.dtype)).itemsize
    return None


def _follow(indices: list[tirx.Expr], var: tirx.Var) -> bool:
    """Whether elements at ``indices`` are contiguous along ``var``."""
    *outer, last = indices
    rest = tvm.sym.Analyzer().simplify(last - var)
    return not any(_uses(index, var) for index in (*outer, rest))


def _uses(expr: tirx.Expr, var: tirx.Var) -> bool:
    found: list[bool] = []
    tvm_ffi.structural_walk(expr, [(tirx.Var, lambda v: found.append(v.same_as(var)))])
    return any(found)


CopyInVectors = func_pass(
    "tvmconv.CopyInVectors", lambda body: tvm_ffi.structural_map(body, [(tirx.For, _in_vectors)])
)
