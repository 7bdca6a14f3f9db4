"""Pooling: windows of an image, and the whole image at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from itertools import product
from math import prod
from typing import Any

from tvm import te, tirx

from tvmconv.compiler.ops.algorithm import Algorithm, Epilogue, Shapes
from tvmconv.compiler.ops.casts import narrowed, widened
from tvmconv.compiler.ops.pool_problem import PoolProblem

_MOST_ROWS = 9  # of a window, or columns, that are written out


def windows_func(p: PoolProblem) -> tirx.PrimFunc:
    """``(x, y)``: stages ``pad`` (where windows reach outside, or x is widened), ``pool``, ``y``."""
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


def has_columns(p: PoolProblem) -> bool:
    """Whether `columns_func` has this pooling, of windows of few elements: one whose windows reach outside
    reads the edge instead, which must be in the window and not change its value."""
    few = 1 < prod(p.kernel[:-1]) <= _MOST_ROWS and p.kernel[-1] <= _MOST_ROWS
    dims = zip(p.dilation, p.pad, strict=True)
    edges = p.operation == "max" and all(apart == 1 or pad == (0, 0) for apart, pad in dims)
    return few and (edges or not p.padded)


def columns_func(p: PoolProblem) -> tirx.PrimFunc:
    """``(x, y)``: stages ``column`` (windows without their last dimension, at each position of the row and of
    its padding), which neighbouring windows share, and ``y``."""
    x = te.placeholder(p.x_shape, p.dtype, name="x")

    def place(d: int, at: tirx.Expr) -> tirx.Expr:
        lo, hi = p.pad[d]
        at = tirx.max(at - lo, 0) if lo else at
        return tirx.min(at, p.spatial[d] - 1) if hi else at

    def column(n, *at):
        *rows, q, c = at
        found = []
        for taps in product(*map(range, p.kernel[:-1])):
            above = zip(rows, p.stride, taps, p.dilation, strict=False)
            own = [place(d, row * stride + k * apart) for d, (row, stride, k, apart) in enumerate(above)]
            found.append(widened(x(n, *own, place(len(rows), q), c), p.acc_dtype))
        return reduce(partial(_join, p), found)

    shape = (p.batch, *p.out_spatial[:-1], p.spatial[-1] + sum(p.pad[-1]), p.channels)
    columns = te.compute(shape, column, name="column")

    def window(n, *at):
        *rows, q, c = at
        places = (q * p.stride[-1] + k * p.dilation[-1] for k in range(p.kernel[-1]))
        value = reduce(partial(_join, p), (columns(n, *rows, place, c) for place in places))
        return _finish(p, value, at[:-1])

    return te.create_prim_func([x, te.compute(p.y_shape, window, name="y")])


def planes_func(p: PoolProblem) -> tirx.PrimFunc:
    """``(x, y)`` of planes ``[batch, *spatial, 1]``: stages ``column`` (windows without their last dimension,
    at each position of the row and of its padding), ``pool``, ``y``."""
    x = te.placeholder(p.x_shape, p.dtype, name="x")
    lo, hi = p.pad[-1]
    taps = [te.reduce_axis((0, k), name=f"k{d}") for d, k in enumerate(p.kernel)]
    *above, last = taps
    above = [tap for tap in above if int(tap.dom.extent) > 1]

    def column(n, *at):
        *rows, q, c = at
        source, inside = [], []
        for d, row in enumerate(rows):
            place = row * p.stride[d] - p.pad[d][0] + (taps[d] * p.dilation[d] if p.kernel[d] > 1 else 0)
            source.append(place)
            inside += [place >= 0] * (p.pad[d][0] > 0) + [place < p.spatial[d]] * (p.pad[d][1] > 0)
        inside += [q >= lo] * (lo > 0) + [q < lo + p.spatial[-1]] * (hi > 0)
        value = widened(x(n, *source, q - lo, c), p.acc_dtype)
        if inside:
            value = te.if_then_else(te.all(*inside), value, p.nothing)
        return _reducer(p)(value, axis=above) if above else value

    shape = (p.batch, *p.out_spatial[:-1], lo + p.spatial[-1] + hi, 1)
    columns = te.compute(shape, column, name="column")

    def window(n, *at):
        *rows, q, c = at
        return _reducer(p)(columns(n, *rows, q * p.stride[-1] + last * p.dilation[-1], c), axis=last)

    pool = te.compute(p.y_shape, window, name="pool")
    y = te.compute(p.y_shape, lambda n, *at: _finish(p, pool(n, *at), at[:-1]), name="y")
    return te.create_prim_func([x, y])


def whole_last_func(p: PoolProblem) -> tirx.PrimFunc:
    """``(x, y)`` of a whole image [batch, rows, columns, channels]: ``row``, ``pool``, ``y``."""
    x = te.placeholder(p.x_shape, p.dtype, name="x")
    r, q = (te.reduce_axis((0, k), name=name) for k, name in zip(p.kernel, "rq", strict=True))
    row = te.compute((p.batch, p.spatial[0], p.channels),
                     lambda n, i, c: _reducer(p)(widened(x(n, i, q, c), p.acc_dtype), axis=q), name="row")
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
        value = widened(x(n, at, 0), p.acc_dtype)
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
    """x as windows read it, with its surroundings; x itself if no window reaches beyond it."""
    if not p.padded and not p.widened:
        return x

    def value(n, *at):
        *spatial, c = at
        inside = []
        for s, size, (lo, hi) in zip(spatial, p.spatial, p.pad, strict=True):
            inside += [s >= lo] * (lo > 0) + [s < lo + size] * (hi > 0)
        source = widened(x(n, *(s - lo for s, (lo, _) in zip(spatial, p.pad, strict=True)), c), p.acc_dtype)
        return te.if_then_else(te.all(*inside), source, p.nothing) if inside else source

    padded = [size + lo + hi for size, (lo, hi) in zip(p.spatial, p.pad, strict=True)]
    return te.compute((p.batch, *padded, p.channels), value, name="pad")


def _finish(p: PoolProblem, value: tirx.Expr, at: tuple) -> tirx.Expr:
    if p.operation == "max":
        return narrowed(value, p.dtype)
    count = 1
    for d, position in enumerate(at):
        count = count * _count(p, d, position)
    if isinstance(count, int):
        return narrowed(value * tirx.const(1.0 / count, p.acc_dtype), p.dtype)
    one = tirx.const(1.0, p.acc_dtype)
    return narrowed(value * (one / tirx.Cast(p.acc_dtype, tirx.max(count, 1))), p.dtype)


def _count(p: PoolProblem, d: int, position) -> int | tirx.Expr:
    """Elements along dimension d that count in the window at ``position``; a number if all have as many."""
    (first, stop), (lo, _), dilation, kernel = p.counted[d], p.pad[d], p.dilation[d], p.kernel[d]
    last = (p.out_spatial[d] - 1) * p.stride[d] - lo + (kernel - 1) * dilation
    if first <= -lo and last < stop:
        return kernel
    start = position * p.stride[d] - lo
    until = te.min(kernel, te.indexdiv(stop - start + dilation - 1, dilation))
    return until - te.max(0, te.indexdiv(tirx.max(first - start, 0) + dilation - 1, dilation))


@dataclass(frozen=True)
class Pooling(Algorithm):
    """One of the functions above: ``func(p, *args)``."""

    func: Callable[..., tirx.PrimFunc]
    args: tuple = ()

    def definition(self, p: PoolProblem, packing: Any, does: Epilogue | None) -> tirx.PrimFunc:
        """``(x, y)``."""
        return self.func(p, *self.args)

    def shapes(self, p: PoolProblem, packing: Any) -> Shapes:
        """See ``Algorithm``."""
        return {"x": p.x_shape, "y": p.y_shape}
