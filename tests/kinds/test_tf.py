"""depthwise_conv2d and separable_conv2d against TensorFlow's tables, the reference, and its error rules."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from places import DATA

import tvmconv
from tvmconv import ConvSpec, SpecError
from tvmconv.specs.reference.floats import conv_reference

TF_CASES = json.loads((DATA / "tf_depthwise_cases.json").read_text())["cases"]
WORKED = json.loads((DATA / "worked_examples.json").read_text())["cases"]
SMALL = [case for case in TF_CASES if np.prod(case["input"]) < 40_000]


def ramp(shape):
    """TensorFlow's own fill of these cases."""
    size = int(np.prod(shape))
    return (np.arange(1, size + 1, dtype=np.float64) / size).astype(np.float32).reshape(shape)


def expected(x, w, stride, pads, dilation):
    """The float64 result, channels last."""
    rows, columns, channels, multiplier = w.shape
    spec = ConvSpec(x.shape, channels * multiplier, (rows, columns), stride=stride, padding=pads,
                    dilation=dilation, groups=channels, layout="NHWC")  # fmt: skip
    return conv_reference(spec, x, w.reshape(rows, columns, 1, -1))


def named(case):
    """A test id."""
    return case.get("name") or f"{case['input']}{case['filter']}{case['padding']}".replace(" ", "")


@pytest.mark.parametrize(
    ("data_format", "case"), [*(("NHWC", case) for case in SMALL), *(("NCHW", case) for case in SMALL[::3])],
    ids=lambda value: value if isinstance(value, str) else named(value),
)  # fmt: skip
def test_table(data_format, case):
    x, w = ramp(case["input"]), ramp(case["filter"])
    padding = case["padding"]
    last = data_format == "NHWC"
    if not isinstance(padding, str):
        padding = [[0, 0], *padding, [0, 0]] if last else [[0, 0], [0, 0], *padding]
    stride = case["stride"]
    strides = [1, stride, stride, 1] if last else [1, 1, stride, stride]
    given = x if last else np.ascontiguousarray(np.moveaxis(x, -1, 1))
    y = tvmconv.depthwise_conv2d(given, w, strides, padding, data_format, case["dilations"], name="layer")
    y = y if last else np.moveaxis(y, 1, -1)
    assert list(y.shape) == case["out"]
    wanted = expected(x, w, stride, [tuple(p) for p in case["pads"]], case["dilations"])
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", [c for c in WORKED if c["op"] == "depthwise_conv2d"], ids=named)
def test_worked_examples(case):
    x, w, y = (np.array(case[name], np.float32) for name in ("input", "filter", "output"))
    stride = case["stride"]
    np.testing.assert_array_equal(
        tvmconv.depthwise_conv2d(x, w, [1, stride, stride, 1], case["padding"]), y
    )


def test_rate_is_dilations_and_the_kind_of_array_is_kept():
    x, w = ramp((1, 9, 9, 4)), ramp((3, 3, 4, 2))
    y = tvmconv.depthwise_conv2d(torch.from_numpy(x), torch.from_numpy(w), [1, 1, 1, 1], "SAME", rate=[2, 2])
    assert isinstance(y, torch.Tensor)
    np.testing.assert_array_equal(
        y.numpy(), tvmconv.depthwise_conv2d(x, w, (1, 1, 1, 1), "SAME", dilations=2)
    )


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_separable(data_format):
    last = data_format == "NHWC"
    x, depth, point = ramp((2, 8, 7, 3)), ramp((3, 3, 3, 2)), ramp((1, 1, 6, 5))
    given = x if last else np.ascontiguousarray(np.moveaxis(x, -1, 1))
    strides = (1, 2, 2, 1) if last else (1, 1, 2, 2)
    y = tvmconv.separable_conv2d(given, depth, point, strides, "SAME", data_format)
    middle = expected(x, depth, 2, "SAME", 1)
    wanted = np.einsum("nhwc,co->nhwo", middle, point[0, 0].astype(np.float64))
    np.testing.assert_allclose(y if last else np.moveaxis(y, 1, -1), wanted, rtol=1e-5)
    alone = tvmconv.separable_conv2d(given, depth, None, strides, "SAME", data_format)
    np.testing.assert_allclose(alone if last else np.moveaxis(alone, 1, -1), middle, rtol=1e-5)


X, W = np.zeros((1, 6, 6, 2), np.float32), np.zeros((3, 3, 2, 1), np.float32)
ONES = (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("argument", "arguments", "options"),
    [
        ("strides", (X, W, (2, 1, 1, 1), "SAME"), {}),
        ("strides", (X, W, (1, 1, 1, 2), "SAME"), {}),
        ("strides", (X, W, (1, 1, 2, 1), "SAME"), {}),
        ("strides", (X, W, (1, 2, 2, 1), "SAME"), {"data_format": "NCHW"}),
        ("strides", (X, W, 1, "SAME"), {}),
        ("strides", (X, W, (1, 0, 0, 1), "SAME"), {}),
        ("dilations", (X, W, (1, 2, 2, 1), "SAME"), {"dilations": (2, 2)}),
        ("dilations", (X, W, ONES, "SAME"), {"dilations": (1, 2, 2, 1)}),
        ("rate", (X, W, (1, 2, 2, 1), "SAME"), {"rate": 2}),
        ("rate", (X, W, ONES, "SAME"), {"rate": 2, "dilations": 2}),
        ("padding", (X, W, ONES, "FULL"), {}),
        ("padding", (X, W, ONES, 1), {}),
        ("padding", (X, W, ONES, [[1, 1], [0, 0], [0, 0], [0, 0]]), {}),
        ("padding", (X, W, ONES, [[0, 0], [0, -1], [0, 0], [0, 0]]), {}),
        ("data_format", (X, W, ONES, "SAME"), {"data_format": "NWHC"}),
        ("filter", (X, W[:, :, :1], ONES, "SAME"), {}),
        ("filter", (X, W[0], ONES, "SAME"), {}),
        ("input", (X[0], W, ONES, "SAME"), {}),
        ("kernel", (X[:, :2], W, ONES, "VALID"), {}),
    ],
)
def test_raises_where_tensorflow_does(argument, arguments, options):
    with pytest.raises(SpecError, match=f"^{argument}"):
        tvmconv.depthwise_conv2d(*arguments, **options)


def test_pointwise_filter_that_does_not_fit():
    with pytest.raises(SpecError, match=r"^pointwise_filter: shape \(1, 1, 3, 4\), expected \(1, 1, 2"):
        tvmconv.separable_conv2d(X, W, np.zeros((1, 1, 3, 4), np.float32), ONES, "SAME")
