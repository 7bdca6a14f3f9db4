"""Maxima that keep NaN, on either side: LLVM's own maximum of floats. A target's own maximum, or a
comparison, drops a NaN on one side or the other. x86's gives its second operand if either is NaN: the first
operands of a maximum of two or three are compared, and their sum is the result if one is NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
import tvm_ffi
from tvm import tirx
from tvm.target import Target

from tvmconv.compiler.lower.rewrite import func_pass

# TVM has not been told, and would make a loop of scalars of any vector that asks. LLVM would make vectors of
# that again, but only after it has found that the result lies on no input, as those of maps often do.
tvm.ir.register_op_attr("tirx.isnan", "TVectorizable", True)


def _keeping(maximum: tirx.Max) -> tirx.Expr:
    kind, a, b = maximum.ty.dtype, maximum.a, maximum.b
    if not str(kind).startswith(("float", "bfloat")):
        return maximum
    if not str(Target.current().attrs["mtriple"]).startswith("x86_64"):
        return tirx.call_llvm_pure_intrin(kind, "llvm.maximum", a, b)
    if isinstance(a, tirx.Max):
        return _let(a.a, lambda a1: _let(a.b, lambda a2: _let(b, lambda b: _of_three(a1, a2, b))))
    return tirx.Select(tirx.isnan(a), a, tirx.Select(a > b, a, b))


def _of_three(a: tirx.Expr, b: tirx.Expr, c: tirx.Expr) -> tirx.Expr:
    both = _let(tirx.Select(a > b, a, b), lambda most: tirx.Select(most > c, most, c))
    return tirx.Select(tirx.Or(tirx.isnan(a), tirx.isnan(b)), a + b, both)


def _let(value: tirx.Expr, of: Callable[[tirx.Var], tirx.Expr]) -> tirx.Expr:
    var = tirx.Var("v", str(value.ty.dtype))
    return tirx.Let(var, value, of(var))


def _keeping_on_gpu(maximum: tirx.Max) -> tirx.Expr:
    if not str(maximum.ty.dtype).startswith("float"):
        return maximum
    return tirx.call_pure_extern(maximum.ty.dtype, "tcv_max", maximum.a, maximum.b)  # of the prelude


KeepNaN = func_pass(
    "tvmconv.KeepNaN", lambda body: tvm_ffi.structural_map(body, [(tirx.Max, _keeping)], order="pre")
)
KeepNaNOnGpu = func_pass(
    "tvmconv.KeepNaNOnGpu", lambda body: tvm_ffi.structural_map(body, [(tirx.Max, _keeping_on_gpu)])
)
