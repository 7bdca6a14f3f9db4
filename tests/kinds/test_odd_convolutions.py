"""Asymmetric and odd convolutions: n x 1, 1 x n, 1x1 with stride, a stride and a dilation per dim, even
kernels, kernels larger than the image, dilation far beyond it. Their values, and that no tap is computed that
only ever sees padding."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from loop_nests import loop_nest, multiply_adds
from test_conv_property import check_all, compiled

from tvmconv.compiler.ops.problem import problem_of
from tvmconv.specs.conv import ConvSpec

# Input channels and spatial dims, then the rest of the descriptor, for both layouts.
CASES = (
    (8, (9, 11), "o12:k7x1:p3x0"),
    (8, (9, 11), "o12:k1x7:p0x3:bias:relu"),
    (8, (9, 11), "o8:k5x1:p2x0:g8:bias"),
    (8, (9, 11), "o8:k1x5:s1x2:p0x2:g8"),
    (6, (9, 33), "o10:k1x31:p0x15:d1x2"),
    (16, (9, 10), "o20:k1x1:s2:bias:relu6"),
    (16, (9, 10), "o20:k1x1:s1x3"),
    (16, (7, 9), "o16:k1x1:s2x3:g16"),
    (5, (6, 7), "o9:k1x1:s2:p1"),
    (8, (11, 13), "o8:k3x3:s2x1:p1:d1x2"),
    (8, (13, 14), "o12:k3x3:s1x3:p2x1:d2x1:g4"),
    (8, (13, 14), "o8:k3x5:s3x2:d3x1:p1x0:g8"),
    (8, (9, 10), "o12:k2x2"),
    (8, (9, 10), "o12:k4x4:s2:p1:bias"),
    (8, (9, 10), "o8:k2x4:p0+1x1+2:g8:relu"),
    (8, (9, 10), "o8:k6x2:s3x1:p2+3x0+1:g2"),
    (4, (3, 3), "o8:k9x9:p4"),
    (4, (3, 2), "o4:k8x9:p6+5x7+8:g4:bias"),
    (4, (2, 5), "o6:k7x2:p5x0:g2"),
    (4, (1, 1), "o8:k3x3:p1:bias"),
    (4, (1, 1), "o4:k5x5:p2:g4"),
    (4, (1, 30), "o8:k3x3:p1"),
    (8, (7, 7), "o8:k3x3:p40:d40"),
    (8, (7, 7), "o8:k3x3:p40:d40:g8:bias:relu"),
    (8, (7, 6), "o12:k3x2:p101x57:d100x50:s3x2:g4"),
    (3, (5,), "o7:k5:p300:d150:bias"),
    (8, (5, 4), "o8:k3x3:p20x0:d20x1"),
    (4, (5, 6), "o4:k3x3:p7x6:d5x4"),
    (4, (2, 3), "o4:k1x1:p9x8:s7:g4:bias"),  # some results see padding alone
    (3, (3, 4, 2), "o5:k5x1x2:p2x0x9:d1x1x11"),
)


def spec_of(channels, spatial, rest, layout):
    shape = (1, *spatial, channels) if layout == "NHWC" else (1, channels, *spatial)
    kind = f"conv{len(spatial)}d"
    return ConvSpec.parse(f"{kind}:{'x'.join(map(str, shape))}:{rest}:{layout}:float32")


SPECS = [spec_of(*case, layout) for case in CASES for layout in ("NHWC", "NCHW")]


def test_values():
    module, pairs = compiled(SPECS)
    check_all(module, [function for _, function in pairs])


def meeting(spec, dim):
    """For each tap of a dim: how many results it meets an element of x for, by the definition."""
    (lo, _), size = spec.padding[dim], spec.in_spatial[dim]
    starts = [o * spec.stride[dim] - lo for o in range(spec.out_spatial[dim])]
    return [
        sum(0 <= start + k * spec.dilation[dim] < size for start in starts) for k in range(spec.kernel[dim])
    ]


@pytest.mark.parametrize("number", range(len(SPECS)), ids=map(str, SPECS))
def test_taps_that_see_padding_alone_are_not_computed(number):
    """Of each case one layout for each target."""
    spec, target = SPECS[number], ("x86-64-v2", "x86-64-v4")[(number // 2 + number) % 2]
    executed = multiply_adds(loop_nest(replace(spec, algorithm="direct"), target))
    met = [meeting(spec, dim) for dim in range(spec.rank)]
    of_x = spec.macs // math.prod(spec.out_spatial) // math.prod(spec.kernel) * math.prod(map(sum, met))
    live = math.prod(max(sum(map(bool, taps)), 1) for taps in met)
    of_live_taps = spec.macs // math.prod(spec.kernel) * live
    assert of_x <= of_live_taps <= spec.macs
    assert of_x <= executed <= of_live_taps
    if spec.channels_last and not spec.groups > 1:
        assert executed == of_x  # not even where a tap meets padding at some results


@given(*[st.integers(least, most) for least, most in ((1, 9), (1, 5), (1, 5), (0, 30), (0, 30), (1, 9))])
def test_live_taps(size, kernel, stride, lo, hi, dilation):
    assume(dilation * (kernel - 1) < size + lo + hi)
    spec = ConvSpec((1, 1, size), 1, kernel, stride=stride, padding=((lo, hi),), dilation=dilation)
    live = [tap for tap, met in enumerate(meeting(spec, 0)) if met] or [0]
    assert problem_of(spec).live_taps(0) == range(live[0], live[-1] + 1)


def test_cases_have_taps_that_see_padding_alone():
    dead = [spec for spec in SPECS if any(0 in meeting(spec, dim) for dim in range(spec.rank))]
    assert len(dead) >= 20
