"""Weights asked for before they are needed.

``tvmconv.ahead = [steps, bytes]`` on a loop: each iteration asks for so many bytes of the weights that the
one so many steps later reads. A network's weights come from memory, in the order of the loop; what the CPU
fetches ahead by itself ends at each page.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.rewrite import func_pass, sequence, substitute, with_body

AHEAD = "tvmconv.ahead"
_LINE = 64  # bytes of a cache line
_WEIGHTS = "w"


def _asking(loop: tirx.For) -> tirx.Stmt:
    if AHEAD not in loop.annotations:
        return loop
    steps, size = (int(n) for n in loop.annotations[AHEAD])
    inner: list[tirx.For] = []
    loads: list[tvm.ir.TensorLoad] = []
    tvm_ffi.structural_walk(loop.body, [(tirx.For, inner.append), (tvm.ir.TensorLoad, loads.append)])
    load = next(load for load in loads if load.source.name == _WEIGHTS)
    (index,) = load.indices
    for each in inner:
        index = substitute(index, each.loop_var, each.min)
    index = substitute(index, loop.loop_var, loop.loop_var + steps)
    item = tvm.DataType(str(load.source.dtype)).itemsize
    asked = [_ask(load.source, index + at // item) for at in range(0, size, _LINE)]
    return with_body(loop, sequence([*asked, loop.body]))


def _ask(buffer: tirx.Buffer, index: tirx.Expr) -> tirx.Stmt:
    place = tirx.address_of(tirx.BufferLoad(buffer, [index]))
    hints = (tirx.const(n, "int32") for n in (0, 2, 1))  # to read, into the core's second cache, data
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", place, *hints))


AskAhead = func_pass(
    "tvmconv.AskAhead", lambda body: tvm_ffi.structural_map(body, [(tirx.For, _asking)])
)
