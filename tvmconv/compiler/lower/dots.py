"""Dot products of words (``lower.words``): the sum of the products of their two or four elements, exact.

They vectorise like any operator on words. If the target has the instruction they become it, padded to its
length if shorter, even a single one; otherwise the products are expanded. One that is ``checked`` saturates,
unless its second operand was found to be small.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx
from tvm.target import Target

from tvmconv.compiler.lower.rewrite import func_pass
from tvmconv.compiler.lower.words import lanes_of, pure_op
from tvmconv.schedules.dots import DOTS, Dot

_BY_OP = {f"tvmconv.{name}": dot for name, dot in DOTS.items()}


def dot_product(dot: Dot, a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
    """The dot product of ``a`` and ``b``, int32 words; so is the result."""
    return tvm.ir.Call(pure_op(f"tvmconv.{dot.name}"), [a, b], ret_ty="int32")


def _lowered(total: tirx.Expr | None, call: tvm.ir.Call) -> tirx.Expr:
    """``total``, or nothing, plus the dot product."""
    dot, lanes, target = _BY_OP[call.op.name], lanes_of(call), Target.current()
    if target.kind.name == "cuda":
        onto = tirx.const(0, call.ty.dtype) if total is None else total
        return tirx.call_pure_extern(call.ty.dtype, f"tcv_{dot.name}", *call.args, onto)
    arch = _arch(target)
    # Scalars too: LLVM 22's SLP vectoriser gets the written-out products of several words wrong.
    able = [
        (wide, name)
        for (of, wide), (features, name) in sorted(dot.vectors.items())
        if of == arch and wide >= lanes and any(_has(target, feature) for feature in features)
    ]
    if not able:
        found = _written_out(dot, *call.args)
        return found if total is None else total + found
    wide, name = able[0]
    word = f"int32x{wide}"
    a, b = (_filled(v, wide) for v in call.args)
    elements = wide * 32 // dot.bits
    a = tirx.reinterpret(f"{dot.x}x{elements}", a)
    b = tirx.reinterpret(f"{dot.w}x{elements}", b)
    if dot.checked:  # sums of pairs, which are still to be added
        halves = f"int16x{2 * wide}"
        a, b = tirx.call_llvm_pure_intrin(halves, name, a, b), tirx.const(1, halves)
        name = DOTS["pmaddwd"].vectors[arch, wide][1]
    if not dot.adds:
        found = _cut(tirx.call_llvm_pure_intrin(word, name, a, b), lanes)
        return found if total is None else total + found
    onto = tirx.const(0, word) if total is None else _filled(total, wide)
    return _cut(tirx.call_llvm_pure_intrin(word, name, onto, a, b), lanes)


def _arch(target: Target) -> str:
    name = str(target.attrs.get("mtriple", "")).partition("-")[0]
    return "armv7" if name.startswith("armv7") else name


def _has(target: Target, feature: str) -> bool:
    return tvm.target.codegen.target_has_features(feature, target)


def _filled(v: tirx.Expr, lanes: int) -> tirx.Expr:
    """``v`` with extra lanes, whose values do not matter."""
    have = lanes_of(v)
    if have == lanes:
        return v
    if have == 1:
        return tirx.Broadcast(v, lanes)
    if isinstance(v, tirx.Broadcast):
        return tirx.Broadcast(v.value, lanes)
    more = tirx.Broadcast(_any_value(), lanes - have) if lanes > have + 1 else _any_value()
    return tirx.Shuffle([v, more], [tirx.const(i, "int32") for i in range(lanes)])


def _any_value() -> tirx.Expr:
    """Whatever LLVM likes: nothing has to be moved to where it is wanted."""
    zeros_below_a_one = "llvm.cttz"  # which are undefined for 0, as the second argument says
    return tirx.call_llvm_pure_intrin(
        "int32", zeros_below_a_one, tirx.const(0, "int32"), tirx.const(True, "bool")
    )


def _cut(v: tirx.Expr, lanes: int) -> tirx.Expr:
    if lanes_of(v) == lanes:
        return v
    return tirx.Shuffle([v], [tirx.const(i, "int32") for i in range(lanes)])


def _written_out(dot: Dot, a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
    bits, dtype = dot.bits, str(a.ty.dtype)

    def element(v: tirx.Expr, at: int, kind: str) -> tirx.Expr:
        low = (v >> tirx.const(bits * at, dtype)) & tirx.const((1 << bits) - 1, dtype)
        sign = tirx.const(1 << (bits - 1), dtype)
        return low if kind.startswith("u") else (low ^ sign) - sign

    total = None
    for at in range(dot.size):
        product = element(a, at, dot.x) * element(b, at, dot.w)
        total = product if total is None else total + product
    return total


def _is_dot(expr: tirx.Expr) -> bool:
    return isinstance(expr, tvm.ir.Call) and isinstance(expr.op, tvm.ir.Op) and expr.op.name in _BY_OP


def _sum(add: tirx.Add) -> tirx.Expr:
    if _is_dot(add.b):
        return _lowered(add.a, add.b)
    return _lowered(add.b, add.a) if _is_dot(add.a) else add


def _lower(body: tirx.Stmt) -> tirx.Stmt:
    body = tvm_ffi.structural_map(body, [(tirx.Add, _sum)])
    return tvm_ffi.structural_map(
        body, [(tvm.ir.Call, lambda call: _lowered(None, call) if _is_dot(call) else call)]
    )


LowerDots = func_pass("tvmconv.LowerDots", _lower)
