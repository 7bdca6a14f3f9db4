"""float32 sigmoid, tanh and the normal distribution function as plain arithmetic, for vectors of any target.

A mathematical library would be called for one lane of a vector at a time. Here each is an exponential of a
number that is not positive, by range reduction and a polynomial, then one division. NaN gives NaN, infinities
their limits, nothing overflows. Largest errors over all floats, in ulp of the result (those of the smallest
normal number for a denormal one): sigmoid 2.5, tanh 3, normal_cdf 4 + v * v / 4, for v * v is rounded before
it is an exponent. tests/kinds/test_activations.py measures them.
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
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # ln(2) in two parts, the first of few bits


def sigmoid(v: tirx.Expr) -> tirx.Expr:
    """1 / (1 + exp(-v)) of a float32 scalar."""
    return let(exp(-tirx.abs(v)), lambda e: tirx.Select(v < _f(0), e, _f(1)) / (_f(1) + e))


def tanh(v: tirx.Expr) -> tirx.Expr:
    """tanh of a float32 scalar."""
    # From exp(y) - 1 rather than exp(y), or small values would cancel.
    def of(m: tirx.Expr) -> tirx.Expr:
        return tirx.copysign(m / (_f(2) - m), v)

    return let(_minus_expm1(tirx.abs(v) * _f(-2)), of)


def normal_cdf(v: tirx.Expr) -> tirx.Expr:
    """(1 + erf(v / sqrt(2))) / 2 of a float32 scalar, accurate in the lower tail as well."""

    def of(a: tirx.Expr) -> tirx.Expr:
        tail = exp(a * a * _f(-0.5)) * _polynomial(_TAIL_P, a) / _polynomial(_TAIL_Q, a)
        return let(tail, lambda t: tirx.Select(v < _f(0), t, _f(1) - t))

    return let(_at_most(tirx.abs(v), _LARGEST_TAIL), of)


def _f(value: float) -> tirx.Expr:
    return tirx.const(value, "float32")


def let(value: tirx.Expr, body: Callable[[tirx.Var], tirx.Expr]) -> tirx.Expr:
    """``body(value)`` with the value computed, and written in the program, once."""
    var = tirx.Var("t", value.ty.dtype)
    return tirx.Let(var, value, body(var))


def _at_most(v: tirx.Expr, bound: float) -> tirx.Expr:
    return tirx.Select(v > _f(bound), _f(bound), v)  # NaN stays


def _polynomial(coefficients: Sequence[float], x: tirx.Expr) -> tirx.Expr:
    """The lowest power first."""
    *rest, total = map(_f, coefficients)
    for coefficient in reversed(rest):
        total = total * x + coefficient
    return total


# Adding this to n, |n| < 2**21, leaves n + _BIAS in the lowest bits; subtracting it again, n rounded.
_BIAS = 127 + 64
_ROUND = 1.5 * 2**23 + _BIAS


def _reduced(y: tirx.Expr, of: Callable[[tirx.Expr, tirx.Expr], tirx.Expr]) -> tirx.Expr:
    """``of(r, s)`` for y = n ln(2) + r with an integer n, -190 <= n < 64: s is 2**(n + 64), normal."""

    def split(t: tirx.Expr) -> tirx.Expr:
        # The bits above the exponent are shifted out.
        scale = tirx.reinterpret("float32", tirx.shift_left(tirx.reinterpret("int32", t), 23))
        n = t - _f(_ROUND)
        rest = (y - n * _f(_LN2_HIGH)) - n * _f(_LN2_LOW)
        return let(rest, lambda r: let(scale, lambda s: of(r, s)))

    return let(y * _f(math.log2(math.e)) + _f(_ROUND), split)


def exp(y: tirx.Expr) -> tirx.Expr:
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
