"""``tf.nn.depthwise_conv2d`` and ``tf.nn.separable_conv2d``: TensorFlow's names, order and errors.

Definition: https://www.tensorflow.org/api_docs/python/tf/nn/depthwise_conv2d
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.frontends.api import conv
from tvmconv.runtime.arrays import view
from tvmconv.specs.checks import read_integer, read_items


def depthwise_conv2d(
    input: Any,
    filter: Any,
    strides: Sequence[int],
    padding: str | Sequence[Sequence[int]],
    data_format: str | None = None,
    dilations: int | Sequence[int] | None = None,
    name: str | None = None,
    *,
    rate: int | Sequence[int] | None = None,
) -> Any:
    """Depthwise convolution as ``tf.nn.depthwise_conv2d`` computes it.

    ``input``: (N, H, W, C), or (N, C, H, W) with data_format "NCHW"; a NumPy or CPU DLPack array, and the
    result is of the same kind. ``filter``: (kh, kw, C, M) in either data_format; output channel c*M + m is
    channel c's m-th. ``strides``: four, in the order of data_format, 1 for batch and channels and equal for
    rows and columns. ``padding``: "SAME", "VALID", or four (low, high) pairs in the order of data_format,
    (0, 0) for batch and channels. ``dilations``: one, or one each for rows and columns; over 1 only at
    stride 1. ``name`` is accepted and not used; ``rate`` is the older name of dilations.

    Raises SpecError where TensorFlow raises.
    """
    layout = _layout(data_format)
    stride = _strides(strides, layout)
    dilation = _dilations(dilations, rate, stride)
    pads = _padding(padding, layout)
    taps = view("filter", filter)
    if taps.ndim != 4:
        raise SpecError(f"filter: shape {taps.shape}, expected (rows, columns, channels, multiplier)")
    rows, columns, channels, multiplier = taps.shape
    found = _channels(input, layout)
    if found != channels:
        raise SpecError(f"filter: shape {taps.shape} has {channels} channels, expected {found} as input has")
    if layout == "NHWC":
        w = taps.reshape(rows, columns, 1, channels * multiplier)
    else:
        w = np.transpose(taps, (2, 3, 0, 1)).reshape(channels * multiplier, 1, rows, columns)
    return conv(input, w, stride=stride, padding=pads, dilation=dilation, groups=channels, layout=layout)


def separable_conv2d(
    input: Any,
    depthwise_filter: Any,
    pointwise_filter: Any,
    strides: Sequence[int],
    padding: str | Sequence[Sequence[int]],
    data_format: str | None = None,
    dilations: int | Sequence[int] | None = None,
    name: str | None = None,
) -> Any:
    """Depthwise, then pointwise convolution, as ``tf.nn.separable_conv2d`` computes it.

    As ``depthwise_conv2d`` with ``depthwise_filter`` (kh, kw, C, M), then ``pointwise_filter``
    (1, 1, C*M, out) at stride 1; None for the depthwise convolution alone. Raises SpecError where TensorFlow
    raises.
    """
    taps = None if pointwise_filter is None else view("pointwise_filter", pointwise_filter)
    if taps is not None:
        depthwise_shape = tuple(getattr(depthwise_filter, "shape", ()))
        wanted = depthwise_shape[2] * depthwise_shape[3] if len(depthwise_shape) == 4 else None
        if taps.ndim != 4 or taps.shape[:2] != (1, 1) or wanted not in (None, taps.shape[2]):
            inputs = "channels * multiplier" if wanted is None else wanted
            raise SpecError(f"pointwise_filter: shape {taps.shape}, expected (1, 1, {inputs}, out channels)")
    middle = depthwise_conv2d(input, depthwise_filter, strides, padding, data_format, dilations)
    if taps is None:
        return middle
    layout = _layout(data_format)
    w = taps if layout == "NHWC" else np.transpose(taps, (3, 2, 0, 1))
    return conv(middle, w, layout=layout)


def _layout(data_format: str | None) -> str:
    if data_format in (None, "NHWC"):
        return "NHWC"
    if data_format == "NCHW":
        return "NCHW"
    raise SpecError(f"data_format: {data_format!r}, expected 'NHWC' or 'NCHW'")


def _spatial(layout: str) -> tuple[int, int]:
    """The positions of rows and columns in data_format."""
    return (1, 2) if layout == "NHWC" else (2, 3)


def _strides(strides: Sequence[int], layout: str) -> int:
    items = read_items(strides)
    if items is None or len(items) != 4:
        raise SpecError(f"strides: {strides!r}, expected four integers in the order of {layout}")
    values = [read_integer("strides", item, 1) for item in items]
    rows, columns = (values[i] for i in _spatial(layout))
    if any(values[i] != 1 for i in range(4) if i not in _spatial(layout)):
        raise SpecError(f"strides: {strides!r}, expected 1 for batch and channels of {layout}")
    if rows != columns:
        raise SpecError(f"strides: {strides!r}, expected the same for rows and columns")
    return rows


def _dilations(dilations: Any, rate: Any, stride: int) -> tuple[int, int]:
    if dilations is not None and rate is not None:
        raise SpecError(f"rate: {rate!r} beside dilations {dilations!r}, expected one of the two")
    name, value = ("rate", rate) if rate is not None else ("dilations", dilations)
    items = read_items(value)
    if items is None:
        items = (1, 1) if value is None else (value, value)
    if len(items) != 2:
        raise SpecError(f"{name}: {value!r}, expected one integer, or one each for rows and columns")
    rows, columns = (read_integer(name, item, 1) for item in items)
    if stride > 1 and (rows > 1 or columns > 1):
        raise SpecError(f"{name}: {value!r} with a stride of {stride}, expected 1, as in TensorFlow")
    return rows, columns


def _padding(padding: Any, layout: str) -> str | tuple[tuple[int, int], ...]:
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise SpecError(f"padding: {padding!r}, expected 'SAME', 'VALID' or four (low, high) pairs")
        return padding
    pairs = [read_items(pair) for pair in read_items(padding) or ()]
    if len(pairs) != 4 or any(pair is None or len(pair) != 2 for pair in pairs):
        raise SpecError(f"padding: {padding!r}, expected 'SAME', 'VALID' or four (low, high) pairs")
    values = [tuple(read_integer("padding", side, 0) for side in pair) for pair in pairs]
    if any(values[i] != (0, 0) for i in range(4) if i not in _spatial(layout)):
        raise SpecError(f"padding: {padding!r}, expected (0, 0) for batch and channels of {layout}")
    return tuple(values[i] for i in _spatial(layout))


def _channels(input: Any, layout: str) -> int:
    shape = tuple(getattr(input, "shape", ()))
    if len(shape) != 4:
        raise SpecError(f"input: shape {shape}, expected four dims as {layout}")
    return shape[3 if layout == "NHWC" else 1]
