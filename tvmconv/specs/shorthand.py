"""Shorthand for the specs of common convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvmconv.base.errors import SpecError
from tvmconv.specs.checks import read_integer, read_layout, read_shape
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.window import Ints


def depthwise(input_shape: Sequence[int], kernel: Ints, *, multiplier: int = 1, **options: Any) -> ConvSpec:
    """The spec of a depthwise convolution: one group per channel, ``multiplier`` results each.

    ``options`` are ConvSpec's. Output channel = channel * multiplier + m. Raises SpecError.
    """
    shape = read_shape(input_shape)
    channels = shape[-1 if read_layout(options.get("layout", "NCHW"), len(shape) - 2) == "NHWC" else 1]
    out_channels = channels * read_integer("multiplier", multiplier, 1)
    if channels == 0:
        raise SpecError(f"input_shape: {shape}, expected no dim but the batch to be 0")
    return ConvSpec(shape, out_channels, kernel, groups=channels, **options)


def pointwise(input_shape: Sequence[int], out_channels: int, **options: Any) -> ConvSpec:
    """The spec of a convolution with a one-element kernel; ``options`` are ConvSpec's. Raises SpecError."""
    return ConvSpec(input_shape, out_channels, 1, **options)
