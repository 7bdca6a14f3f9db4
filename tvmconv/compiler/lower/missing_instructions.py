"""Operations that a CPU has no instruction for, expanded: LLVM would call the C library for one lane at a
time.

Rounding of float32 to integers on 32-bit ARM and RISC-V, and float16 on RISC-V, where, moreover, TVM's own
conversions return their result in a different register than LLVM expects. Elsewhere rounding becomes LLVM's
own intrinsic: of TVM's there are no vectors, and names in an expression with one are bound twice, an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.target import Target

from tvmconv.compiler.lower.rewrite import func_pass

_NO_ROUNDING = ("armv7", "riscv64")
_NO_HALF = ("riscv64",)


def _f(value: float) -> tirx.Expr:
    return tirx.const(value, "float32")


def _u(value: int) -> tirx.Expr:
    return tirx.const(value, "uint32")


def _let(value: tirx.Expr, of) -> tirx.Expr:
    var = tirx.Var("v", str(value.ty.dtype))
    return tirx.Let(var, value, of(var))


def _bits(value: tirx.Expr) -> tirx.Expr:
    return tirx.reinterpret("uint32", value)


def _float(bits: tirx.Expr) -> tirx.Expr:
    return tirx.reinterpret("float32", bits)


def _nearbyint(v: tirx.Expr) -> tirx.Expr:
    """To the nearest integer, ties to even: numbers from 2**23 on are integers, and so are sums with it."""

    def of(v: tirx.Expr) -> tirx.Expr:
        size = _float(_bits(v) & _u(0x7FFFFFFF))
        moved = _float(_bits(size + _f(2**23)))  # as bits, or TVM would simplify the difference away
        near = _bits(moved - _f(2**23)) | (_bits(v) & _u(0x80000000))
        return tirx.Select(size < _f(2**23), _float(near), v)

    return _let(v, of)


def _floor(v: tirx.Expr) -> tirx.Expr:
    def of(v: tirx.Expr) -> tirx.Expr:
        return _let(_nearbyint(v), lambda near: tirx.Select(near > v, near - _f(1), near))

    return _let(v, of)


def _from_half(v: tirx.Expr) -> tirx.Expr:
    half = tirx.reinterpret("uint16", v).astype("uint32")

    def of(h: tirx.Expr) -> tirx.Expr:
        size = (h & _u(0x7FFF)) << _u(13)
        # The product moves the exponent, of denormal numbers too; that of infinity and NaN it cannot.
        finite = _bits(_float(size) * _f(2.0**112))
        found = tirx.Select(size >= _u(0x7C00 << 13), size | _u(0x7F800000), finite)
        return _float(found | ((h & _u(0x8000)) << _u(16)))

    return _let(half, of)


def _to_half(v: tirx.Expr) -> tirx.Expr:
    def of(b: tirx.Expr) -> tirx.Expr:
        size = b & _u(0x7FFFFFFF)
        # A normal number: another exponent bias, and 13 bits rounded off, ties to even.
        normal = (size - _u(112 << 23) + _u(0xFFF) + ((size >> _u(13)) & _u(1))) >> _u(13)
        # A smaller one: a sum with 0.5 rounds it to the last place that a half has.
        small = _bits(_float(size) + _f(0.5)) - _bits(_f(0.5))
        found = tirx.Select(size < _u(0x38800000), small, normal)
        found = tirx.Select(size >= _u(0x477FF000), _u(0x7C00), found)
        found = tirx.Select(size > _u(0x7F800000), _u(0x7E00), found)
        return tirx.reinterpret("float16", (found | ((b >> _u(16)) & _u(0x8000))).astype("uint16"))

    return _let(_bits(v), of)


def _in_vectors(call: tvm.ir.Call) -> tirx.Expr:
    if getattr(call.op, "name", "") != "tirx.nearbyint":
        return call
    return tirx.call_llvm_pure_intrin(str(call.ty.dtype), "llvm.nearbyint", call.args[0])


def _rounding(call: tvm.ir.Call) -> tirx.Expr:
    of = {"tirx.nearbyint": _nearbyint, "tirx.floor": _floor}.get(getattr(call.op, "name", ""))
    return of(call.args[0]) if of and str(call.ty.dtype) == "float32" else _in_vectors(call)


def _half(cast: tirx.Cast) -> tirx.Expr:
    pair = str(cast.value.ty.dtype), str(cast.ty.dtype)
    if pair == ("float16", "float32"):
        return _from_half(cast.value)
    return _to_half(cast.value) if pair == ("float32", "float16") else cast


def _written_out(body: tirx.Stmt) -> tirx.Stmt:
    triple = str(Target.current().attrs.get("mtriple", ""))
    rules: list[tuple[type, Callable[[Any], tirx.Expr]]] = [
        (tvm.ir.Call, _rounding if triple.startswith(_NO_ROUNDING) else _in_vectors)
    ]
    if triple.startswith(_NO_HALF):
        rules.append((tirx.Cast, _half))
    return tvm_ffi.structural_map(body, rules)


WriteOut = func_pass("tvmconv.WriteOut", _written_out)
