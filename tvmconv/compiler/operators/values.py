"""Element-wise arithmetic as operators have it: what C leaves open of integers is settled, NaN stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tvm import tirx

from tvmconv.base.dtypes import FLOATS
from tvmconv.compiler.codegen.nest import computed
from tvmconv.compiler.ops import vector_math
from tvmconv.compiler.ops.casts import narrowed, widened

Expr: TypeAlias = tirx.Expr


def kind_of(value: Expr) -> str:
    """The element type of an expression."""
    return str(value.ty.dtype)


def is_float(value: Expr) -> bool:
    return kind_of(value) in FLOATS


def number(value: float, like: Expr) -> Expr:
    """A constant of another expression's type."""
    return tirx.const(value, kind_of(like))


def once(value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """``body(value)``, with the value computed once; names, numbers and flags as they are."""
    if isinstance(value, tirx.Var | tirx.IntImm | tirx.FloatImm) or kind_of(value) == "bool":
        return body(value)
    return vector_math.let(value, body)


def libm(name: str, *values: Expr) -> Expr:
    """A function of the C library, lane by lane, in float64."""
    kind = kind_of(values[0])
    found = tirx.call_pure_extern("float64", name, *(value.astype("float64") for value in values))
    return found.astype(kind)


# Sums and products of integers wrap: LLVM is told that those of 32 and 64 bits do not, of which it makes
# nothing but of a comparison with what was added to. Unsigned ones would be worse: TVM's simplifier takes
# 0 - v of them for 0.


def add(a: Expr, b: Expr) -> Expr:
    return a + b


def sub(a: Expr, b: Expr) -> Expr:
    return a - b


def mul(a: Expr, b: Expr) -> Expr:
    return a * b


def differ(a: Expr, b: Expr) -> Expr:
    """Whether one of two flags is set: LLVM would compare vectors of them as numbers."""
    return tirx.Or(tirx.And(a, tirx.Not(b)), tirx.And(tirx.Not(a), b))


def neg(v: Expr) -> Expr:
    """-v."""
    return v * number(-1, v) if is_float(v) else number(0, v) - v


def largest(a: Expr, b: Expr) -> Expr:
    """The larger one; NaN if one is NaN."""
    return tirx.max(a, b)  # lower/nan.py


def least(a: Expr, b: Expr) -> Expr:
    """The smaller one; NaN if one is NaN."""
    if not is_float(a):
        return tirx.min(a, b)
    return once(a, lambda a: once(b, lambda b: tirx.Select(
        tirx.isnan(a), a, tirx.Select(tirx.LT(a, b), a, b))))  # fmt: skip


def absolute(v: Expr) -> Expr:
    """Its size; that of the least integer is itself."""
    if is_float(v):
        return tirx.abs(v)
    if kind_of(v).startswith("u"):
        return v
    return once(v, lambda v: tirx.Select(v < number(0, v), neg(v), v))


def sign(v: Expr) -> Expr:
    """-1, 0 or 1, or NaN."""
    if kind_of(v).startswith("u"):
        return tirx.Select(v > number(0, v), number(1, v), number(0, v))
    return once(v, lambda v: tirx.Select(
        v > number(0, v), number(1, v), tirx.Select(v < number(0, v), number(-1, v), v)))  # fmt: skip


def div(a: Expr, b: Expr) -> Expr:
    """The quotient; of integers cut towards zero, and 0 where b is 0."""
    if is_float(a):
        return tirx.div(a, b)
    return once(a, lambda a: once(b, lambda b: _guarded(a, b, tirx.truncdiv, neg(a))))


def fmod(a: Expr, b: Expr) -> Expr:
    """The remainder of the quotient cut towards zero; of integers 0 where b is 0."""
    if is_float(a):
        return libm("fmod", a, b)
    return once(a, lambda a: once(b, lambda b: _guarded(a, b, tirx.truncmod, number(0, a))))


def mod(a: Expr, b: Expr) -> Expr:
    """The remainder with b's sign."""

    def of(b: Expr) -> Expr:
        zero = number(0, b)

        def moved(rest: Expr) -> Expr:
            other = tirx.Select(differ(rest < zero, b < zero), add(rest, b), rest)
            exact = tirx.copysign(zero, b) if is_float(b) else zero
            return tirx.Select(tirx.EQ(rest, zero), exact, other)

        return once(fmod(a, b), moved)

    return fmod(a, b) if kind_of(a).startswith("u") else once(b, of)


def _guarded(a: Expr, b: Expr, divide: Callable[[Expr, Expr], Expr], by_minus_one: Expr) -> Expr:
    """A division of integers that never traps: by 0, or of the least one by -1."""
    zero, one = number(0, b), number(1, b)
    nothing, minus = tirx.EQ(b, zero), tirx.EQ(b, number(-1, b)) if not kind_of(b).startswith("u") else None
    safe = tirx.Select(nothing if minus is None else tirx.Or(nothing, minus), one, b)

    # Named, or the simplifier would take it for b where b is not 0, and the division is made for all lanes.
    def of(safe: Expr) -> Expr:
        found = divide(a, safe) if minus is None else tirx.Select(minus, by_minus_one, divide(a, safe))
        return tirx.Select(nothing, zero, found)

    return once(safe, of)


def power(a: Expr, b: Expr) -> Expr:
    """a to the b-th, of a's type. Integers to a float's power go by way of float64, exact below 2^53; those
    to an integer's have been taken apart before (`power.py`), but for exponents from 1 to 3."""
    exponent = float(b.value) if isinstance(b, tirx.IntImm | tirx.FloatImm) else None
    if exponent in (1.0, 2.0, 3.0):
        return once(a, lambda a: a if exponent == 1 else mul(a, a) if exponent == 2 else mul(mul(a, a), a))
    if is_float(a):
        if exponent == -1.0:
            return number(1, a) / a
        return libm("pow", a, b)
    return cast(libm("pow", a.astype("float64"), b), kind_of(a))


_FIRST_BEYOND = {"float32": 2147483520.0, "float64": 2147483647.0}  # the largest that an int32 holds


def cast(v: Expr, dtype: str, bounds: tuple[float, float] | None = None) -> Expr:
    """v converted, to what is computed with instead of ``dtype``: floats rounded to ``dtype``, integers cut
    towards zero; NaN to 0. What the integer has no room for wraps, or is the nearest that an int32 (of the
    wider types, an int64) holds. ``bounds``, which an int32 holds: a float is clipped to them before."""
    kind = kind_of(v)
    if dtype in FLOATS:
        if kind == "bool":
            return tirx.Select(v, tirx.const(1, computed(dtype)), tirx.const(0, computed(dtype)))
        wide = v.astype(computed(dtype))
        return widened(narrowed(wide, dtype), computed(dtype)) if computed(dtype) != dtype else wide
    if dtype == "bool":
        return v if kind == "bool" else tirx.NE(v, number(0, v))
    if kind == "bool":
        return tirx.Select(v, tirx.const(1, dtype), tirx.const(0, dtype))
    if kind in FLOATS:
        wide = "int32" if dtype in ("int32", "int16", "int8", "uint16", "uint8") else "int64"
        most = _FIRST_BEYOND[kind] if wide == "int32" else {
            "float32": 9223371487098961920.0, "float64": 9223372036854774784.0}[kind]  # fmt: skip
        low = -(2.0**31) if wide == "int32" else -(2.0**63)
        if bounds is not None:  # one clamp is enough
            low, most = bounds

        def clipped(v: Expr) -> Expr:
            inside = tirx.Select(v > number(most, v), number(most, v), v)
            inside = tirx.Select(inside > number(low, v), inside, number(low, v))
            return tirx.Select(tirx.isnan(v), number(0, v), inside).astype(wide).astype(dtype)

        return once(v, clipped)
    return v.astype(dtype)
