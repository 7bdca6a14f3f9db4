"""Sums of quantised convolutions with a residual: exact on every x86 preset, rounding as it is stated."""

from __future__ import annotations

import re

import numpy as np
import pytest
from combined import on_preset
from test_quantised import CURVES, LEVELS, PRESETS, arguments_of, check, compiled, filled, operands_of

import tvmconv
from tvmconv.base.errors import SpecError
from tvmconv.frontends.verify import random_arrays, verify
from tvmconv.specs.reference.quantised import quantised_reference

SHAPES = (
    "conv2d:1x13x15x37:o29:k3x3:p1:NHWC:{}:bias:residual:relu",
    "conv2d:2x7x5x67:o33:k1x1:NHWC:{}:residual",
    "conv2d:1x14x9x35:o35:k3x3:s2:p0+1x0+1:g35:NHWC:{}:bias:residual",
    "conv2d:1x7x6x24:o48:k1x1:g2:NHWC:{}:bias:residual:relu:sh4",
    "conv2d:1x9x14x21:o17:k3x3:p1:d2:NCHW:{}:bias:residual:relu6",
    "conv2d:1x35x9x14:o35:k3x3:p1:g35:NCHW:{}:residual",
    "conv1d:1x70x5:o9:k5:s2:p2:NWC:{}:bias:residual",
    "tconv2d:1x5x9x7:o37:k3x3:s2:p1:op1:NHWC:{}:bias:residual:relu",
    "tconv2d:1x7x5x41:o7:k3x3:s2:p1:op1:NCHW:{}:residual",
)


TYPES = ("int8", "uint8", "uint8/int8:wuint8", "uint8/int32")


@pytest.mark.parametrize("target", PRESETS)
def test_strategies_on_every_preset(target):
    module, pairs = compiled([filled(*pair) for pair in on_preset(target, LEVELS, SHAPES, TYPES)], target)
    check(module, pairs)
    assert all(found.ok and found.tolerance == 0 for found in verify(module))


def test_activations_act_on_the_sum():
    texts = [f"conv2d:1x7x8x20:o19:k3x3:p1:NHWC:uint8/int8:bias:residual:{curve}" for curve in CURVES]
    module, pairs = compiled(texts)
    for spec, function in pairs:
        arrays = random_arrays(spec, arguments_of(function), "normal", 1)
        arrays["x_zero_point"], arrays["r_zero_point"] = np.array([125], np.uint8), np.array([-7], np.int8)
        arrays["w_zero_point"] = np.full(spec.out_channels, 2, np.int8)
        off = np.abs(function(*operands_of(arrays)) - quantised_reference(spec, **arrays))
        assert off.max() <= 1 and np.count_nonzero(off) <= off.size // 500, spec
    assert all(found.ok for found in verify(module))


@pytest.mark.parametrize("target", PRESETS)
def test_each_product_is_rounded_before_they_are_added(target):
    """A multiply-add that rounds once would give other results for some of all pairs of x and residual."""
    _, [(spec, function)] = compiled(["conv1d:256x256x1:o1:k1:NWC:int8:residual"], target)
    numbers = np.arange(-128, 128, dtype=np.int8)
    x, r = (np.ascontiguousarray(a)[..., None] for a in np.meshgrid(numbers, numbers))
    one, told = np.ones((1, 1, 1), np.int8), 0
    for seed in range(20):
        xs, rs = np.random.default_rng(seed).uniform(0.2, 0.6, 2).astype(np.float32)
        ys = np.float32(2 ** -(seed % 3))
        y = function(x, one, None, r, xs, 0, 1.0, 0, rs, 0, ys, 0)
        scales = {"x_scale": xs, "r_scale": rs, "y_scale": ys}
        np.testing.assert_array_equal(y, quantised_reference(spec, x, one, None, r, **scales))
        first, second = (a.astype(np.float64) * (s / ys) for a, s in ((x, xs), (r, rs)))
        for fused in (np.float32(first) + second, first + np.float32(second)):
            told += np.count_nonzero(np.clip(np.rint(np.float32(fused)), -128, 127) != y)
    assert told


def test_int32_residual_of_the_one_call():
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((1, 5, 6, 7), (4, 5, 3, 3)))
    r = rng.integers(-(2**20), 2**20, (1, 4, 6, 7)).astype(np.int32)
    y = tvmconv.conv(x, w, padding=1, residual=r, activation="relu")
    sums = tvmconv.conv(x, w, padding=1)
    np.testing.assert_array_equal(y, np.maximum(sums + r, 0))


@pytest.fixture(scope="module")
def summed():
    _, [(spec, function)] = compiled(["conv2d:1x6x6x8:o5:k3x3:NHWC:uint8/int8:bias:residual"])
    return function, random_arrays(spec, arguments_of(function), "normal", 0)


@pytest.mark.parametrize("name, value, message", [
    ("r_scale", 0, "r_scale: 0, expected positive finite numbers"),
    ("r_scale", float("nan"), "r_scale: nan, expected positive finite numbers"),
    ("r_scale", np.ones(5, np.float32), "r_scale: shape (5,), expected one number"),
    ("r_scale", None, "r_scale: None, expected"),
    ("r_zero_point", 128, "r_zero_point: 128, expected integers from -128 to 127"),
    ("r_zero_point", 0.5, "r_zero_point: 0.5, expected integers"),
    ("residual", np.zeros((1, 4, 4, 5), np.uint8), "residual: dtype uint8, expected int8"),
    ("residual", np.zeros((1, 4, 5, 4), np.int8), "residual: shape (1, 4, 5, 4) of rank 4, expected"),
])  # fmt: skip
def test_bad_arguments(summed, name, value, message):
    function, arrays = summed
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        function(*operands_of({**arrays, name: value}))
    assert "\n" not in str(caught.value)


def test_a_zero_point_may_be_left_out(summed):
    function, arrays = summed
    zero = {**arrays, "r_zero_point": np.zeros(1, np.int8)}
    expected = function(*operands_of(zero))
    np.testing.assert_array_equal(function(*operands_of({**arrays, "r_zero_point": None})), expected)
