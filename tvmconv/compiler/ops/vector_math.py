"""float32 exponentials and functions built on them as plain arithmetic, for vectors on any target.

A math library would be called for one lane of a vector at a time. Here each is an exponential, by
range reduction and a polynomial, then at most one division. NaN gives NaN, infinities their limits, nothing
overflows on the way. Largest errors over all floats, in ulp of the result (those of the smallest normal
number for a denormal one): sigmoid 2.5, tanh 3, normal_cdf 4 + v * v / 4, for v * v is rounded before it is
an exponent; exp and log 1, expm1_of_negative 1.5, erf 2.5, softplus 3.5. tests/kinds/test_activations.py
measures the first three, tests/compiler/test_operator_kernels.py the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tvm import tirx

# exp(r) = 1 + r + r*r*(...) for |r| <= ln(2)/2, relative error 3.3e-9 before rounding.
_EXP = (0.49999994, 0.16666515, 0.041668456, 0.008369411, 0.0013813161)
# exp(a*a/2) * cdf(-a) = P(a)/Q(a) for 0 <= a <= 14.5, relative error 6e-9 before rounding.
_TAIL_P = (0.5, 0.43829567, 0.18323564, 0.040633388, 0.004116331)
_TAIL_Q = (1.0, 1.6744763, 1.2025053, 0.46947196, 0.101859247, 0.010317992)
_LARGEST_TAIL = 14.5  # beyond, the exponential is 0
# atanh(s) = s + s*s*s*(...), and erf(v) = v*(...) of v*v, by their series.
_ATANH = tuple(1 / (2 * k + 1) for k in range(1, 7))
_ERF = tuple(2 / math.sqrt(math.pi) * (-1) ** k / (math.factorial(k) * (2 * k + 1)) for k in range(11))
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # ln(2) in two parts, the first of few bits


def sigmoid(v: tirx.Expr) -> tirx.Expr:
    """1 / (1 + exp(-v)) of a float32 scalar."""
    return let(exp_of_negative(-tirx.abs(v)), lambda e: tirx.Select(v < _f(0), e, _f(1)) / (_f(1) + e))


def tanh(v: tirx.Expr) -> tirx.Expr:
    """tanh of a float32 scalar."""
    # From exp(y) - 1 rather than exp(y), or small values would cancel.
    def of(m: tirx.Expr) -> tirx.Expr:
        return _signed(m / (_f(2) - m), v)

    return let(_minus_expm1(tirx.abs(v) * _f(-2)), of)


def normal_cdf(v: tirx.Expr) -> tirx.Expr:
    """(1 + erf(v / sqrt(2))) / 2 of a float32 scalar, accurate in the lower tail as well."""

    def of(a: tirx.Expr) -> tirx.Expr:
        tail = exp_of_negative(a * a * _f(-0.5)) * _polynomial(_TAIL_P, a) / _polynomial(_TAIL_Q, a)
        return let(tail, lambda t: tirx.Select(v < _f(0), t, _f(1) - t))

    return let(_at_most(tirx.abs(v), _LARGEST_TAIL), of)


def exp(v: tirx.Expr) -> tirx.Expr:
    """exp(v) of a float32 scalar."""

    def of(y: tirx.Expr) -> tirx.Expr:
        up = y > _f(0)
        bias = tirx.Select(up, _f(-64), _f(64))
        unscaled = tirx.Select(up, _f(2.0**64), _f(2.0**-64))
        return _reduced(y, lambda r, s: _polynomial((1.0, 1.0, *_EXP), r) * s * unscaled, bias)

    return let(_at_most(_at_least(v, -104), 89), of)


def expm1_of_negative(v: tirx.Expr) -> tirx.Expr:
    """exp(v) - 1 of a float32 scalar that is not positive."""
    return _minus_expm1(v) * _f(-1)


def log(v: tirx.Expr) -> tirx.Expr:
    """The natural logarithm of a float32 scalar: -inf of 0, NaN below."""

    def of(x: tirx.Expr, small: tirx.Expr) -> tirx.Expr:
        bits = tirx.reinterpret("int32", x)
        # x = 2**n m with m from sqrt(1/2) to sqrt(2).
        near = tirx.shift_right(bits - tirx.const(0x3F3504F3, "int32"), tirx.const(23, "int32"))
        m = tirx.reinterpret("float32", bits - tirx.shift_left(near, tirx.const(23, "int32")))
        n = near.astype("float32") - tirx.Select(small, _f(25), _f(0))

        def sums(f: tirx.Expr, n: tirx.Expr) -> tirx.Expr:
            return let(f / (_f(2) + f), lambda s: let(s * s, lambda z: n * _f(_LN2_HIGH) + (
                f - s * (f - z * _f(2) * _polynomial(_ATANH[:4], z)) + n * _f(_LN2_LOW))))  # fmt: skip

        found = let(m - _f(1), lambda f: let(n, lambda n: sums(f, n)))
        beyond = tirx.Select(v > _f(0), v, tirx.Select(tirx.EQ(v, _f(0)), _f(-math.inf), _f(math.nan)))
        return tirx.Select(tirx.And(v > _f(0), v < _f(math.inf)), found, beyond)

    small = v < _f(2.0**-126)  # a denormal number
    return let(tirx.Select(small, v * _f(2.0**25), v), lambda x: of(x, small))


def softplus(v: tirx.Expr) -> tirx.Expr:
    """log(1 + exp(v)) of a float32 scalar."""

    def log1p(e: tirx.Expr) -> tirx.Expr:
        return let(e / (_f(2) + e), lambda s: _f(2) * s * _polynomial((1.0, *_ATANH), s * s))

    return tirx.Select(v > _f(0), v, _f(0)) + let(exp_of_negative(-tirx.abs(v)), log1p)


def erf(v: tirx.Expr) -> tirx.Expr:
    """The error function of a float32 scalar, accurate near 0 as well."""
    far = _signed(_f(1) - _f(2) * normal_cdf(tirx.abs(v) * _f(-math.sqrt(2))), v)
    near = let(_at_most(v * v, 1), lambda z: v * _polynomial(_ERF, z))
    return tirx.Select(tirx.abs(v) < _f(1), near, far)


def _f(value: float) -> tirx.Expr:
    return tirx.const(value, "float32")


def let(value: tirx.Expr, body: Callable[[tirx.Var], tirx.Expr]) -> tirx.Expr:
    """``body(value)`` with the value computed, and written in the program, once."""
    var = tirx.Var("t", value.ty.dtype)
    return tirx.Let(var, value, body(var))


def _at_most(v: tirx.Expr, bound: float) -> tirx.Expr:
    return tirx.Select(v > _f(bound), _f(bound), v)  # NaN stays


def _signed(size: tirx.Expr, v: tirx.Expr) -> tirx.Expr:
    """A non-negative number with v's sign. TVM turns copysign into a call for each lane."""
    sign = tirx.bitwise_and(tirx.reinterpret("uint32", v), tirx.const(0x80000000, "uint32"))
    return tirx.reinterpret("float32", tirx.bitwise_or(tirx.reinterpret("uint32", size), sign))


def _at_least(v: tirx.Expr, bound: float) -> tirx.Expr:
    return tirx.Select(v < _f(bound), _f(bound), v)


def _polynomial(coefficients: Sequence[float], x: tirx.Expr) -> tirx.Expr:
    """The lowest power first."""
    *rest, total = map(_f, coefficients)
    for coefficient in reversed(rest):
        total = total * x + coefficient
    return total


# Adding this to n, |n| < 2**21, leaves n + the exponent's bias in the lowest bits; subtracting it, n rounded.
_ROUND = 1.5 * 2**23 + 127


def _reduced(
    y: tirx.Expr, of: Callable[[tirx.Expr, tirx.Expr], tirx.Expr], more: tirx.Expr | None = None
) -> tirx.Expr:
    """``of(r, s)`` for y = n ln(2) + r with an integer n: s is 2**(n + more), which is to be normal; more is
    64 if nothing else."""
    offset = _f(_ROUND + 64) if more is None else _f(_ROUND) + more

    def split(t: tirx.Expr) -> tirx.Expr:
        # The bits above the exponent are shifted out.
        scale = tirx.reinterpret("float32", tirx.shift_left(tirx.reinterpret("int32", t), 23))
        n = t - offset
        rest = (y - n * _f(_LN2_HIGH)) - n * _f(_LN2_LOW)
        return let(rest, lambda r: let(scale, lambda s: of(r, s)))

    return let(y * _f(math.log2(math.e)) + offset, split)


def exp_of_negative(y: tirx.Expr) -> tirx.Expr:
    """exp(y) for y <= 0; denormal results too."""

    def of(y: tirx.Expr) -> tirx.Expr:
        return _reduced(y, lambda r, s: _polynomial((1.0, 1.0, *_EXP), r) * s * _f(2.0**-64))

    return let(tirx.Select(y < _f(-104), _f(-104), y), of)


def _minus_expm1(y: tirx.Expr) -> tirx.Expr:
    """1 - exp(y) for y <= 0."""

    def of(r: tirx.Expr, s: tirx.Expr) -> tirx.Expr:
        part = _polynomial((1.0, *_EXP), r) * r  # exp(r) - 1
        return let(s * _f(2.0**-64), lambda s: (_f(1) - s) - s * part)

    return let(tirx.Select(y < _f(-20), _f(-20), y), lambda y: _reduced(y, of))
