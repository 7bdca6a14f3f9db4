"""What a convolution of 8-bit integers takes besides the arrays of a float one."""

from __future__ import annotations

import math

from tvmconv.base.dtypes import FLOATS
from tvmconv.base.errors import SpecError
from tvmconv.specs.activations import clamp_of
from tvmconv.specs.operand import Operand, Signature
from tvmconv.specs.spec import Spec

SUMS = "int32"  # the result type if the sums themselves are the result


def quantisation(spec: Spec, weight_dtype: str, residual: bool) -> Signature:
    """Scales and zero points, weights of a call: one number each for x, residual and y, one per channel for
    w. Unscaled sums, for an int32 result, have only the zero points of x and w."""
    channels, x_zero = (spec.out_channels,), _one("x_zero_point", spec.dtype)
    w_zero = Operand("w_zero_point", channels, weight_dtype, "O", "weight")
    if spec.out_dtype == SUMS:
        return x_zero, w_zero
    of_residual = _one("r_scale", "float32"), _one("r_zero_point", spec.out_dtype)
    return (
        _one("x_scale", "float32"), x_zero,
        Operand("w_scale", channels, "float32", "O", "weight"), w_zero,
        *(of_residual if residual else ()),
        _one("y_scale", "float32"), _one("y_zero_point", spec.out_dtype),
    )  # fmt: skip


def _one(name: str, dtype: str) -> Operand:
    return Operand(name, (1,), dtype, "", "weight")


def check_integer(spec: Spec) -> None:
    """Raises SpecError if no kernel gives such results from integers."""
    if spec.out_dtype in FLOATS:
        raise SpecError(f"out_dtype: {spec.out_dtype!r} in {spec}, expected int32, int8 or uint8")
    if spec.act is not None and spec.act.slopes:
        raise SpecError(f"activation: 'prelu' in {spec}, expected one without slopes with integers")
    if spec.activation and spec.out_dtype == SUMS:
        bounds = clamp_of(spec.activation)
        if bounds is None or any(math.isfinite(b) and not b.is_integer() for b in bounds):
            what = "relu, relu6 or a clip to integers where the result is int32"
            raise SpecError(f"activation: {spec.activation!r} in {spec}, expected {what}")
