"""Convolutions of 8-bit integers, exact: 32-bit sums of (x - its zero point) * (w - its zero point), finished
as they are or scaled to 8 bits. ``ops.words`` has the factors."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import te, tirx

from tvmconv.descriptor import clamp_of
from tvmconv.lower.dots import Dot
from tvmconv.ops import requantise, tensor_gemm, words
from tvmconv.ops.conv import packed_channels
from tvmconv.ops.im2col import flat
from tvmconv.ops.packing import Packing
from tvmconv.ops.placing import with_placed_result
from tvmconv.ops.problem import Problem, join, place_of, result_index, split
from tvmconv.ops.tensor_gemm import TensorPacking


@dataclass(frozen=True)
class Quantised:
    """What an integer kernel does besides: types, activation, whether sums are scaled to ``out_dtype``."""

    weight_dtype: str
    out_dtype: str
    bias: bool
    activation: str | None

    @property
    def scaled(self) -> bool:
        return self.out_dtype != "int32"

    @property
    def real(self) -> bool:
        """Whether the activation is computed on real numbers, and does more than to clamp."""
        return self.scaled and clamp_of(self.activation) is None


def kernel_func(p: Problem, packing: Packing, dot: Dot | None, q: Quantised, lanes: int = 1) -> tirx.PrimFunc:
    """``(x, packed weights, x's zero point[, bias][, w's zero points, whether there are any][, multiplier,
    limits, y's zero point[, y's scale]], y)``, as ``requantise`` wants them.

    Stages ``pad`` (``words.copied``), ``conv``, ``y``; where zero points stay in the factors
    (``words.shifts``) also ``part``, of ``lanes`` lanes, and ``window``, and there is a bias in any case.
    With a ``TensorPacking`` also ``columns``.
    Shapes: the weights' ``packing.shape`` of the problem in words, bias, w's zero points and multiplier
    (groups, out_group), others (1,).
    """
    done = words.in_words(p, dot)
    x = te.placeholder(p.x_shape(), p.dtype, name="x")
    w = te.placeholder(packing.shape(done), "int32", name="w")
    kept = words.shifts(dot)
    x_zero = te.placeholder((1,), dot.x if kept else p.dtype, name="x_zero")
    channels = (p.groups, p.out_group)
    b = te.placeholder(channels, "int32", name="b") if q.bias or kept else None
    w_zero = te.placeholder(channels, "int32", name="w_zero") if kept else None
    some = te.placeholder((1,), "int32", name="some") if kept else None
    scale = te.placeholder(channels, "float32", name="scale") if q.scaled else None
    limits = te.placeholder((2,), "float32", name="limits") if q.scaled else None
    y_zero = te.placeholder((1,), "int32", name="y_zero") if q.scaled else None
    y_scale = te.placeholder((1,), "float32", name="y_scale") if q.real else None
    source = words.sources(p, dot, x, x_zero)
    tensor = isinstance(packing, TensorPacking)
    if tensor:
        acc = tensor_gemm.products(done, packing, source, w, dot)
        seen = words.window_of_tiles(p, packing, dot, source, some)
    else:
        acc = _sums(p, done, packing, dot, source, w)
        seen = words.window(p, dot, source, some, lanes) if kept else None

    done_y = flat(p) if tensor else p

    def place(at):
        return packing.place(p, at) if tensor else (split(p, at), [])

    def stored(at):
        found, inside = place(at)
        return result_index(done_y, join(done_y, *found)), inside

    def finish(*at):
        value = acc(*at)
        (n, g, o, spatial), _ = place(at)
        if b is not None:
            value = value + b(g, o)
        if seen is not None:
            pixel = packing.pixel_dims(p, at) if tensor else join(p, n, g, 0, spatial)
            value = value - w_zero(g, o) * seen(*pixel)
        if scale is None:
            return requantise.clamped(value, q.activation)
        return requantise.requantised(
            value, scale(g, o), limits(0), limits(1), y_zero(0), activation=q.activation,
            y_scale=y_scale(0) if q.real else None, out_dtype=q.out_dtype,
        )  # fmt: skip

    shape = packing.sums_shape(p) if tensor else p.y_shape
    y = te.compute(shape, finish, name="y")
    arrays = (x, w, x_zero, b, w_zero, some, scale, limits, y_zero, y_scale, y)
    func = te.create_prim_func([t for t in arrays if t is not None])
    return with_placed_result(func, done_y.result_shape, stored) if shape != done_y.result_shape else func


def prepack_func(p: Problem, packing: Packing, dot: Dot | None, q: Quantised) -> tirx.PrimFunc:
    """``(w[, bias], quantisation..., what kernel_func takes after x)``.

    Quantisation: x and w zero points, or with scaled sums x's, w's and y's scale, each before its zero point.
    """
    w = te.placeholder(p.weight_shape, q.weight_dtype, name="w")
    out, channels = (p.groups * p.out_group,), (p.groups, p.out_group)
    b = te.placeholder(channels, "int32", name="bias") if q.bias else None
    x_zero = te.placeholder((1,), p.dtype, name="x_zero_point")
    w_zero = te.placeholder(out, q.weight_dtype, name="w_zero_point")
    packed = [words.packed_weights(p, packing, dot, w, w_zero)]
    if words.shifts(dot):
        packed += [
            te.compute((1,), lambda i: words.shifted(x_zero(i), dot.x), name="packed_x_zero"),
            *words.corrections(p, dot, w, x_zero, w_zero, b),
        ]
    else:
        packed.append(te.compute((1,), lambda i: x_zero(i), name="packed_x_zero"))
        if b is not None:
            packed.append(packed_channels(p, b))
    if not q.scaled:
        given = (w, b, x_zero, w_zero)
    else:
        x_scale, y_scale = (te.placeholder((1,), "float32", name=f"{n}_scale") for n in "xy")
        w_scale = te.placeholder(out, "float32", name="w_scale")
        y_zero = te.placeholder((1,), q.out_dtype, name="y_zero_point")

        def multiplier(g, o):
            own = w_scale(p.own_channel(g * p.out_group + o))
            return requantise.multiplier(q.activation, x_scale(0), own, y_scale(0))

        packed += [
            te.compute(channels, multiplier, name="packed_multiplier"),
            requantise.limits(q.activation, q.out_dtype, y_scale, y_zero),
            te.compute((1,), lambda i: requantise.shift(y_zero(i)), name="packed_y_zero"),
        ]
        if q.real:
            packed.append(te.compute((1,), lambda i: y_scale(i), name="packed_y_scale"))
        given = (w, b, x_scale, x_zero, w_scale, w_zero, y_scale, y_zero)
    return te.create_prim_func([*(t for t in given if t is not None), *packed])


def _sums(p: Problem, done: Problem, packing: Packing, dot: Dot | None, source, w: te.Tensor) -> te.Tensor:
    axes, taps = words.live(p)
    i = te.reduce_axis((0, done.in_group), name="i")

    def value(*at):
        n, g, o, spatial = split(p, at)
        read = source(n, g, i, place_of(p, spatial, taps))
        weight = w(*packing.index(done, g, o, tuple(taps), i))
        return te.sum(read * weight if dot is None else dot.of(read, weight), axis=[*axes, i])

    return te.compute(p.y_shape, value, name="conv")
