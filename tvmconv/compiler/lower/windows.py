"""Vector loads whose lanes lie near each other, in any order: one contiguous load, rearranged in registers.

For example a stride of two, or the input of every output channel of several groups: LLVM would load such a
vector element by element. The stretch goes from the first lane's element to the last one's, so nothing more
is read than before.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.rewrite import func_pass

_WIDEST = 8  # longer stretches would load too much that is not needed


def lane_of(index: tirx.Expr, lane: int) -> tirx.Expr:
    """The scalar index of one lane of a vector index."""

    def pick(node: tirx.Expr) -> tirx.Expr:
        if isinstance(node, tirx.Ramp):
            return lane_of(node.base, lane) + node.stride * lane
        return node.value if isinstance(node, tirx.Broadcast) else node

    return _rebuild(index, pick)


def _rebuild(expr: tirx.Expr, pick) -> tirx.Expr:
    """``expr`` with its vectors made scalars by ``pick``; None for what this pass does not know."""
    if isinstance(expr, tirx.Ramp | tirx.Broadcast):
        return pick(expr)
    if isinstance(expr, tirx.Add | tirx.Sub | tirx.Mul | tirx.FloorDiv | tirx.FloorMod):
        return _OPERATORS[type(expr)](_rebuild(expr.a, pick), _rebuild(expr.b, pick))
    return expr


_OPERATORS = {
    tirx.Add: lambda a, b: a + b,
    tirx.Sub: lambda a, b: a - b,
    tirx.Mul: lambda a, b: a * b,
    tirx.FloorDiv: tirx.floordiv,
    tirx.FloorMod: tirx.floormod,
}


def _as_window(load: tvm.ir.TensorLoad) -> tvm.ir.TensorLoad | tirx.Shuffle:
    if len(load.indices) != 1:
        return load
    index = load.indices[0]
    lanes = tvm.DataType(str(index.ty.dtype)).lanes
    if lanes == 1 or isinstance(index, tirx.Broadcast):
        return load
    if isinstance(index, tirx.Ramp) and isinstance(index.stride, tirx.IntImm) and index.stride.value == 1:
        return load
    analyzer = tvm.sym.Analyzer()
    at = [lane_of(index, lane) for lane in range(lanes)]
    offsets = [analyzer.simplify(a - at[0]) for a in at]
    if not all(isinstance(offset, tirx.IntImm) for offset in offsets):
        return load
    first = min(offset.value for offset in offsets)
    stretch = max(offset.value for offset in offsets) - first + 1
    if stretch > _WIDEST * lanes:
        return load
    start = analyzer.simplify(at[0] + first)
    if stretch == 1:
        element = tirx.BufferLoad(load.source, [start])
        if load.source.dtype == "bfloat16":  # TVM's bfloat16 legalisation cannot handle a broadcast of a load
            return tirx.Shuffle([element] * lanes, [tirx.const(0, "int32")] * lanes)
        return tirx.Broadcast(element, lanes)
    width = min(lanes, stretch)  # whole vectors, of which the last may overlap the one before
    starts = [min(at, stretch - width) for at in range(0, stretch, width)]
    loads = [tirx.BufferLoad(load.source, [tirx.Ramp(start + at, 1, width)]) for at in starts]
    overlap = len(starts) * width - stretch
    places = [offset.value - first for offset in offsets]
    places = [at + overlap if at >= starts[-1] else at for at in places]
    copies = -(-lanes // (width * len(loads)))  # a shuffle may not have more results than operands
    return tirx.Shuffle(loads * copies, [tirx.const(at, "int32") for at in places])


LoadWindows = func_pass(
    "tvmconv.LoadWindows",
    lambda body: tvm_ffi.structural_map(body, [(tvm.ir.TensorLoad, _as_window)]),
)
