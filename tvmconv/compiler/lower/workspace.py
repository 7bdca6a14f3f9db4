"""The memory a kernel uses besides its arrays: read from lowered code, and kept below a bound."""

from __future__ import annotations

from math import prod

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.base.errors import SpecError
from tvmconv.compiler.lower.kept import LAUNCH
from tvmconv.specs.checks import MOST_ELEMENTS

_HEAD, _ALIGNED = 64, 64  # of each block, in support.c


def workspace_of(body: tirx.Stmt) -> tuple[int, int]:
    """Most bytes of workspace that lowered code holds at a time: those of the calling thread, and those of
    each thread, the calling one too, in a parallel loop."""
    if isinstance(body, tirx.SeqStmt):
        held = most = each = 0
        for stmt in body.seq:
            held += _asked(stmt)
            inside, of_threads = workspace_of(stmt)
            most, each = max(most, held + inside), max(each, of_threads)
        return most, each
    if isinstance(body, tirx.For):
        inside, each = workspace_of(body.body)
        return (0, inside + each) if body.kind == tirx.ForKind.PARALLEL else (inside, each)
    if isinstance(body, tirx.AttrStmt | tirx.While):
        inside, each = workspace_of(body.body)
        return (0, inside + each) if getattr(body, "attr_key", "") == LAUNCH else (inside, each)
    if isinstance(body, tirx.IfThenElse):
        cases = [workspace_of(case) for case in (body.then_case, body.else_case) if case is not None]
        return max(c[0] for c in cases), max(c[1] for c in cases)
    return 0, 0


def _asked(stmt: tirx.Stmt) -> int:
    """Bytes of the block that a statement takes from the workspace; 0 if it takes none."""
    data = stmt.data if isinstance(stmt, tirx.DeclBuffer) else None
    if not isinstance(data, tvm.ir.Call) or not data.op.name.endswith("TVMBackendAllocWorkspace"):
        return 0
    asked = int(data.args[2])
    return -(-asked // _ALIGNED) * _ALIGNED + _HEAD


def check_indices(mod: tvm.IRModule) -> None:
    """Raises SpecError if an array, not flattened yet, has more elements than 32-bit indices can reach."""
    for func in mod.functions.values():
        made: list[tirx.AllocBuffer] = []
        tvm_ffi.structural_walk(func.body, [(tirx.AllocBuffer, made.append)])
        for buffer in (*func.params, *(alloc.buffer for alloc in made)):
            elements = prod(int(n) for n in buffer.shape)
            if elements > MOST_ELEMENTS:
                what = f"{buffer.name}: {elements} elements in the kernel, expected at most {MOST_ELEMENTS}"
                raise SpecError(f"{what} (32-bit indices)")
