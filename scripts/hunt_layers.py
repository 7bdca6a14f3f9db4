"""Random layers of real networks: a layer of a set, with a few of its properties changed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from bench_layers import SETS

from tvmconv.base.errors import SpecError
from tvmconv.specs.conv import ConvSpec

_MOST = 1.5e9  # multiply-adds, or nothing would come of a short search
_LEAST = 2e5  # below this a call costs as much as its work
_FLOATS = ("float32",) * 6 + ("float16", "bfloat16", "float64")
_CHANGES = (1, 1, 1, 2, 2, 3)  # properties that a layer has changed


def layer(seed: int, number: int, sets: Sequence[str] = tuple(SETS), dtypes: Sequence[str] = ()) -> ConvSpec:
    """The layer of that ``number``: it depends on the arguments alone."""
    rng = random.Random(f"{seed} {number}")
    while True:
        of_set = list(SETS[rng.choice(list(sets))]())
        spec = rng.choice(of_set).spec(rng.choice(["NCHW", "NHWC"]), "none", "symmetric")
        if spec.family != "conv" or not spec.batch:
            continue
        for change in rng.sample(_ALL, rng.choice(_CHANGES)):
            try:
                spec = change(spec, rng)
            except SpecError:  # this change does not fit such a layer
                continue
        fits = _LEAST <= spec.macs <= _MOST and (not dtypes or spec.dtype in dtypes)
        if fits and all(lo < size for (lo, _), size in zip(spec.padding, spec.in_spatial, strict=True)):
            return spec


def shaped(
    spec: ConvSpec, *, batch: int | None = None, channels: int | None = None,
    spatial: Sequence[int] | None = None, **others: object,
) -> ConvSpec:  # fmt: skip
    """``spec`` with another input, and other fields."""
    batch, channels = batch or spec.batch, channels or spec.in_channels
    spatial = tuple(spatial or spec.in_spatial)
    shape = (batch, *spatial, channels) if spec.channels_last else (batch, channels, *spatial)
    return replace(spec, input_shape=shape, **others)


def _batch(spec: ConvSpec, rng: random.Random) -> ConvSpec:
    return shaped(spec, batch=rng.choice([2, 4, 8]))


def _size(spec: ConvSpec, rng: random.Random) -> ConvSpec:
    times, more = rng.choice([0.25, 0.5, 0.75, 1, 1.5, 2, 3]), rng.choice([-1, 0, 0, 1, 3])
    return shaped(spec, spatial=[max(1, round(size * times) + more) for size in spec.in_spatial])


def _narrow(spec: ConvSpec, rng: random.Random) -> ConvSpec:
    """Images that are not square, and short rows."""
    *outer, last = spec.in_spatial
    times = rng.choice([2, 4, 8])
    if outer and rng.random() < 0.5:
        return shaped(spec, spatial=[*outer[:-1], outer[-1] * times, max(1, last // times)])
    return shaped(spec, spatial=[*[max(1, size // times) for size in outer], last * times])


def _channels(spec: ConvSpec, rng: random.Random) -> ConvSpec:
    if spec.kind == "depthwise":
        channels = max(1, spec.in_channels * rng.choice([1, 2, 3, 5]) // rng.choice([1, 2, 4]))
        return shaped(spec, channels=channels, groups=channels, out_channels=channels * spec.multiplier)
    channels, out = (
        max(1, size // spec.groups * rng.choice([1, 1, 2, 3]) // rng.choice([1, 2, 4])) * spec.groups
        for size in (spec.in_channels, spec.out_channels)
    )
    return shaped(spec, channels=channels, out_channels=out)


def _stride(spec: ConvSpec, rng: random.Random) -> ConvSpec:
    return replace(spec, stride=rng.choice([1, 2, 2, 3]), output_padding=0)


def _kernel(spec: ConvSpec, rng: random.Random) -> ConvSpec:
    sides = [rng.choice([1, 3, 3, 5, 7])] * spec.rank
    if spec.rank > 1 and rng.random() < 0.3:
        sides[rng.randrange(spec.rank)] = 1
    return replace(spec, kernel=sides, dilation=1, padding=[side // 2 for side in sides])


def _dilation(spec: ConvSpec, rng: random.Random) -> ConvSpec:
    by = rng.choice([2, 3, 4, 8])
    return replace(spec, dilation=by, padding=[by * (side - 1) // 2 for side in spec.kernel])


def _groups(spec: ConvSpec, rng: random.Random) -> ConvSpec:
    groups = rng.choice([1, 2, 4, 8, 16, 32, spec.in_channels])
    most = 32 * spec.in_channels if groups == spec.in_channels else spec.out_channels
    return replace(spec, groups=groups, out_channels=min(most, spec.out_channels))


def _dtype(spec: ConvSpec, rng: random.Random) -> ConvSpec:
    if rng.random() < 0.3:
        dtype = rng.choice(["int8", "uint8"])
        return replace(spec, dtype=dtype, out_dtype=rng.choice([dtype, "int32"]), weight_dtype="int8",
                       algorithm=None)  # fmt: skip
    dtype = rng.choice(_FLOATS)
    return replace(spec, dtype=dtype, out_dtype=dtype, weight_dtype=dtype)


def _layout(spec: ConvSpec, rng: random.Random) -> ConvSpec:
    shape = (spec.batch, spec.in_channels, *spec.in_spatial)
    if not spec.channels_last:
        return replace(spec, layout="NHWC", input_shape=(shape[0], *shape[2:], shape[1]))
    return replace(spec, layout="NCHW", input_shape=shape)


def _epilogue(spec: ConvSpec, rng: random.Random) -> ConvSpec:
    return replace(spec, bias=True, activation=rng.choice(["relu", "relu6", "silu"]),
                   residual=rng.random() < 0.3)  # fmt: skip


_ALL = (_batch, _size, _size, _narrow, _channels, _channels, _stride, _kernel, _dilation, _groups, _dtype,
        _layout, _layout, _epilogue)  # fmt: skip
