"""Maxima that keep NaN, on either side: LLVM's own maximum of floats. A target's own maximum, or a
comparison, drops a NaN on one side or the other; on x86, which has no such instruction, two comparisons are
shortest.
"""

from __future__ import annotations

import tvm_ffi
from tvm import tirx
from tvm.target import Target

from tvmconv.compiler.lower.rewrite import func_pass


def _keeping(maximum: tirx.Max) -> tirx.Expr:
    kind, a, b = maximum.ty.dtype, maximum.a, maximum.b
    if not str(kind).startswith(("float", "bfloat")):
        return maximum
    if str(Target.current().attrs["mtriple"]).startswith("x86_64"):
        return tirx.Select(tirx.isnan(a), a, tirx.Select(a > b, a, b))
    return tirx.call_llvm_pure_intrin(kind, "llvm.maximum", a, b)


def _keeping_on_gpu(maximum: tirx.Max) -> tirx.Expr:
    if not str(maximum.ty.dtype).startswith("float"):
        return maximum
    return tirx.call_pure_extern(maximum.ty.dtype, "tcv_max", maximum.a, maximum.b)  # of the prelude


KeepNaN = func_pass("tvmconv.KeepNaN", lambda body: tvm_ffi.structural_map(body, [(tirx.Max, _keeping)]))
KeepNaNOnGpu = func_pass(
    "tvmconv.KeepNaNOnGpu", lambda body: tvm_ffi.structural_map(body, [(tirx.Max, _keeping_on_gpu)])
)
