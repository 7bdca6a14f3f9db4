"""The reference for 8-bit integers: exact sums, and results quantised step by step as ONNX specifies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from tvmconv.specs.activations import activate, clamp_of
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.reference.floats import Float64, conv_reference, shuffled_channels


def quantised_reference(
    spec: ConvSpec,
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    residual: ArrayLike | None = None,
    *,
    x_scale: ArrayLike = 1,
    x_zero_point: ArrayLike = 0,
    w_scale: ArrayLike = 1,
    w_zero_point: ArrayLike = 0,
    r_scale: ArrayLike = 1,
    r_zero_point: ArrayLike = 0,
    y_scale: ArrayLike = 1,
    y_zero_point: ArrayLike = 0,
) -> Float64:
    """The result of ``spec``, with 8-bit x: ONNX's ConvInteger, or QLinearConv if the result is 8-bit too,
    transposed if ``spec`` is. For 8-bit results, the real numbers that the sums stand for are added to those
    of ``residual`` (of the result's type), the activation acts on them, then they are quantised; for int32
    results an int32 residual is added to the sums, and the activation acts on those. Scales and zero points
    of w: one number, or one per output channel.

    The values of the result, in float64. Raises SpecError for arrays that do not fit.
    """

    def by_channel(values: ArrayLike, rank: int) -> np.ndarray:
        each = np.broadcast_to(np.asarray(values).reshape(-1), spec.bias_shape)
        return each if spec.channels_last else each.reshape(-1, *(1,) * rank)

    def of_weights(values: ArrayLike) -> np.ndarray:
        """One for each output channel, as the weights' dims are."""
        if not spec.transposed:
            return by_channel(values, spec.rank + 1)
        each = np.broadcast_to(np.asarray(values).reshape(-1), spec.bias_shape).reshape(spec.groups, -1)
        pairs = np.repeat(each, spec.in_channels // spec.groups, axis=0)  # (in, out/groups)
        return pairs if spec.channels_last else pairs.reshape(*pairs.shape, *(1,) * spec.rank)

    plain = replace(
        spec, dtype="float64", out_dtype="float64", weight_dtype="float64", bias=False, activation=None,
        algorithm=None, shuffle=1, residual=False,
    )  # fmt: skip
    xs = np.asarray(x, np.float64) - np.asarray(x_zero_point, np.float64).reshape(())
    ws = np.asarray(w, np.float64) - of_weights(np.asarray(w_zero_point, np.float64))
    sums = conv_reference(plain, xs, ws).astype(np.int64)  # below 2**53: exact
    if bias is not None:
        sums = sums + by_channel(np.asarray(bias, np.int64), spec.rank)
    sums = sums.astype(np.int32)  # wraps, as 32-bit sums do
    order, axis = shuffled_channels(spec), -1 if spec.channels_last else 1
    if spec.out_dtype == "int32":
        sums = sums.take(order, axis)
        if residual is not None:
            sums = sums + np.asarray(residual, np.int32)
        values = sums.astype(np.float64)
        return values if spec.activation is None else activate(spec.activation, values)
    xf, wf, rf, yf = (np.asarray(s, np.float32).reshape(-1) for s in (x_scale, w_scale, r_scale, y_scale))
    zeros = np.asarray(r_zero_point, np.float32).reshape(())
    added = None if residual is None else np.asarray(residual, np.float32) - zeros
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scale = np.float32(1) * xf * wf
        clamp = clamp_of(spec.activation)
        if clamp is not None:
            values = (sums.astype(np.float32) * by_channel(scale / yf, spec.rank)).take(order, axis)
            if added is not None:
                values = values + added * (rf / yf)
            lo, hi = (np.float32(bound) / yf for bound in clamp)
            values = np.clip(values, lo, hi)
        else:
            real = (sums.astype(np.float32) * by_channel(scale, spec.rank)).take(order, axis)
            if added is not None:
                real = real + added * rf
            assert spec.activation is not None  # no activation counts as a clamp
            values = activate(spec.activation, real.astype(np.float64)) / yf
        values = np.rint(values).astype(np.float64) + np.asarray(y_zero_point, np.float64).reshape(())
    limits = np.iinfo(spec.out_dtype)
    return np.clip(values, limits.min, limits.max)
