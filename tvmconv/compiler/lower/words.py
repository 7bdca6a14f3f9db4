"""Words: 32 bits that hold two 16-bit or four 8-bit numbers, put together from neighbours by one load.

``word`` of elements vectorises like any operator; if its elements are contiguous in memory, those of all
lanes are loaded at once. Otherwise they are shifted into place.
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
        return tirx.reinterpret(_of_type("int32", lanes), stretch)
    bits = 32 // len(elements)
    wide = _of_type("int32", lanes)
    total = None
    for at, element in enumerate(elements):
        part = element.astype(wide) & tirx.const((1 << bits) - 1, wide)
        part = part << tirx.const(bits * at, wide) if at else part
        total = part if total is None else total | part
    return total


def _stretch(elements: list[tirx.Expr], lanes: int) -> tvm.ir.TensorLoad | None:
    """One load of all ``elements`` of all lanes, if they are contiguous in memory."""
    first = elements[0]
    for element in elements:
        is_load = isinstance(element, tvm.ir.TensorLoad) and len(element.indices) == 1
        if not is_load or not element.source.same_as(first.source):
            return None
    start = lane_of(first.indices[0], 0) if lanes > 1 else first.indices[0]
    analyzer = tvm.sym.Analyzer()
    for at, element in enumerate(elements):
        for lane in range(lanes):
            index = element.indices[0]
            index = lane_of(index, lane) if lanes > 1 else index
            offset = analyzer.simplify(index - start)
            if not isinstance(offset, tirx.IntImm) or offset.value != lane * len(elements) + at:
                return None
    return tirx.BufferLoad(first.source, [tirx.Ramp(start, 1, lanes * len(elements))])


LoadWords = func_pass(
    "tvmconv.LoadWords", lambda body: tvm_ffi.structural_map(body, [(tvm.ir.Call, _joined)])
)
