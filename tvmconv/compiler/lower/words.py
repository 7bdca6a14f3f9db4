"""Words: 32 bits that hold two 16-bit or four 8-bit numbers, put together from neighbours by one load.

``word`` of elements vectorises like any operator; if its elements are contiguous in memory and the words of
the lanes near one another, all are loaded at once. Otherwise they are shifted into place.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import _ffi_api

from tvmconv.compiler.lower.rewrite import func_pass
from tvmconv.compiler.lower.windows import lane_of

WORD = "tvmconv.word"
_FARTHEST = 8  # times as many words as lanes; more would load too much that is not needed


def word(elements: Sequence[tirx.Expr]) -> tirx.Expr:
    """An int32 word of two 16-bit or four 8-bit elements, the first in the lowest bits."""
    return tvm.ir.Call(pure_op(WORD), list(elements), ret_ty="int32")


def pure_op(name: str) -> tvm.ir.Op:
    """The operator of our own ``name``: no side effects, one lane of the result from one of each argument."""
    return own_op(name, PURE)


PURE, READS = 1, 2  # what TVM is told that an operator does: nothing but its result; it reads what changes


def own_op(name: str, effect: int) -> tvm.ir.Op:
    """The operator of our own ``name``: one lane of the result from one of each argument."""
    try:
        return tvm.ir.Op.get(name)
    except (AttributeError, RuntimeError, ValueError):
        _ffi_api.RegisterOp(name, "See tvmconv.compiler.lower.")
        tvm.ir.register_op_attr(name, "TCallEffectKind", effect)
        tvm.ir.register_op_attr(name, "TVectorizable", True)
        tvm.ir.register_op_attr(name, "TScriptPrinterName", name)  # else TVM warns of each when it prints it
        return tvm.ir.Op.get(name)


def lanes_of(expr: tirx.Expr) -> int:
    return tvm.DataType(str(expr.ty.dtype)).lanes


def _of_type(dtype: str, lanes: int) -> str:
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def _joined(call: tvm.ir.Call) -> tirx.Expr:
    if not isinstance(call.op, tvm.ir.Op) or call.op.name != WORD:
        return call
    elements, lanes = list(call.args), lanes_of(call)
    stretch = _stretch(elements, lanes)
    if stretch is not None:
        return stretch
    bits = 32 // len(elements)
    wide = _of_type("int32", lanes)
    total = None
    for at, element in enumerate(elements):
        part = element.astype(wide) & tirx.const((1 << bits) - 1, wide)
        part = part << tirx.const(bits * at, wide) if at else part
        total = part if total is None else total | part
    return total


def _stretch(elements: list[tirx.Expr], lanes: int) -> tirx.Expr | None:
    """The words of all lanes from one load, shuffled where they are not in order or repeat, if the elements
    of each are contiguous in memory and the words not far apart."""
    first, size = elements[0], len(elements)
    for element in elements:
        is_load = isinstance(element, tvm.ir.TensorLoad) and len(element.indices) == 1
        if not is_load or not element.source.same_as(first.source):
            return None
    start = lane_of(first.indices[0], 0) if lanes > 1 else first.indices[0]
    analyzer = tvm.sym.Analyzer()
    places = []
    for lane in range(lanes):
        for at, element in enumerate(elements):
            index = element.indices[0]
            index = lane_of(index, lane) if lanes > 1 else index
            offset = analyzer.simplify(index - start)
            if not isinstance(offset, tirx.IntImm):
                return None
            if at == 0:
                places.append(offset.value)
            elif offset.value != places[-1] + at:
                return None
    least, most = min(places), max(places)
    words = (most - least) // size + 1
    if words > _FARTHEST * lanes or any((place - least) % size for place in places):
        return None
    load = tirx.BufferLoad(first.source, [tirx.Ramp(start + least, 1, words * size)])
    found = tirx.reinterpret(_of_type("int32", words), load)
    places = [(place - least) // size for place in places]
    if places == list(range(lanes)):
        return found
    if words == 1:
        return tirx.Broadcast(found, lanes)
    copies = -(-lanes // words)  # a shuffle may not have more results than operands
    return tirx.Shuffle([found] * copies, [tirx.const(place, "int32") for place in places])


LoadWords = func_pass(
    "tvmconv.LoadWords", lambda body: tvm_ffi.structural_map(body, [(tvm.ir.Call, _joined)])
)
