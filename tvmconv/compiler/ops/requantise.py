"""From 32-bit sums to 8-bit results: scaled, a residual added, activated, rounded to nearest (ties to even),
shifted by the zero point, and clamped to the type. Plain arithmetic, vectorised on any target.

An activation acts on the real numbers that sums stand for. One that only clamps narrows the range to which
results are clamped anyway, and costs nothing.

All of it is float32; with a residual, each product and their sum are rounded separately: a fused multiply-add
would round once less, and give different results on different targets.
"""

from __future__ import annotations

import math

from tvm import te, tirx

from tvmconv.compiler.ops.epilogue import activate
from tvmconv.compiler.ops.vector_math import let
from tvmconv.specs.activations import clamp_of

RANGES = {"int8": (-128, 127), "uint8": (0, 255)}
_ROUND = 1.5 * 2**23  # added to a number of up to 22 bits, it leaves that number, rounded, in the lowest bits
_ROUND_BITS = 0x4B400000
_LOWEST = -3.4028234663852886e38  # of the finite numbers


def multiplier(activation: str | None, scale: tirx.Expr, y_scale: tirx.Expr) -> tirx.Expr:
    """The multiplier of integers in steps of ``scale``: to y's units, or to real numbers if ``activation``
    needs those."""
    return scale / y_scale if clamp_of(activation) else scale


def limits(activation: str | None, out_dtype: str, y_scale: te.Tensor, y_zero: te.Tensor) -> te.Tensor:
    """(2,) the least and the greatest result minus its zero point, before rounding."""
    ends = clamp_of(activation) or (-math.inf, math.inf)
    zero = y_zero(0).astype("float32")
    least, most = (tirx.const(float(end), "float32") - zero for end in RANGES[out_dtype])

    def end(value: float, otherwise: tirx.Expr) -> tirx.Expr:
        if math.isinf(value) and (value > 0) == (otherwise is most):
            return otherwise
        return tirx.max(tirx.min(tirx.const(value, "float32") / y_scale(0), most), least)

    lo, hi = end(ends[0], least), end(ends[1], most)
    return te.compute((2,), lambda i: te.if_then_else(tirx.EQ(i, 0), lo, hi), name="packed_limits")


def shift(y_zero: tirx.Expr) -> tirx.Expr:
    """The zero point as ``requantised`` expects it."""
    return y_zero.astype("int32") - tirx.const(_ROUND_BITS, "int32")


def requantised(
    total: tirx.Expr,
    scale: tirx.Expr,
    lo: tirx.Expr,
    hi: tirx.Expr,
    shift: tirx.Expr,
    *,
    activation: str | None,
    y_scale: tirx.Expr | None,
    out_dtype: str,
    added: tirx.Expr | None = None,
) -> tirx.Expr:
    """The result from the 32-bit sum ``total``; ``y_scale`` if the activation is not a clamp. ``added``: a
    residual in the units of the scaled sum, itself a product."""
    value = total.astype("float32") * scale
    if added is not None:
        value = _rounded(value) + _rounded(added)
    if y_scale is not None:
        value = activate(value, activation) / y_scale

    def kept(v: tirx.Expr) -> tirx.Expr:
        # A NaN, from an infinite scale and a sum of zero, becomes the lower bound.
        return let(tirx.Select(tirx.GT(v, lo), v, lo), lambda v: rounded(tirx.Select(tirx.LT(v, hi), v, hi)))

    def rounded(v: tirx.Expr) -> tirx.Expr:
        bits = tirx.reinterpret("int32", v + tirx.const(_ROUND, "float32"))
        return (bits + shift).astype(out_dtype)

    return let(value, kept)


def _rounded(product: tirx.Expr) -> tirx.Expr:
    """A product that no compiler fuses with a sum: an instruction separates them."""
    lowest = tirx.const(_LOWEST, "float32")
    return let(product, lambda v: tirx.Select(tirx.GT(v, lowest), v, lowest))


def clamped(total: tirx.Expr, activation: str | None) -> tirx.Expr:
    """The sum itself as a result: within the activation's bounds, which are integers."""
    lo, hi = clamp_of(activation) or (-math.inf, math.inf)
    for bound, beyond in ((lo, tirx.LT), (hi, tirx.GT)):
        if abs(bound) < 2**31:
            end = tirx.const(int(bound), "int32")
            total = let(total, lambda v, end=end, beyond=beyond: tirx.Select(beyond(v, end), end, v))
    return total
