"""One call: poolings, and the channel shuffle."""

from __future__ import annotations

from typing import Any

from tvmconv.base.dtypes import name_of
from tvmconv.base.errors import SpecError
from tvmconv.frontends.api import _shape, function
from tvmconv.specs.checks import read_integer, read_layout
from tvmconv.specs.pooling import PoolSpec
from tvmconv.specs.window import Ints, Padding


def max_pool(
    x: Any,
    kernel: Ints,
    *,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    layout: str = "NCHW",
    target: str = "native",
) -> Any:
    """The largest element of each window; NaN where a window holds one.

    ``x``: (N, C, *spatial) or (N, *spatial, C) by ``layout``, of floats, int8 or uint8, NumPy or any CPU
    DLPack array; the result is of the same kind. ``stride`` None: the kernel. The rest as in PoolSpec.
    Raises SpecError for arguments that do not fit, TargetError where the kernel is neither cached nor can be
    compiled.
    """
    return _pool(x, kernel, target, operation="max", stride=stride, padding=padding, dilation=dilation,
                 ceil_mode=ceil_mode, layout=layout)


def avg_pool(
    x: Any,
    kernel: Ints,
    *,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    layout: str = "NCHW",
    target: str = "native",
) -> Any:
    """The mean of each window; ``count_include_pad``: including its zeros in the padding.

    Arrays and arguments as for `max_pool`, but only floats. Raises SpecError, TargetError.
    """
    return _pool(x, kernel, target, operation="avg", stride=stride, padding=padding, dilation=dilation,
                 ceil_mode=ceil_mode, count_include_pad=count_include_pad, layout=layout)


def global_avg_pool(x: Any, layout: str = "NCHW", *, target: str = "native") -> Any:
    """The mean of each channel of each image: every spatial dim of the result is 1. Arrays and errors as
    for `avg_pool`."""
    return _pool(x, None, target, operation="avg", layout=layout)


def global_max_pool(x: Any, layout: str = "NCHW", *, target: str = "native") -> Any:
    """The largest element of each channel of each image: every spatial dim is 1. Arrays and errors as for
    `max_pool`."""
    return _pool(x, None, target, operation="max", layout=layout)


def _pool(x: Any, kernel: Ints | None, target: str, *, layout: str, **options: Any) -> Any:
    shape = _shape("x", x)
    if kernel is None:
        kernel = shape[1:-1] if read_layout(layout, len(shape) - 2) == "NHWC" else shape[2:]
    return function(PoolSpec(shape, kernel, layout=layout, dtype=name_of(x), **options), target)(x)


def channel_shuffle(x: Any, groups: int, layout: str = "NCHW") -> Any:
    """Channels in ``groups`` groups, interleaved: channel i of group g moves to position i*groups + g.

    ``x``: a NumPy or torch array of any dtype, (N, C, *spatial) or (N, *spatial, C) by ``layout``; the result
    is a new contiguous one of the same kind. Raises SpecError for a count that does not divide the channels.
    """
    shape = _shape("x", x)
    groups = read_integer("groups", groups, 1)
    axis = len(shape) - 1 if read_layout(layout, len(shape) - 2) == "NHWC" else 1
    if shape[axis] % groups:
        raise SpecError(f"groups: {groups}, expected a divisor of the {shape[axis]} channels of x")
    split = x.reshape(*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    order = [*range(axis), axis + 1, axis, *range(axis + 2, len(shape) + 1)]
    turned = split.permute(order) if hasattr(split, "permute") else split.transpose(order)
    result = turned.reshape(shape)
    if groups in (1, shape[axis]):  # then nothing moved, and reshaping gave a view of x
        return result.clone() if hasattr(result, "clone") else result.copy()
    return result
