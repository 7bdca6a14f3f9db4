"""Conversions that TVM does not make the way we need."""

from __future__ import annotations

from tvm import tirx


def narrowed(value: tirx.Expr, dtype: str) -> tirx.Expr:
    """``value`` as ``dtype``; float32 to bfloat16 rounds to nearest, ties to even, and keeps NaN.

    TVM would duplicate ``value`` for that, which breaks expressions that contain a Let.
    """
    if dtype != "bfloat16" or value.ty.dtype != "float32":
        return value.astype(dtype)
    bits = tirx.Var("bits", "uint32")

    def number(n: int) -> tirx.Expr:
        return tirx.const(n, "uint32")

    near = (bits + number(0x7FFF) + ((bits >> number(16)) & number(1))) >> number(16)
    quiet = (bits >> number(16)) | number(0x40)
    is_nan = tirx.GT(bits & number(0x7FFFFFFF), number(0x7F800000))
    result = tirx.reinterpret("bfloat16", tirx.Select(is_nan, quiet, near).astype("uint16"))
    return tirx.Let(bits, tirx.reinterpret("uint32", value), result)


def widened(value: tirx.Expr, dtype: str) -> tirx.Expr:
    """``value`` as the wider type ``dtype``.

    Explicit for bfloat16: inside the expression that ``narrowed`` makes, TVM would treat its bits as an
    integer.
    """
    if value.ty.dtype != "bfloat16" or dtype != "float32":
        return value.astype(dtype)
    bits = tirx.reinterpret("uint16", value).astype("uint32")
    return tirx.reinterpret("float32", tirx.shift_left(bits, tirx.const(16, "uint32")))
