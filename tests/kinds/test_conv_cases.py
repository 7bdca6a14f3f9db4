"""Published cases: TensorFlow's worked examples and depthwise grid, XNNPACK's convolution tests."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from checking import assert_right, random_arrays
from places import DATA

import tvmconv
from tvmconv.base.errors import SpecError
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.reference.floats import conv_reference
from tvmconv.specs.shorthand import depthwise


def read(name):
    return json.loads((DATA / name).read_text())


def explicit(padding):
    """TensorFlow's padding: a name, or pairs of which the batch's and the channels' may be given too."""
    if isinstance(padding, str):
        return padding
    return tuple(map(tuple, padding[1:-1] if len(padding) == 4 else padding))


def tf_depthwise_spec(case):
    return depthwise(
        case["input"], case["filter"][:2], multiplier=case["filter"][3],
        stride=case["stride"], padding=explicit(case["padding"]), dilation=case["dilations"], layout="NHWC",
    )  # fmt: skip


def pair(text):
    """(height, width) of "2" or "2, 1"."""
    values = tuple(int(value) for value in text.split(","))
    return values * 2 if len(values) == 1 else values


def xnnpack_specs(fields):
    """The spec of one variant of an XNNPACK test, and of its second shape where it sets up one."""

    def one(key):
        return int(fields.get(key, 1))

    def dims(key, default):
        if f"{key}_height" in fields:
            return one(f"{key}_height"), one(f"{key}_width")
        return pair(fields.get(key, default))

    if fields.get("padding_tf_same") == "true":
        padding = "SAME"
    else:
        high, wide = pair(fields.get("padding", "0"))
        high, wide = int(fields.get("padding_height", high)), int(fields.get("padding_width", wide))
        sides = [("top", high), ("bottom", high), ("left", wide), ("right", wide)]
        top, bottom, left, right = (int(fields.get(f"padding_{side}", size)) for side, size in sides)
        padding = ((top, bottom), (left, right))
    groups = one("groups")
    size = dims("input_size", "") if "input_size" in fields else (one("input_height"), one("input_width"))
    spec = ConvSpec(
        (one("batch_size"), *size, groups * one("group_input_channels")),
        groups * one("group_output_channels"),
        dims("kernel_size", "") if "kernel_size" in fields else (one("kernel_height"), one("kernel_width")),
        stride=pair(fields.get("subsampling", "1")), padding=padding, groups=groups, layout="NHWC",
        dilation=pair(fields.get("dilation", "1")), bias=fields.get("has_bias") != "false",
    )  # fmt: skip
    spec = with_clamp(spec, int(fields.get("qmin", 0)), int(fields.get("qmax", 255)))
    if not any(key.startswith("next_") for key in fields):
        return (spec,)
    batch, height, width, channels = spec.input_shape
    changed = (
        int(fields.get("next_batch_size", batch)), int(fields.get("next_input_height", height)),
        int(fields.get("next_input_width", width)), channels,
    )  # fmt: skip
    return spec, replace(spec, input_shape=changed)


def with_clamp(spec, qmin, qmax):
    """Clamped to the part of its results' range that qmin and qmax, of 255, leave; as XNNPACK's tester."""
    if (qmin, qmax) == (0, 255):
        return spec
    y = conv_reference(spec, *xnnpack_arrays(spec))
    step = (y.max() - y.min()) / 255
    lo = y.min() + step * qmin if qmin > 0 else -math.inf
    hi = y.max() - step * (255 - qmax) if qmax < 255 else math.inf
    return replace(spec, activation=("clip", np.float32(lo), np.float32(hi)))


def xnnpack_arrays(spec, seed=0):
    """Uniform in 0.1 to 1, as in XNNPACK's tester: the same data with and without a clamp."""
    rng = np.random.default_rng(seed)
    x, w, bias = (
        rng.uniform(0.1, 1.0, shape).astype(np.float32)
        for shape in (spec.input_shape, spec.weight_shape, spec.bias_shape)
    )
    return x, w, bias if spec.bias else None


def xnnpack_id(name, fields):
    # A few names occur twice, for the two ways in which XNNPACK lays out depthwise weights.
    layout = ["hwio"] if "depthwise_layout" in fields else []
    return "-".join([name, *layout, *map(str, xnnpack_specs(fields))])


WORKED = {case["name"]: case for case in read("worked_examples.json")["cases"]}
TF_CASES = {str(tf_depthwise_spec(case)): case for case in read("tf_depthwise_cases.json")["cases"]}
XNNPACK_CASES = {
    xnnpack_id(test["name"], fields): (test["name"], fields)
    for test in read("xnnpack_conv_cases.json")["test/operators/convolution-nhwc.cc"]
    for fields in test["variants"]
}


@pytest.fixture(scope="module")
def functions():
    """Every spec of this module, compiled into one library: descriptor -> function."""
    specs = [tf_depthwise_spec(case) for case in TF_CASES.values()]
    specs += [spec for _, fields in XNNPACK_CASES.values() for spec in xnnpack_specs(fields)]
    named = {f"case{i}": spec for i, spec in enumerate(dict.fromkeys(specs))}
    module = tvmconv.compile(named).load()
    return {str(spec): module[name] for name, spec in named.items()}


def test_all_cases_are_here():
    assert len(WORKED) == 4
    distinct = {json.dumps({**case, "group": ""}) for case in read("tf_depthwise_cases.json")["cases"]}
    assert len(TF_CASES) == len(distinct)
    tests = read("xnnpack_conv_cases.json")["test/operators/convolution-nhwc.cc"]
    assert len(XNNPACK_CASES) == sum(len(test["variants"]) for test in tests)


@pytest.mark.parametrize("case", WORKED.values(), ids=WORKED)
def test_worked_example(case):
    x, w, expected = (np.array(case[key], np.float32) for key in ("input", "filter", "output"))
    groups = 1
    if case["op"] == "depthwise_conv2d":
        # [kh, kw, C, M] is HWIO with I = 1 and O = C * M, element for element.
        groups, w = w.shape[2], w.reshape(*w.shape[:2], 1, -1)
    y = tvmconv.conv(
        x, w, stride=case["stride"], padding=explicit(case["padding"]), groups=groups, layout="NHWC"
    )
    assert isinstance(y, np.ndarray) and y.dtype == np.float32
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("case", TF_CASES.values(), ids=TF_CASES)
def test_tensorflow_depthwise(case, functions):
    spec = tf_depthwise_spec(case)
    assert [list(pads) for pads in spec.padding] == case["pads"]
    assert list(spec.output_shape) == case["out"]
    ramps = [np.arange(1, math.prod(s) + 1) / math.prod(s) for s in (case["input"], case["filter"])]
    x, w = (
        ramp.reshape(shape).astype(np.float32)
        for ramp, shape in zip(ramps, (spec.input_shape, spec.weight_shape), strict=True)
    )
    y = functions[str(spec)](x, w)
    assert_right(spec, y, x, w, None)
    np.testing.assert_allclose(y, conv_reference(spec, x, w), rtol=1e-5, atol=1e-5)  # TensorFlow's own


@pytest.mark.parametrize(("name", "fields"), XNNPACK_CASES.values(), ids=XNNPACK_CASES)
def test_xnnpack(name, fields, functions):
    specs = xnnpack_specs(fields)
    if name.startswith("setup_changing_input_buffer"):
        specs *= 2
    for seed, spec in enumerate(specs):
        function = functions[str(spec)]
        x, w, bias = xnnpack_arrays(spec, seed)
        if "input_channel_stride" in fields:
            y = conv_of_view(spec, x, w, bias, int(fields["input_channel_stride"]))
        elif "output_channel_stride" in fields:
            y = into_wider(function, spec, x, w, bias, int(fields["output_channel_stride"]))
        elif "use_weights_cache" in fields:
            # The same weights bound twice serve two users.
            first, second = function.bind(w, bias), function.bind(w.copy(), bias)
            y = first(x)
            np.testing.assert_array_equal(second(x), y)
        else:
            y = function(x, w, bias)
        assert_right(spec, y, x, w, bias)
        np.testing.assert_allclose(y, conv_reference(spec, x, w, bias), rtol=1e-4)  # XNNPACK's own
        if spec.activation:
            assert y.min() < y.max(), "the clamp leaves something to compare"


def conv_of_view(spec, x, w, bias, channel_stride):
    """Through the one call, x as the first channels of a wider array, which stays as it was."""
    wide = np.full((*x.shape[:-1], channel_stride), np.nan, np.float32)
    view = wide[..., : x.shape[-1]]
    view[...] = x
    before = wide.copy()
    y = tvmconv.conv(
        view, w, bias, stride=spec.stride, padding=spec.padding, dilation=spec.dilation, groups=spec.groups,
        layout="NHWC", activation=spec.activation,
    )  # fmt: skip
    np.testing.assert_array_equal(wide, before)
    return y


def into_wider(function, spec, x, w, bias, channel_stride):
    """A result cannot go straight into a wider array: that is refused before anything is written there."""
    wide = np.full((*spec.output_shape[:-1], channel_stride), np.nan, np.float32)
    view = wide[..., : spec.out_channels]
    with pytest.raises(SpecError, match="out"):
        function(x, w, bias, out=view)
    assert np.isnan(wide).all()
    view[...] = function(x, w, bias)
    return view


def test_one_call_agrees_with_a_library(functions):
    spec = tf_depthwise_spec(next(iter(TF_CASES.values())))
    x, w, _ = random_arrays(spec)
    y = tvmconv.conv(x, w, stride=spec.stride, padding=spec.padding, groups=spec.groups, layout="NHWC")
    np.testing.assert_array_equal(y, functions[str(spec)](x, w))
