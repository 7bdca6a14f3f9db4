"""8-bit factors in words of 32 bits, as dot products of words want them (``lower.dots``).

Words of one or two elements hold x and w less their zero points, so that padding is plain zeros; those of one
are 32-bit integers, or with a dot product of 16-bit elements their lower halves count. Four
elements have 8 bits each, too few for a difference: x and w are shifted by 128 where the instruction wants
the other sign, padding is the zero point itself, and what zero points add to a sum is taken off afterwards:

    sum (x - xz)(w - wz) = sum x w  -  xz sum w + xz wz terms  -  wz sum x

The second part is known when weights are packed. The last one is computed by a sum over each output's window
where any wz is not 0 after the shift: then only, so that a zero point of 0 (of 128 for uint8) costs nothing.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from tvm import te, tirx

from tvmconv.base.dtypes import BYTES
from tvmconv.compiler.lower.dots import dot_product
from tvmconv.compiler.lower.words import word
from tvmconv.compiler.ops.conv import live_axes, unpadded, where_inside
from tvmconv.compiler.ops.copies import Copy
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, join, place_of, places, reach_of, split
from tvmconv.compiler.ops.tensor_gemm import TensorPacking
from tvmconv.schedules.dots import DOTS, WITHIN, Dot

_SIGNS = -0x7F7F7F80  # the highest bit of each byte of a word


def in_words(p: Problem, dot: Dot | None) -> Problem:
    """``p`` with words for its input channels: what strategies schedule."""
    return p if dot is None else replace(p, in_group=-(-p.in_group // dot.size))


def shifts(dot: Dot | None) -> bool:
    """Whether zero points stay in the factors."""
    return dot is not None and dot.x in BYTES


def copied(p: Problem, dot: Dot | None, flips: bool = False) -> bool:
    """Whether x is read from a copy, the stage ``pad``, and not as it lies in memory. ``flips``: words of the
    other sign may be shifted as they are read."""
    as_it_lies = shifts(dot) and p.channels_last and p.in_group % dot.size == 0
    return p.padded or not as_it_lies or not (flips or p.dtype == dot.x)


def shifted(value: tirx.Expr, dtype: str) -> tirx.Expr:
    """An 8-bit ``value`` as the 8-bit ``dtype``: less or more by 128 if that has the other sign."""
    if value.ty.dtype == dtype:
        return value
    return value.astype(dtype) ^ tirx.const(128 if dtype == "uint8" else -128, dtype)


def sources(
    p: Problem, dot: Dot | None, x: te.Tensor, zero: te.Tensor, copy: Copy, flips: bool = False
):  # fmt: skip
    """A function of (n, g, i, place): word i of a padded place. ``zero``: x's zero point, shifted as x.
    ``copy``: how the stage ``pad`` lies, if there is one (``copied``)."""
    size = 1 if dot is None else dot.size
    kind = "int32" if dot is None or dot.size == 1 else dot.x
    outside = zero(0) if shifts(dot) else tirx.const(0, kind)

    def element(n, g, c, place):
        # In the last word any channel will do: its weights are 0.
        c = te.indexmod(c, p.in_group) if p.in_group % size else c
        value = x(*join(p, n, g, c, place))
        if shifts(dot):
            return shifted(value, kind)
        return value.astype(kind) - zero(0).astype(kind)

    if not copied(p, dot, flips):
        def read(n, g, i, at):
            found = word([x(*join(p, n, g, size * i + j, at)) for j in range(size)])
            return found if p.dtype == dot.x else found ^ tirx.const(_SIGNS, "int32")

        return read

    # Elements, which words are loaded from; else words. A GPU's kernel makes those as it reads x, no copy.
    whole = size == 1 or (p.channels_last and not dot.on_gpu)
    copy = replace(copy, p=replace(p, in_group=-(-p.in_group // size) * (size if whole else 1)))

    def value(*at):
        n, g, c, place = copy.parts(at)
        own = unpadded(p, place)
        if whole:
            found, otherwise = element(n, g, c, own), outside
        else:
            found = word([element(n, g, size * c + j, own) for j in range(size)])
            otherwise = word([outside] * size)
        return where_inside(p, place, copy.reach, found, otherwise)

    pad = te.compute(copy.shape, value, name="pad")
    if not whole or size == 1:
        return lambda n, g, i, at: pad(*copy.index(n, g, i, at))
    return lambda n, g, i, at: word([pad(*copy.index(n, g, size * i + j, at)) for j in range(size)])


def window(
    p: Problem, dot: Dot, source, some: te.Tensor, lanes: int = 1, shared: bool = False
) -> te.Tensor:
    """Sums of x over the window of each output, (batch, groups, 1, spatial) as y lies; 0 where ``some`` (1,)
    is. Stages ``part``, of ``lanes`` words side by side, if there are several; ``column`` if ``shared``, sums
    over what a window sees at one place along a row, which the next windows see too; and ``window``."""
    done, one = in_words(p, dot), replace(p, out_group=1)
    axes, taps = live_axes(p)
    if shared:
        across, along, axes = axes[-1], taps[-1], axes[:-1]
        shape = (*one.y_shape[: len(p.spatial)], reach_of(p, -1), p.groups, 1)
    else:
        shape = one.y_shape
    words = te.reduce_axis((0, -(-done.in_group // lanes)), name="i")
    wanted, none = tirx.NE(some(0), 0), tirx.const(0, "int32")

    def part(at, lane):
        n, g, _, spatial = split(p, at)
        i = words * lanes + lane
        place = place_of(p, spatial, taps)
        if shared:
            place[-1] = spatial[-1]
        term = _elements(dot, source(n, g, i, place), _ones(p, dot, i))
        if done.in_group % lanes:
            term = te.if_then_else(i < done.in_group, term, none)
        return te.sum(te.if_then_else(wanted, term, none), axis=[*axes, words])

    name = "column" if shared else "window"
    if lanes == 1:
        sums = te.compute(shape, lambda *at: part(at, 0), name=name)
    else:
        parts = te.compute((*shape, lanes), lambda *at: part(at[:-1], at[-1]), name="part")
        lane = te.reduce_axis((0, lanes), name="lane")

        def joined(*at):
            return te.sum(te.if_then_else(wanted, parts(*at, lane), none), axis=[lane])

        sums = te.compute(shape, joined, name=name)
    if not shared:
        return sums

    def over(*at):
        *outer, x, g, _ = at
        seen = sums(*outer, x * p.stride[-1] + along * p.dilation[-1], g, 0)
        return te.sum(te.if_then_else(wanted, seen, none), axis=[across])

    return te.compute(one.y_shape, over, name="window")


def _elements(dot: Dot, word: tirx.Expr, ones: tirx.Expr) -> tirx.Expr:
    """The sum of those of a ``word`` of x where ``ones`` has some."""
    if not dot.in_tiles:
        return dot_product(dot, word, ones)
    unsigned_first = DOTS["vpdpbusd"]  # what CPUs with tiles have for vectors
    return dot_product(unsigned_first, *((ones, word) if dot.x == "int8" else (word, ones)))


def _ones(p: Problem, dot: Dot, i: tirx.Expr) -> tirx.Expr:
    """Word i of as many ones as there are channels."""
    full = tirx.const(0x01010101, "int32")
    if p.in_group % dot.size == 0:
        return full
    last = tirx.const((1 << 8 * (p.in_group % dot.size)) // 255, "int32")
    return tirx.Select(tirx.EQ(i, in_words(p, dot).in_group - 1), last, full)


def window_of_tiles(p: Problem, packing: TensorPacking, dot: Dot, source, some: te.Tensor) -> te.Tensor:
    """As ``window``, with the dimensions of ``packing.pixel_dims``: the stage ``window``."""
    shape = packing.sums_shape(p)
    axes, taps = live_axes(p)
    i, most = te.reduce_axis((0, in_words(p, dot).in_group), name="i"), prod(p.out_spatial) - 1

    def value(*at):
        n, g, *own = at
        full = [n, g, *own, 0, 0, 0, 0] if p.channels_last else [n, g, 0, 0, 0, *own]
        (_, _, _, (pixel,)), _ = packing.place(p, full)
        place = place_of(p, places(p.out_spatial, tirx.min(pixel, most)), taps)
        term = dot_product(dot, source(n, g, i, place), _ones(p, dot, i))
        return te.sum(te.if_then_else(tirx.NE(some(0), 0), term, tirx.const(0, "int32")), axis=[*axes, i])

    return te.compute(packing.pixel_dims(p, shape), value, name="window")


def packed_weights(p: Problem, packing: Packing, dot: Dot | None, w: te.Tensor, zero: te.Tensor) -> te.Tensor:
    """Weights as ``packing`` lays them out, in words; less their zero points, or shifted."""
    size = 1 if dot is None else dot.size

    def value(out, taps, i):
        def element(channel):
            found = w(*p.weight_at(out, taps, channel))
            if shifts(dot):
                found = shifted(found, dot.w)
            else:
                found = found.astype("int32") - zero(out).astype("int32")
            if p.in_group % size == 0:
                return found
            return te.if_then_else(channel < p.in_group, found, tirx.const(0, found.ty.dtype))

        if dot is not None and size == 1:
            return element(i) & tirx.const(0xFFFF, "int32")  # the second element is 0, whatever x's is
        return element(i) if dot is None else word([element(size * i + j) for j in range(size)])

    return packing.packed(in_words(p, dot), value, "int32")


def are_small(p: Problem, dot: Dot, w: te.Tensor) -> te.Tensor:
    """(1,), whether ``w``, the user's, suits a ``checked`` dot product: no pair of a word's weights, as
    packed, adds up to more than it takes."""
    taps = [te.reduce_axis((0, k), name=f"k{d}") for d, k in enumerate(p.kernel)]
    out = te.reduce_axis((0, p.groups * p.out_group), name="out")
    i = te.reduce_axis((0, -(-p.in_group // 2)), name="i")

    def size(channel):
        at = tirx.min(channel, p.in_group - 1)
        found = w(*p.weight_at(out, taps, at))
        found = tirx.abs(shifted(found, dot.w).astype("int32"))
        return found if p.in_group % 2 == 0 else te.if_then_else(channel < p.in_group, found, 0)

    pair = size(2 * i) + size(2 * i + 1)
    most = te.compute((1,), lambda _: te.max(pair, axis=[out, *taps, i]), name="most")
    return te.compute((1,), lambda at: (most(at) <= WITHIN).astype("int32"), name="packed_small")


def corrections(
    p: Problem, dot: Dot, w: te.Tensor, x_zero: te.Tensor, w_zero: te.Tensor, bias: te.Tensor | None
) -> tuple[te.Tensor, te.Tensor, te.Tensor]:
    """What a sum of shifted factors needs: (groups, out_group) to add to it; what to multiply the sum of x
    with and take off; and (1,) whether any of the latter is not 0."""
    shape = (p.groups, p.out_group)
    axes, taps = live_axes(p)
    i = te.reduce_axis((0, p.in_group), name="i")
    terms = p.in_group * prod(len(p.live_taps(d)) for d in range(len(p.kernel)))

    def weight(out):
        found = w(*p.weight_at(out, taps, i))
        return te.sum(shifted(found, dot.w).astype("int32"), axis=[*axes, i])

    total = te.compute((p.groups * p.out_group,), weight, name="total")

    def off(o):
        return shifted(w_zero(o), dot.w).astype("int32")

    def offset(g, o):
        out, xz = p.own_channel(g * p.out_group + o), shifted(x_zero(0), dot.x).astype("int32")
        found = xz * (off(out) * terms - total(out))
        return found if bias is None else bias(out // p.out_group, out % p.out_group) + found

    each = te.reduce_axis((0, p.groups * p.out_group), name="each")
    return (
        te.compute(shape, offset, name="packed_bias"),
        te.compute(shape, lambda g, o: off(p.own_channel(g * p.out_group + o)), name="packed_w_zero"),
        te.compute((1,), lambda _: te.max(tirx.abs(off(each)), axis=[each]), name="packed_some"),
    )
