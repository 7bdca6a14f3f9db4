"""What a convolution of 8-bit integers takes beside the arrays that one of floats has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvmconv.specs.operand import Operand, Signature

if TYPE_CHECKING:
    from tvmconv.specs.conv import ConvSpec


def quantisation(spec: ConvSpec) -> Signature:
    """Scales and zero points, weights of a call: one number of x, residual and y each, one a channel of w.
    Sums that are not scaled, those of an int32 result, have the zero points of x and w only."""
    w_shape, x_zero = spec.bias_shape, _one("x_zero_point", spec.dtype)
    w_zero = Operand("w_zero_point", w_shape, spec.weight_dtype, "O", "weight")
    if not spec.is_scaled:
        return x_zero, w_zero
    of_residual = _one("r_scale", "float32"), _one("r_zero_point", spec.out_dtype)
    return (
        _one("x_scale", "float32"), x_zero,
        Operand("w_scale", w_shape, "float32", "O", "weight"), w_zero,
        *(of_residual if spec.residual else ()),
        _one("y_scale", "float32"), _one("y_zero_point", spec.out_dtype),
    )  # fmt: skip


def _one(name: str, dtype: str) -> Operand:
    return Operand(name, (1,), dtype, "", "weight")
