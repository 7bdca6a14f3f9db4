"""Pooling as strategies see it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx

from tvmconv.base.dtypes import ACCUMULATORS, FLOATS, ITEMSIZE
from tvmconv.specs.pooling import PoolSpec


@dataclass(frozen=True)
class PoolProblem:
    """Canonical pooling. x is ``[batch, *spatial, channels]``, y ``[batch, *out_spatial, channels]``.

    Channels are independent, so a channels-first image is one of a single channel in a larger batch. ``pad``:
    how far windows reach beyond the image, (low, high) per dimension. ``counted``: [first, stop) of the
    positions that count as elements of a mean.
    """

    batch: int
    spatial: tuple[int, ...]
    out_spatial: tuple[int, ...]
    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    counted: tuple[tuple[int, int], ...]
    operation: str
    dtype: str

    family = "pool"  # the strategies that take it

    @property
    def macs(self) -> int:
        """Elements of all windows: the measure of work, as schedules use it for convolutions."""
        return prod(self.y_shape) * prod(self.kernel)

    @property
    def widened(self) -> bool:
        """Whether x is of a narrower type than the sums."""
        return self.dtype != self.acc_dtype

    @property
    def padded(self) -> bool:
        return any(lo or hi for lo, hi in self.pad)

    @property
    def whole(self) -> bool:
        """Whether a single window covers the whole image."""
        return self.kernel == self.spatial and not self.padded

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, *self.spatial, self.channels)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, *self.out_spatial, self.channels)

    @property
    def acc_dtype(self) -> str:
        """The type of sums and maxima."""
        return ACCUMULATORS[self.dtype] if self.dtype in FLOATS else self.dtype

    @property
    def acc_bytes(self) -> int:
        return ITEMSIZE[self.acc_dtype]

    @property
    def nothing(self) -> tirx.Expr:
        """What an element outside the image adds to a window."""
        if self.operation == "avg":
            return tirx.const(0, self.acc_dtype)
        if self.dtype in FLOATS:
            return tirx.const(float("-inf"), self.acc_dtype)
        return tirx.min_value(self.dtype)


def problem_of(spec: PoolSpec) -> PoolProblem:
    """The canonical problem of ``spec``; a batch of 0 is treated as 1, since the caller never runs it."""
    batch = max(spec.batch, 1) * (1 if spec.channels_last else spec.in_channels)
    channels = spec.in_channels if spec.channels_last else 1
    dims = []
    for size, out, kernel, stride, (lo, hi), dilation in zip(
        spec.in_spatial, spec.out_spatial, spec.kernel, spec.stride, spec.padding, spec.dilation, strict=True
    ):
        counted = (-lo, size + hi) if spec.count_include_pad else (0, size)
        reach = (out - 1) * stride + (kernel - 1) * dilation + 1
        over = max(0, reach - lo - size)
        if not (size == out == kernel == 1 and lo == over == 0):
            dims.append((size, out, kernel, stride if out > 1 else kernel, (lo, over),
                         dilation if kernel > 1 else 1, counted))
    dims = dims or [(1, 1, 1, 1, (0, 0), 1, (0, 1))]
    if all(size == kernel and pad == (0, 0) for size, _, kernel, _, pad, _, _ in dims):
        # All of the image: rows, in one dimension where the channels do not lie between.
        rows = [size for size, *_ in dims]
        rows = [prod(rows)] if channels == 1 else [prod(rows[:-1]), rows[-1]]
        dims = [(size, 1, size, size, (0, 0), 1, (0, size)) for size in rows]
    columns: Any = (tuple(column) for column in zip(*dims, strict=True))
    spatial, out_spatial, kernel, stride, pad, dilation, counted = columns
    return PoolProblem(batch, spatial, out_spatial, channels, kernel, stride, pad, dilation, counted,
                       spec.operation, spec.dtype)
