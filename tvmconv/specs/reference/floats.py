"""The reference for convolutions of floats: float64 and plain loops. Correct by inspection, not fast."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tvmconv.base.dtypes import widened
from tvmconv.base.errors import SpecError
from tvmconv.specs.activations import activate
from tvmconv.specs.conv import ConvSpec

Float64 = NDArray[np.float64]


def conv_reference(
    spec: ConvSpec,
    x: ArrayLike,
    w: ArrayLike,
    bias: ArrayLike | None = None,
    residual: ArrayLike | None = None,
    slopes: ArrayLike | None = None,
) -> Float64:
    """The convolution that ``spec`` describes, in float64.

    ``x`` has ``spec.input_shape``, ``w`` ``spec.weight_shape``, ``bias`` and PReLU's ``slopes``
    ``spec.bias_shape``, ``residual`` ``spec.output_shape`` (None exactly where the spec has none); any real
    dtype, bfloat16 as tvmconv.base.dtypes has it. The result has ``spec.output_shape``.
    Raises SpecError for another shape.
    """
    xs = _array("x", x, spec.input_shape)
    ws = _array("w", w, spec.weight_shape)
    for name, array in (("bias", bias), ("residual", residual), ("slopes", slopes)):
        if (array is not None) != getattr(spec, name):
            raise SpecError(f"{name}: {'None' if array is None else 'given'}, expected as {spec} says")
    if spec.channels_last:
        # To (N, C, *spatial), and from (*kernel, a, b) to (a, b, *kernel), with (a, b) = (I, O) or
        # transposed (in, out/groups). A convolution's weights come as (O, I) channels-first.
        xs = np.moveaxis(xs, -1, 1)
        ws = np.moveaxis(ws, (-2, -1), (0, 1))
        if not spec.transposed:
            ws = np.swapaxes(ws, 0, 1)
    with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinity are ordinary values
        ys = _transposed(spec, xs, ws) if spec.transposed else _forward(spec, xs, ws)
        if bias is not None:
            values = _array("bias", bias, spec.bias_shape)
            ys += values.reshape(-1, *(1,) * spec.rank)
        if residual is not None:
            added = _array("residual", residual, spec.output_shape)
            added = np.moveaxis(added, -1, 1) if spec.channels_last else added
            ys[:, shuffled_channels(spec)] += added
        if slopes is not None:
            values = _array("slopes", slopes, spec.bias_shape)
            ys = np.where(ys < 0, values.reshape(-1, *(1,) * spec.rank) * ys, ys)
        elif spec.activation is not None:
            ys = activate(spec.activation, ys)
    ys = ys[:, shuffled_channels(spec)]
    return np.ascontiguousarray(np.moveaxis(ys, 1, -1) if spec.channels_last else ys)


def shuffled_channels(spec: ConvSpec) -> NDArray[np.intp]:
    """For each channel of the result, its channel before the shuffle."""
    return np.arange(spec.out_channels).reshape(spec.shuffle, -1).T.reshape(-1)


_NUMPY_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _positions(spec: ConvSpec, tap: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[slice, ...]:
    """Where ``tap`` lies in the larger, padded image, for every position of the smaller one, of ``sizes``."""
    return tuple(
        slice(t * dilation, t * dilation + (size - 1) * stride + 1, stride)
        for t, dilation, stride, size in zip(tap, spec.dilation, spec.stride, sizes, strict=True)
    )


def _forward(spec: ConvSpec, x: Float64, w: Float64) -> Float64:
    """x (N, C, *spatial), w (O, C/groups, *kernel) -> (N, O, *out)."""
    padded = np.pad(x, [(0, 0), (0, 0), *spec.padding], mode=_NUMPY_MODES[spec.padding_mode])
    y = np.zeros((spec.batch, spec.out_channels, *spec.out_spatial))
    inputs, outputs = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    for group in range(spec.groups):
        i = slice(group * inputs, (group + 1) * inputs)
        o = slice(group * outputs, (group + 1) * outputs)
        for tap in itertools.product(*map(range, spec.kernel)):
            # The element that this tap meets, for every output position.
            at = _positions(spec, tap, spec.out_spatial)
            own: tuple[Any, ...] = (o, slice(None), *tap)
            seen: tuple[Any, ...] = (slice(None), i, *at)
            y[:, o] += _mix_channels(w[own], padded[seen])
    return y


def _transposed(spec: ConvSpec, x: Float64, w: Float64) -> Float64:
    """x (N, C, *spatial), w (C, O/groups, *kernel) -> (N, O, *out): each input element spreads its taps."""
    full = [out + lo + hi for out, (lo, hi) in zip(spec.out_spatial, spec.padding, strict=True)]
    y = np.zeros((spec.batch, spec.out_channels, *full))
    inputs, outputs = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    for group in range(spec.groups):
        i = slice(group * inputs, (group + 1) * inputs)
        o = slice(group * outputs, (group + 1) * outputs)
        for tap in itertools.product(*map(range, spec.kernel)):
            # The element that this tap of every input position is added to.
            at = _positions(spec, tap, spec.in_spatial)
            own: tuple[Any, ...] = (i, slice(None), *tap)
            reached: tuple[Any, ...] = (slice(None), o, *at)
            y[reached] += _mix_channels(w[own].T, x[:, i])
    kept = tuple(slice(lo, lo + out) for out, (lo, _) in zip(spec.out_spatial, spec.padding, strict=True))
    return y[(slice(None), slice(None), *kept)]


def _mix_channels(w: Float64, x: Float64) -> Float64:
    """w (O, I), x (N, I, *spatial) -> (N, O, *spatial): the sum over I."""
    y = np.matmul(w, x.reshape(*x.shape[:2], math.prod(x.shape[2:])))
    return y.reshape(x.shape[0], w.shape[0], *x.shape[2:])


def _array(name: str, value: Any, shape: tuple[int, ...]) -> Float64:
    array = widened(np.asarray(value)).astype(np.float64)
    if array.shape != shape:
        raise SpecError(f"{name}: shape {array.shape}, expected {shape}")
    return array
