"""Dot products of pairs: ``dot2(a, b)`` of 32-bit words that hold two signed 16-bit numbers each.

The sum of the two products is exact in 32 bits for numbers of up to 9 bits. It vectorises as any operator of
words does; a vector of the right length becomes the CPU's instruction for it, others are written out.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import _ffi_api
from tvm.target import Target

from tvmconv.lower.rewrite import func_pass

DOT2 = "tvmconv.dot2"

# Lanes -> (LLVM's feature, its intrinsic).
_X86 = {
    16: ("avx512bw", "llvm.x86.avx512.pmaddw.d.512"),
    8: ("avx2", "llvm.x86.avx2.pmadd.wd"),
    4: ("sse2", "llvm.x86.sse2.pmadd.wd"),
}


def dot2(a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
    """``a`` and ``b`` are int32 words; so is the result."""
    return tvm.ir.Call(_op(), [a, b], ret_ty="int32")


def _op() -> tvm.ir.Op:
    try:
        return tvm.ir.Op.get(DOT2)
    except (AttributeError, RuntimeError, ValueError):
        _ffi_api.RegisterOp(DOT2, "Sum of the products of two pairs of 16-bit numbers.")
        tvm.ir.register_op_attr(DOT2, "TCallEffectKind", 1)  # pure
        tvm.ir.register_op_attr(DOT2, "TVectorizable", True)
        return tvm.ir.Op.get(DOT2)


def _lowered(call: tvm.ir.Call) -> tirx.Expr:
    if call.op.name != DOT2:
        return call
    a, b = call.args
    lanes = tvm.DataType(str(call.ty.dtype)).lanes
    target = Target.current()
    if lanes in _X86 and str(target.attrs.get("mtriple", "")).startswith("x86_64"):
        feature, intrinsic = _X86[lanes]
        if tvm.target.codegen.target_has_features(feature, target):
            pairs = [tirx.reinterpret(f"int16x{2 * lanes}", v) for v in (a, b)]
            return tirx.call_llvm_pure_intrin(f"int32x{lanes}", intrinsic, *pairs)
    half = tirx.const(16, str(a.ty.dtype))
    return ((a << half) >> half) * ((b << half) >> half) + (a >> half) * (b >> half)


LowerDots = func_pass(
    "tvmconv.LowerDots", lambda body: tvm_ffi.structural_map(body, [(tvm.ir.Call, _lowered)])
)
