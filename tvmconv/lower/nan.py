"""Maxima that keep NaN, on either side: LLVM's own maximum of floats. A target's, and a comparison, give the
other operand for one side or the other.
"""

from __future__ import annotations

import tvm_ffi
from tvm import tirx

from tvmconv.lower.rewrite import func_pass


def _keeping(maximum: tirx.Max) -> tirx.Expr:
    kind = maximum.ty.dtype
    if not str(kind).startswith("float"):
        return maximum
    return tirx.call_llvm_pure_intrin(kind, "llvm.maximum", maximum.a, maximum.b)


def _keeping_on_gpu(maximum: tirx.Max) -> tirx.Expr:
    if not str(maximum.ty.dtype).startswith("float"):
        return maximum
    return tirx.call_pure_extern(maximum.ty.dtype, "tcv_max", maximum.a, maximum.b)  # of the prelude


KeepNaN = func_pass("tvmconv.KeepNaN", lambda body: tvm_ffi.structural_map(body, [(tirx.Max, _keeping)]))
KeepNaNOnGpu = func_pass(
    "tvmconv.KeepNaNOnGpu", lambda body: tvm_ffi.structural_map(body, [(tirx.Max, _keeping_on_gpu)])
)
