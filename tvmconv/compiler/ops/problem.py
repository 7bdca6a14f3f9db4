"""A convolution in the canonical form that the TE definitions and the schedules work on.

A :class:`Problem` says the same as its ``ConvSpec``, with the channels split by group and every dimension
that makes no difference dropped or merged, so a 1x1 convolution over an image is a matrix product over its
pixels. Arrays stay dense: each keeps its memory and is only viewed in another shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from tvmconv.base.dtypes import ACCUMULATORS, BYTES, ITEMSIZE
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.padding import live_taps


@dataclass(frozen=True)
class Problem:
    """Canonical convolution.

    x is ``[batch, *spatial, groups, in_group]`` channels-last, ``[batch, groups, in_group, *spatial]``
    channels-first; y likewise with ``out_spatial`` and ``out_group``. ``pad`` holds (low, high) zeros a
    spatial dimension. Depthwise has ``in_group == 1`` and ``out_group`` equal to the multiplier.

    If output channels are shuffled (in ``shuffle`` groups), a kernel computes those of each group in their
    order in the result: ``own_channel`` says which ones they are. For one group that is all; for several,
    ``placed`` says where each is stored.

    ``flipped``: the weights are those of a transposed convolution of stride 1, (in, out/groups, *kernel) or
    channels-last (*kernel, in, out/groups), whose last tap multiplies the first element.

    ``weights_first``: the weights lie as channels-first ones though x and y are channels-last.
    """

    batch: int
    spatial: tuple[int, ...]
    out_spatial: tuple[int, ...]
    groups: int
    in_group: int
    out_group: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    channels_last: bool
    dtype: str
    shuffle: int = 1
    flipped: bool = False
    weights_first: bool = False

    @property
    def family(self) -> str:
        """The strategies that take it: "conv" or, for 8-bit factors, "integer"."""
        return "integer" if self.dtype in BYTES else "conv"

    @property
    def acc_dtype(self) -> str:
        """The type of the sums and of the packed weights."""
        return ACCUMULATORS[self.dtype]

    @property
    def acc_bytes(self) -> int:
        return ITEMSIZE[self.acc_dtype]

    @property
    def taps(self) -> int:
        return prod(self.kernel)

    def live_taps(self, d: int) -> range:
        """See ``specs.padding.live_taps``."""
        return live_taps(
            self.kernel[d], self.stride[d], self.dilation[d], self.pad[d][0], self.spatial[d],
            self.out_spatial[d],
        )  # fmt: skip

    def extent(self, d: int) -> int:
        """Elements of dimension d from the first to the last that a window covers."""
        return (self.kernel[d] - 1) * self.dilation[d] + 1

    def seen(self, d: int) -> int:
        """How many pairs of an output and a tap of dimension d see x, and not padding."""
        at = (o * self.stride[d] + k * self.dilation[d] - self.pad[d][0]
              for o in range(self.out_spatial[d]) for k in range(self.kernel[d]))  # fmt: skip
        return sum(0 <= place < self.spatial[d] for place in at)

    @property
    def macs(self) -> int:
        return self.batch * prod(self.out_spatial) * self.groups * self.out_group * self.in_group * self.taps

    @property
    def is_depthwise(self) -> bool:
        return self.groups > 1 and self.in_group == 1

    @property
    def padded(self) -> bool:
        return any(lo or hi for lo, hi in self.pad)

    @property
    def widened(self) -> bool:
        """Whether x is of a narrower type than the sums."""
        return self.dtype != self.acc_dtype

    def x_shape(self, spatial: tuple[int, ...] | None = None) -> tuple[int, ...]:
        return self._shape(self.spatial if spatial is None else spatial, self.in_group)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return self._shape(self.out_spatial, self.out_group)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """OIHW channels-first, HWIO channels-last, as the user's array lies in memory."""
        return self.weight_at(self.groups * self.out_group, self.kernel, self.in_group)

    @property
    def weights_last(self) -> bool:
        """Whether the weights lie as channels-last ones."""
        return self.channels_last and not self.weights_first

    def weight_at(self, out: Any, taps: Sequence, i: Any) -> tuple:
        """The index into the user's weights of an output channel, taps, and an input channel of its group."""
        return (*taps, i, out) if self.weights_last else (out, i, *taps)

    @property
    def given_weight_shape(self) -> tuple[int, ...]:
        """The user's array as it lies in memory."""
        if not self.flipped:
            return self.weight_shape
        pair = (self.groups * self.in_group, self.out_group)
        return (*self.kernel, *pair) if self.channels_last else (*pair, *self.kernel)

    @property
    def runs(self) -> int:
        """How many channels of a group, in the order of computation, are contiguous in the result."""
        return self.shuffle // self.groups if self.shuffle % self.groups == 0 else 1

    def own_channel(self, channel: Any) -> Any:
        """Of the convolution's own output channels, the one that is at ``channel`` in that order."""
        if self.runs == 1:
            return channel
        g, o = channel // self.out_group, channel % self.out_group
        return g * self.out_group + o % self.runs * (self.out_group // self.runs) + o // self.runs

    @property
    def is_placed(self) -> bool:
        """Whether the result is stored in a different order than it is computed."""
        return self.shuffle > 1 and self.groups > 1

    def placed(self, g: Any, o: Any) -> Any:
        """The channel of the result that output channel o of group g is, in the order of computation."""
        if self.shuffle % self.groups == 0:
            return o // self.runs * self.shuffle + g * self.runs + o % self.runs
        part = self.groups * self.out_group // self.shuffle
        channel = g * self.out_group + o
        return channel % part * self.shuffle + channel // part

    @property
    def result_shape(self) -> tuple[int, ...]:
        """y as it is stored: if channels are placed, all of them in the last of the two dimensions."""
        if not self.is_placed:
            return self.y_shape
        return replace(self, groups=1, out_group=self.groups * self.out_group).y_shape

    def _shape(self, spatial: tuple[int, ...], channels: int) -> tuple[int, ...]:
        if self.channels_last:
            return (self.batch, *spatial, self.groups, channels)
        return (self.batch, self.groups, channels, *spatial)


def problem_of(spec: ConvSpec) -> Problem:
    """The canonical problem of ``spec``; a batch of 0 is treated as 1, since the caller never runs it."""
    return Problem(**canonical(spec))


def of_pixels(p: Problem) -> Problem | None:
    """``p``, whose x and y are channels-first images of one pixel, as the channels-last problem of the same
    memory, the images its pixels; None for others."""
    if p.channels_last or prod(p.spatial) * prod(p.out_spatial) > 1:
        return None
    found = replace(p, channels_last=True, weights_first=True)
    if p.padded:  # the images stay apart
        return found
    return replace(found, batch=1, spatial=(p.batch,), out_spatial=(p.batch,))


def canonical(spec: ConvSpec) -> dict[str, Any]:
    """The fields of ``spec``'s problem, transposed or not, without the dimensions that make no difference."""
    dims = list(zip(spec.in_spatial, spec.out_spatial, spec.kernel, spec.stride, spec.padding, spec.dilation,
                    strict=True))
    # A single tap has no distance to others; a single output has no next.
    alone = not spec.transposed
    dims = [(i, o, k, 1 if o == 1 and alone else s, p, 1 if k == 1 else d) for i, o, k, s, p, d in dims]
    batch = max(spec.batch, 1)
    if all(k == 1 and s == 1 and i == o and p == (0, 0) for i, o, k, s, p, _ in dims):
        pixels = prod(i for i, *_ in dims)
        if spec.channels_last:
            pixels, batch = pixels * batch, 1
        dims = [(pixels, pixels, 1, 1, (0, 0), 1)]
    else:
        kept = [d for d in dims if not (d[0] == d[1] == d[2] == 1 and d[4] == (0, 0))]
        dims, merged = _merged(kept or dims[-1:], spec.channels_last)
        batch *= merged
    names = ("spatial", "out_spatial", "kernel", "stride", "pad", "dilation")
    columns = (tuple(column) for column in zip(*dims, strict=True))
    return dict(
        zip(names, columns, strict=True), batch=batch, groups=spec.groups,
        in_group=spec.in_channels // spec.groups, out_group=spec.out_channels // spec.groups,
        channels_last=spec.channels_last, dtype=spec.dtype, shuffle=spec.shuffle,
    )  # fmt: skip


def _merged(dims: list[tuple], channels_last: bool) -> tuple[list[tuple], int]:
    """``dims``, where there are more than two, with those that the kernel does not reach along merged: with
    one another, and the leading ones with the batch, which they lie next to channels-last; and what
    multiplies that."""
    def still(d: tuple) -> bool:
        return d[0] == d[1] and d[2] == d[3] == 1 and d[4] == (0, 0)

    times = 1
    while channels_last and len(dims) > 2 and still(dims[0]):
        times, dims = times * dims[0][0], dims[1:]
    for at in range(len(dims) - 2, -1, -1):
        if len(dims) > 2 and still(dims[at]) and still(dims[at + 1]):
            pixels = dims[at][0] * dims[at + 1][0]
            dims = [*dims[:at], (pixels, pixels, *dims[at][2:]), *dims[at + 2 :]]
    return dims, times


def flat(p: Problem) -> Problem:
    """The matrix product as a problem: pixels in one dimension, taps in one, at distance 0 of one another.

    Its weights have the same memory layout as those of ``p``, packed or not, and so has its y.
    """
    pixels = prod(p.out_spatial)
    return replace(
        p, spatial=(pixels,), out_spatial=(pixels,), kernel=(p.taps,),
        stride=(1,), pad=((0, 0),), dilation=(0,),
    )  # fmt: skip


def split(p: Problem, at: Sequence) -> tuple:
    """(batch, group, channel of the group, spatial) of an index into x or y."""
    if p.channels_last:
        n, *spatial, g, c = at
    else:
        n, g, c, *spatial = at
    return n, g, c, tuple(spatial)


def join(p: Problem, n, g, c, spatial) -> tuple:
    return (n, *spatial, g, c) if p.channels_last else (n, g, c, *spatial)


def result_index(p: Problem, at: Sequence) -> tuple:
    """Where the result holds what is computed at ``at``, an index into ``p.y_shape``."""
    if not p.is_placed:
        return tuple(at)
    n, g, o, spatial = split(p, at)
    return join(p, n, 0, p.placed(g, o), spatial)


def reach_of(p: Problem, d: int, outputs: int | None = None) -> int:
    """The number of positions of the padded dimension d that all outputs, or so many neighbours, read (a
    stride can leave some unread)."""
    return ((outputs or p.out_spatial[d]) - 1) * p.stride[d] + p.extent(d)


def place_of(p: Problem, pixel: Sequence, taps: Sequence) -> list:
    """Where the taps of an output lie in the padded x."""
    dims = zip(pixel, p.stride, taps, p.dilation, strict=True)
    return [at * stride + k * dilation for at, stride, k, dilation in dims]


def places(sizes: Sequence[int], number: Any) -> list:
    """The index along each of the dimensions ``sizes`` of an element by its number."""
    found = []
    for size in reversed(sizes):
        found.append(number % size)
        number = number // size
    return found[::-1]
