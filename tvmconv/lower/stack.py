"""Register tiles stay on the stack, from where LLVM takes them into registers.

TVM would ask the workspace for each, once a task and tile, and LLVM then has to write its sums there although
nobody reads them.
"""

from __future__ import annotations

from math import prod

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.lower.rewrite import func_pass

_MOST = 1 << 14  # bytes; of no use in registers by far, and threads may have small stacks


def _kept(alloc: tirx.AllocBuffer) -> tirx.AllocBuffer:
    buffer = alloc.buffer
    size = prod(int(n) for n in buffer.shape) * tvm.DataType(str(buffer.dtype)).itemsize
    if buffer.scope() != "local" or size > _MOST:
        return alloc
    return tirx.AllocBuffer(buffer, {**alloc.annotations, "disable_lower_builtin": tirx.const(1, "bool")})


KeepTiles = func_pass(
    "tvmconv.KeepTiles", lambda body: tvm_ffi.structural_map(body, [(tirx.AllocBuffer, _kept)])
)
