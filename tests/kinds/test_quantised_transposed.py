"""Transposed convolution of 8-bit integers: exact on every x86 preset; torch's sums as a second opinion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from combined import on_preset
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from strategies import specs
from test_quantised import LEVELS, PRESETS, arguments_of, check, compiled, filled, operands_of

import tvmconv
from tvmconv.frontends.verify import random_arrays, verify
from tvmconv.specs.conv import ConvSpec

SHAPES = (
    "tconv2d:1x5x9x7:o37:k3x3:s2:p1:op1:NHWC:{}:bias",
    "tconv2d:1x7x5x41:o7:k3x3:s2:p1:op1:NCHW:{}:bias:relu",
    "tconv2d:1x9x13x40:o40:k4x4:s2:p1:g40:NHWC:{}:bias",
    "tconv2d:2x20x9x19:o20:k4x4:s2:p1:g20:NCHW:{}",
    "tconv2d:1x7x9x12:o60:k3x3:s3:d2:g3:NHWC:{}:sh5",
    "tconv2d:1x5x6x7:o9:k1x1:s3:op2:NHWC:{}:bias",  # most phases see no tap at all
    "tconv2d:1x6x19x4:o5:k3x3:s4x6:d6x4:p2x5:NHWC:{}:residual",
    "tconv1d:1x16x40:o16:k16:s8:p4:NCW:{}:bias:residual",
    "tconv3d:1x3x4x5x8:o6:k3x2x3:s2x1x2:p1x0x1:NDHWC:{}:bias",
    "tconv3d:1x4x3x4x5:o4:k2x2x2:s2:g4:NCDHW:{}",
)


TYPES = ("int8/int32:wuint8", "uint8/int8", "int8")


@pytest.mark.parametrize("target", PRESETS)
def test_corners_on_every_preset(target):
    module, pairs = compiled([filled(*pair) for pair in on_preset(target, LEVELS, SHAPES, TYPES)], target)
    check(module, pairs)
    assert all(found.ok and found.tolerance == 0 for found in verify(module))


def torch_sums(spec, x, w, bias, x_zero, w_zero):
    """By torch in float64, which holds every sum exactly."""
    if spec.channels_last:
        x, w = np.moveaxis(x, -1, 1), np.moveaxis(w, (-2, -1), (0, 1))
    by_channel = w_zero.reshape(spec.groups, 1, -1, *(1,) * spec.rank).astype(np.float64)
    grouped = w.reshape(spec.groups, -1, *w.shape[1:]) - by_channel
    x, w = (torch.tensor(a.astype(np.float64)) for a in (x - float(x_zero[0]), grouped.reshape(w.shape)))
    run = getattr(torch.nn.functional, f"conv_transpose{spec.rank}d")
    y = run(x, w, None, spec.stride, 0, spec.output_padding, spec.groups, spec.dilation).numpy()
    kept = (slice(lo, lo + out) for (lo, _), out in zip(spec.padding, spec.out_spatial, strict=True))
    y = y[(slice(None), slice(None), *kept)]
    if bias is not None:
        y = y + bias.reshape(-1, *(1,) * spec.rank)
    return np.moveaxis(y, 1, -1) if spec.channels_last else y


SUMS = ("int8/int32", "uint8/int32", "uint8/int32:wuint8")


@settings(max_examples=3, phases=[Phase.explicit, Phase.generate])
@given(st.lists(st.tuples(specs(transposed=True, activations=[None]), st.sampled_from(SUMS)),
                min_size=8, max_size=8, unique_by=lambda pair: str(pair[0])))  # fmt: skip
def test_random_sums_as_torch(drawn):
    texts = [filled(str(spec).replace("float32", "{}").replace(":residual", ""), types)
             for spec, types in drawn]  # fmt: skip
    texts = [":".join(part for part in text.split(":") if not part.startswith("sh")) for text in texts]
    _, pairs = compiled(dict.fromkeys(texts))
    for spec, function in pairs:
        arrays = random_arrays(spec, arguments_of(function), "normal", 3)
        y = function(*operands_of(arrays))
        names = ("x", "w", "bias", "x_zero_point", "w_zero_point")
        expected = torch_sums(spec, *map(arrays.get, names))
        np.testing.assert_array_equal(y, expected.astype(np.int64).astype(np.int32), err_msg=str(spec))


@pytest.mark.parametrize("target", PRESETS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_extremes_do_not_saturate(layout, target):
    """All factors at +-255: without overlap every result is one tap of 33 channels."""
    shape = (1, 33, 7, 7) if layout == "NCHW" else (1, 7, 7, 33)
    spec = ConvSpec(shape, 17, 2, stride=2, transposed=True, layout=layout, dtype="uint8",
                    out_dtype="int32", weight_dtype="uint8")  # fmt: skip
    _, [(_, function)] = compiled([str(spec)], target)
    for x, xz in ((255, 0), (0, 255)):
        for w, wz in ((255, 0), (0, 255)):
            y = function(np.full(shape, x, np.uint8), np.full(spec.weight_shape, w, np.uint8), None, xz, wz)
            assert (y == (x - xz) * (w - wz) * 33).all()


def test_the_one_call_gives_sums():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (1, 6, 5, 7), np.uint8)
    w = rng.integers(-128, 128, (6, 4, 3, 3)).astype(np.int8)
    options = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
    y = tvmconv.conv_transpose(torch.from_numpy(x), torch.from_numpy(w), **options)
    wide = torch.tensor(x).double(), torch.tensor(w).double()
    expected = torch.nn.functional.conv_transpose2d(*wide, **options)
    assert y.dtype == torch.int32
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=0)
