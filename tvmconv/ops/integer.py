"""Convolutions of 8-bit integers, exact: 32-bit sums of (x - its zero point) * (w - its zero point).

Both factors fit 16 bits with their signs. Where a group has several input channels, they go two to a word,
and the sum is over words (``tvmconv.lower.dots``); zero points are taken off while x is copied and while
weights are packed, so that padding is plain zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm import te, tirx

from tvmconv.lower.dots import dot2
from tvmconv.ops.conv import conditions_inside, packed_channels, reach_of, shuffled
from tvmconv.ops.packing import Packing
from tvmconv.ops.problem import Problem, join, split

RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


@dataclass(frozen=True)
class Quantised:
    """What an integer kernel does besides: types, and whether the sums are scaled to ``out_dtype``."""

    weight_dtype: str
    out_dtype: str
    bias: bool

    @property
    def scaled(self) -> bool:
        return self.out_dtype != "int32"


def in_words(p: Problem) -> Problem:
    """``p`` with its input channels in pairs: what strategies schedule."""
    return replace(p, in_group=-(-p.in_group // 2))


def kernel_func(p: Problem, packing: Packing, paired: bool, q: Quantised) -> tirx.PrimFunc:
    """``(x, packed weights, x's zero point[, bias][, multiplier, y's zero point], y)``.

    Stages ``pad``, ``conv``, ``y``. ``paired``: input channels in words. Shapes: the weights'
    ``packing.shape`` of the problem that is scheduled, zero points (1,), bias and multiplier (groups,
    out_group).
    """
    done = in_words(p) if paired else p
    x = te.placeholder(p.x_shape(), p.dtype, name="x")
    w = te.placeholder(packing.shape(done), "int32", name="w")
    x_zero = te.placeholder((1,), p.dtype, name="x_zero")
    channels = (p.groups, p.out_group)
    b = te.placeholder(channels, "int32", name="b") if q.bias else None
    scale = te.placeholder(channels, "float32", name="scale") if q.scaled else None
    y_zero = te.placeholder((1,), "float32", name="y_zero") if q.scaled else None
    acc = _sums(done, packing, _pad(p, done, x, x_zero, paired), w, paired)

    def finish(*at):
        value = acc(*at)
        _, g, o, _ = split(p, at)
        if b is not None:
            value = value + b(g, o)
        if scale is None:
            return value
        lo, hi = (tirx.const(float(v), "float32") for v in RANGES[q.out_dtype])
        value = tirx.nearbyint(value.astype("float32") * scale(g, o)) + y_zero(0)
        # A NaN, of an infinite scale and a sum of zero, becomes the lower end.
        value = tirx.Select(tirx.GT(value, lo), value, lo)
        value = tirx.Select(tirx.LT(value, hi), value, hi)
        return value.astype("int32").astype(q.out_dtype)

    y = te.compute(p.y_shape, finish, name="y")
    return shuffled(p, te.create_prim_func([t for t in (x, w, x_zero, b, scale, y_zero, y) if t is not None]))


def prepack_func(p: Problem, packing: Packing, paired: bool, q: Quantised) -> tirx.PrimFunc:
    """``(w[, bias], quantisation..., packed weights, x's zero point[, bias][, multiplier, y's zero point])``.

    Quantisation: x and w zero points, or with scaled sums x's, w's and y's scale, each before its zero point.
    """
    w = te.placeholder(p.weight_shape, q.weight_dtype, name="w")
    out = (p.groups * p.out_group,)
    b = te.placeholder((p.groups, p.out_group), "int32", name="bias") if q.bias else None
    x_zero = te.placeholder((1,), p.dtype, name="x_zero_point")
    w_zero = te.placeholder(out, q.weight_dtype, name="w_zero_point")
    packed = [
        _pack(p, packing, paired, w, w_zero),
        te.compute((1,), lambda i: x_zero(i), name="packed_x_zero"),
    ]
    if b is not None:
        packed.append(packed_channels(p, b))
    if not q.scaled:
        given = (w, b, x_zero, w_zero)
    else:
        x_scale, y_scale = (te.placeholder((1,), "float32", name=f"{n}_scale") for n in "xy")
        w_scale = te.placeholder(out, "float32", name="w_scale")
        y_zero = te.placeholder((1,), q.out_dtype, name="y_zero_point")
        packed += [
            te.compute(
                (p.groups, p.out_group), name="packed_multiplier",
                fcompute=lambda g, o: x_scale(0) * w_scale(p.own_channel(g * p.out_group + o)) / y_scale(0),
            ),
            te.compute((1,), lambda i: y_zero(i).astype("float32"), name="packed_y_zero"),
        ]  # fmt: skip
        given = (w, b, x_scale, x_zero, w_scale, w_zero, y_scale, y_zero)
    return te.create_prim_func([*(t for t in given if t is not None), *packed])


def _word(low: tirx.Expr, high: tirx.Expr) -> tirx.Expr:
    """Two numbers of up to 16 bits in a word."""
    return (low & tirx.const(0xFFFF, "int32")) | (high << tirx.const(16, "int32"))


def _pad(p: Problem, done: Problem, x: te.Tensor, zero: te.Tensor, paired: bool) -> te.Tensor:
    """x less its zero point, with zeros around it, one or two channels to a word."""
    reach = tuple(reach_of(p, d) for d in range(len(p.spatial)))
    none = tirx.const(0, "int32")

    def value(*at):
        n, g, c, spatial = split(p, at)
        inside = conditions_inside(p, spatial, reach)
        place = [s - lo for s, (lo, _) in zip(spatial, p.pad, strict=True)]

        def element(channel):
            return x(*join(p, n, g, channel, place)).astype("int32") - zero(0).astype("int32")

        if paired:
            second = element(2 * c + 1)
            if p.in_group % 2:
                second = te.if_then_else(2 * c + 1 < p.in_group, second, none)
            found = _word(element(2 * c), second)
        else:
            found = element(c)
        return te.if_then_else(te.all(*inside), found, none) if inside else found

    return te.compute(done.x_shape(reach), value, name="pad")


def _sums(p: Problem, packing: Packing, x: te.Tensor, w: te.Tensor, paired: bool) -> te.Tensor:
    taps = [te.reduce_axis((0, k), name=f"k{d}") for d, k in enumerate(p.kernel)]
    i = te.reduce_axis((0, p.in_group), name="i")

    def value(*at):
        n, g, o, spatial = split(p, at)
        dims = zip(spatial, p.stride, taps, p.dilation, strict=True)
        source = x(*join(p, n, g, i, [s * stride + k * dilation for s, stride, k, dilation in dims]))
        weight = w(*packing.index(p, g, o, tuple(taps), i))
        return te.sum(dot2(source, weight) if paired else source * weight, axis=[*taps, i])

    return te.compute(p.y_shape, value, name="conv")


def _pack(p: Problem, packing: Packing, paired: bool, w: te.Tensor, zero: te.Tensor) -> te.Tensor:
    """Weights less their zero points, as ``Packing`` lays them out, one or two input channels to a word."""
    done = in_words(p) if paired else p
    shape = packing.shape(done)
    rows, channels = packing.rows(done)
    none = tirx.const(0, "int32")

    def value(row, block, *rest):
        *taps, i, lane = rest
        at = block * packing.block + lane
        out = p.own_channel(row * channels + at if rows > 1 else at)

        def element(channel):
            found = w(*taps, channel, out) if p.channels_last else w(out, channel, *taps)
            return found.astype("int32") - zero(out).astype("int32")

        if paired:
            second = element(2 * i + 1)
            if p.in_group % 2:
                second = te.if_then_else(2 * i + 1 < p.in_group, second, none)
            found = _word(element(2 * i), second)
        else:
            found = element(i)
        return found if channels % packing.block == 0 else te.if_then_else(at < channels, found, none)

    return te.compute(shape, value, name="packed")
