"""The reference for deformable convolutions: float64, pixel by pixel. Correct by inspection, not fast."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tvmconv.base.errors import SpecError
from tvmconv.specs.deformable import DeformSpec

Float64 = NDArray[np.float64]


def deform_reference(
    spec: DeformSpec,
    x: ArrayLike,
    w: ArrayLike,
    offset: ArrayLike,
    mask: ArrayLike | None = None,
    bias: ArrayLike | None = None,
) -> Float64:
    """The deformable convolution that ``spec`` describes, in float64; arrays as it states them.

    ``mask`` and ``bias``: None exactly where the spec has none. Raises SpecError for another shape.
    """
    xs = _array("x", x, spec.input_shape)
    ws = _array("w", w, spec.weight_shape).reshape(spec.out_channels, -1, spec.taps)
    rows, columns = spec.out_spatial
    split = (spec.batch, spec.offset_groups, spec.taps, 2, rows, columns)
    offsets = _array("offset", offset, spec.offset_shape).reshape(split)
    for name, value, wanted in (("mask", mask, spec.mask), ("bias", bias, spec.bias)):
        if (value is not None) != wanted:
            raise SpecError(f"{name}: {'None' if wanted else 'given'}, expected as {spec} says")
    masks = np.ones(spec.mask_shape) if mask is None else _array("mask", mask, spec.mask_shape)
    masks = masks.reshape(spec.batch, spec.offset_groups, spec.taps, rows, columns)
    a_group, outputs = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    an_offset_group = spec.in_channels // spec.offset_groups
    ys = np.zeros(spec.output_shape)
    for n, r, c in itertools.product(range(spec.batch), range(rows), range(columns)):
        sampled = np.empty((spec.in_channels, spec.taps))
        for part, tap in itertools.product(range(spec.offset_groups), range(spec.taps)):
            k, q = divmod(tap, spec.kernel[1])
            down, right = offsets[n, part, tap, :, r, c]
            y = r * spec.stride[0] - spec.padding[0][0] + k * spec.dilation[0] + down
            z = c * spec.stride[1] - spec.padding[1][0] + q * spec.dilation[1] + right
            channels = slice(part * an_offset_group, (part + 1) * an_offset_group)
            with np.errstate(invalid="ignore"):
                sampled[channels, tap] = _interpolated(xs[n, channels], y, z) * masks[n, part, tap, r, c]
        for group in range(spec.groups):
            o = slice(group * outputs, (group + 1) * outputs)
            i = slice(group * a_group, (group + 1) * a_group)
            with np.errstate(invalid="ignore"):
                ys[n, o, r, c] = (ws[o] * sampled[i]).sum(axis=(1, 2))
    if bias is not None:
        ys += _array("bias", bias, spec.bias_shape).reshape(-1, 1, 1)
    return ys


def _interpolated(image: Float64, y: float, z: float) -> Float64:
    """The channels of ``image`` (channels, height, width) at row y, column z."""
    height, width = image.shape[1:]
    value = np.zeros(len(image))
    if np.isnan(y) or np.isnan(z):
        return value * np.nan
    if not (-1 < y < height and -1 < z < width):
        return value
    top, left = int(np.floor(y)), int(np.floor(z))
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < height and 0 <= column < width:
            value += (1 - abs(y - row)) * (1 - abs(z - column)) * image[:, row, column]
    return value


def _array(name: str, value: Any, shape: tuple[int, ...]) -> Float64:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != shape:
        raise SpecError(f"{name}: shape {array.shape}, expected {shape}")
    return array


reference = deform_reference  # as Spec.reference finds it
