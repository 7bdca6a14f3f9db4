"""Pooling: windows of an image, and the whole image at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from tvm import te, tirx

from tvmconv.pool_spec import PoolSpec


@dataclass(frozen=True)
class PoolProblem:
    """Canonical pooling. x is ``[batch, *spatial, channels]``, y ``[batch, *out_spatial, channels]``.

    Channels do not meet, so a channels-first image is one of a single channel in a larger batch. ``pad``:
    what windows reach beyond the image, (low, high) a dimension. ``counted``: [first, stop) of the
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

    @property
    def macs(self) -> int:
        """Elements of all windows: the measure of work that schedules share with convolutions."""
        return prod(self.y_shape) * prod(self.kernel)

    @property
    def padded(self) -> bool:
        return any(lo or hi for lo, hi in self.pad)

    @property
    def whole(self) -> bool:
        """Whether there is one window, all of the image."""
        return self.kernel == self.spatial and not self.padded

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.batch, *self.spatial, self.channels)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, *self.out_spatial, self.channels)

    @property
    def nothing(self) -> tirx.Expr:
        """What an element outside of the image adds to a window."""
        if self.operation == "avg":
            return tirx.const(0, self.dtype)
        if self.dtype.startswith("float"):
            return tirx.const(float("-inf"), self.dtype)
        return tirx.min_value(self.dtype)

    @property
    def itemsize(self) -> int:
        return {"float64": 8, "float32": 4}.get(self.dtype, 1)


def problem_of(spec: PoolSpec) -> PoolProblem:
    """The canonical problem of ``spec``; a batch of 0 is taken as 1, for the caller never runs it."""
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
    columns = (tuple(column) for column in zip(*dims, strict=True))
    spatial, out_spatial, kernel, stride, pad, dilation, counted = columns
    return PoolProblem(batch, spatial, out_spatial, channels, kernel, stride, pad, dilation, counted,
                       spec.operation, spec.dtype)


def windows_func(p: PoolProblem) -> tirx.PrimFunc:
    """``(x, y)``: stages ``pad`` (where windows reach outside), ``pool``, ``y``."""
    x = te.placeholder(p.x_shape, p.dtype, name="x")
    source = _pad(p, x)
    taps = [te.reduce_axis((0, k), name=f"k{d}") for d, k in enumerate(p.kernel)]

    def window(n, *at):
        *spatial, c = at
        dims = zip(spatial, p.stride, taps, p.dilation, strict=True)
        return _reducer(p)(source(n, *(s * stride + k * d for s, stride, k, d in dims), c), axis=taps)

    pool = te.compute(p.y_shape, window, name="pool")
    y = te.compute(p.y_shape, lambda n, *at: _finish(p, pool(n, *at), at[:-1]), name="y")
    return te.create_prim_func([x, y])


def whole_last_func(p: PoolProblem) -> tirx.PrimFunc:
    """``(x, y)`` of a whole image [batch, rows, columns, channels]: ``row``, ``pool``, ``y``."""
    x = te.placeholder(p.x_shape, p.dtype, name="x")
    r, q = (te.reduce_axis((0, k), name=name) for k, name in zip(p.kernel, "rq", strict=True))
    row = te.compute((p.batch, p.spatial[0], p.channels),
                     lambda n, i, c: _reducer(p)(x(n, i, q, c), axis=q), name="row")
    pool = te.compute((p.batch, p.channels), lambda n, c: _reducer(p)(row(n, r, c), axis=r), name="pool")
    y = te.compute(p.y_shape, lambda n, _r, _q, c: _finish(p, pool(n, c), (0, 0)), name="y")
    return te.create_prim_func([x, y])


def whole_plane_func(p: PoolProblem, span: int, lanes: int) -> tirx.PrimFunc:
    """``(x, y)`` of a whole plane [batch, elements, 1]: ``part``, in ``span`` strands, which ``half0`` and so
    on join: first the vectors of ``lanes`` elements, then by halves."""
    x = te.placeholder(p.x_shape, p.dtype, name="x")
    size = p.spatial[0]
    k = te.reduce_axis((0, -(-size // span)), name="k")

    def strand(n, s):
        at = k * span + s
        value = x(n, at, 0)
        if size % span:
            value = te.if_then_else(at < size, value, p.nothing)
        return _reducer(p)(value, axis=k)

    part = te.compute((p.batch, span), strand, name="part")
    steps = [(lanes, span // lanes)] if span > lanes else []
    while lanes > 1:
        lanes //= 2
        steps.append((lanes, 2))
    for i, (width, count) in enumerate(steps):
        part = te.compute((p.batch, width), _joined(p, part, width, count), name=f"half{i}")
    y = te.compute(p.y_shape, lambda n, *at: _finish(p, part(n, 0), (0,)), name="y")
    return te.create_prim_func([x, y])


def _joined(p: PoolProblem, part: te.Tensor, width: int, count: int) -> Callable:
    def value(n, lane):
        found = part(n, lane)
        for i in range(1, count):
            found = _join(p, found, part(n, lane + i * width))
        return found

    return value


def _join(p: PoolProblem, a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
    return a + b if p.operation == "avg" else tirx.max(a, b)


def _reducer(p: PoolProblem) -> Callable:
    # Lowering makes a maximum of floats one that keeps NaN (lower/nan.py).
    if p.operation == "avg":
        return te.sum
    return te.comm_reducer(lambda a, b: tirx.max(a, b), lambda _: p.nothing, name="max")


def _pad(p: PoolProblem, x: te.Tensor) -> te.Tensor:
    """x with what surrounds it; x itself where no window reaches that."""
    if not p.padded:
        return x

    def value(n, *at):
        *spatial, c = at
        inside = []
        for s, size, (lo, hi) in zip(spatial, p.spatial, p.pad, strict=True):
            inside += [s >= lo] * (lo > 0) + [s < lo + size] * (hi > 0)
        source = x(n, *(s - lo for s, (lo, _) in zip(spatial, p.pad, strict=True)), c)
        return te.if_then_else(te.all(*inside), source, p.nothing)

    padded = [size + lo + hi for size, (lo, hi) in zip(p.spatial, p.pad, strict=True)]
    return te.compute((p.batch, *padded, p.channels), value, name="pad")


def _finish(p: PoolProblem, value: tirx.Expr, at: tuple) -> tirx.Expr:
    if p.operation == "max":
        return value
    count = 1
    for d, position in enumerate(at):
        count = count * _count(p, d, position)
    if isinstance(count, int):
        return value * tirx.const(1.0 / count, p.dtype)
    return value * (tirx.const(1.0, p.dtype) / tirx.Cast(p.dtype, tirx.max(count, 1)))


def _count(p: PoolProblem, d: int, position) -> int | tirx.Expr:
    """Elements along dimension d that count in the window at ``position``; a number if all have as many."""
    (first, stop), (lo, _), dilation, kernel = p.counted[d], p.pad[d], p.dilation[d], p.kernel[d]
    last = (p.out_spatial[d] - 1) * p.stride[d] - lo + (kernel - 1) * dilation
    if first <= -lo and last < stop:
        return kernel
    start = position * p.stride[d] - lo
    until = te.min(kernel, te.indexdiv(stop - start + dilation - 1, dilation))
    return until - te.max(0, te.indexdiv(tirx.max(first - start, 0) + dilation - 1, dilation))
