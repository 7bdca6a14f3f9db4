"""What compiled code keeps on the stack: register tiles, and the registers that LLVM spills there."""

from __future__ import annotations

from math import prod

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.base.memory import LINE
from tvmconv.compiler.lower.rewrite import func_pass, sequence, with_body, with_parts

_MOST = 1 << 14  # bytes; far too much for registers, and threads may have small stacks


# Register tiles stay on the stack, from where LLVM takes them into registers. TVM would allocate each from
# the workspace, once per task and tile, and LLVM would then have to write its sums there although nobody
# reads them. What does stay in memory (the sums that AMX stores) is made of vectors: TVM places elements at
# multiples of 16 bytes, from where each row would cross a cache line.
def _kept(alloc: tirx.AllocBuffer) -> tirx.Stmt:
    buffer = alloc.buffer
    size = prod(int(n) for n in buffer.shape) * tvm.DataType(str(buffer.dtype)).itemsize
    if buffer.scope() != "local" or size > _MOST:
        return alloc
    on_stack = {**alloc.annotations, "disable_lower_builtin": tirx.const(1, "bool")}
    if size % LINE:
        return tirx.AllocBuffer(buffer, on_stack)
    lines = tirx.decl_buffer((size // LINE,), f"int32x{LINE // 4}", f"{buffer.name}_lines", scope="local")
    return sequence(
        [tirx.AllocBuffer(lines, on_stack), tirx.DeclBuffer(buffer, data=tirx.buffer_data(lines))]
    )


KeepTiles = func_pass(
    "tvmconv.KeepTiles", lambda body: tvm_ffi.structural_map(body, [(tirx.AllocBuffer, _kept)])
)


# LLVM aligns the frame for vectors that it spills only where it had a frame pointer from the start. Without
# one they lie at multiples of 16, and if one crosses a cache line, or a page, each use of it stalls: the
# kernel's speed is then a matter of chance. Taking the address of the frame forces a frame pointer;
# prefetching from it, which is already cached, is the cheapest use of the address.
def _framed(body: tirx.Stmt) -> tirx.Stmt:
    frame = tirx.call_llvm_intrin("handle", "llvm.frameaddress", tirx.const(0, "int32"))
    hints = (tirx.const(n, "int32") for n in (0, 3, 1))  # to read, into all caches, data
    return sequence([tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", frame, *hints)), body])


def _align(stmt: tirx.Stmt) -> tirx.Stmt:
    """The bodies of what becomes a separate function in LLVM, ``_framed``."""
    if isinstance(stmt, tirx.For) and stmt.kind == tirx.ForKind.PARALLEL:
        return with_body(stmt, _framed(stmt.body))
    if isinstance(stmt, tirx.AttrStmt) and stmt.attr_key == "compute_scope":
        return with_body(stmt, _framed(_align(stmt.body)))
    return with_parts(stmt, _align)


AlignSpills = func_pass("tvmconv.AlignSpills", _align)
