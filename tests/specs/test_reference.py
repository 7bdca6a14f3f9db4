"""The referee is refereed: the float64 reference against torch in float64 and against onnxruntime.

Convolutions are compared on small integers, whose sums are exact in float32 too, so that one wrong
term shows and no tolerance hides it.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from onnx import helper
from runtime_node import onnxruntime_output
from strategies import specs

from tvmconv.base.errors import SpecError
from tvmconv.specs.activations import activate
from tvmconv.specs.conv import ConvSpec, without_borders
from tvmconv.specs.reference.floats import conv_reference


def integer_arrays(spec, seed=0):
    """x, w, bias of small integers as float64; bias None where the spec has none."""
    rng = np.random.default_rng(seed)
    shapes = (spec.input_shape, spec.weight_shape, spec.bias_shape)
    x, w, bias = (rng.integers(-4, 5, shape).astype(np.float64) for shape in shapes)
    return x, w, bias if spec.bias else None


def channels_first(spec, x, w):
    """x as (N, C, *spatial) and w as both torch and ONNX want it."""
    if not spec.channels_last:
        return x, w
    last = w.ndim - 1
    order = (last - 1, last) if spec.transposed else (last, last - 1)
    return np.moveaxis(x, -1, 1), np.transpose(w, (*order, *range(spec.rank)))


def layout_of(spec, y):
    return np.moveaxis(y, 1, -1) if spec.channels_last else y


def bordered(spec, x):
    """x as (N, C, *spatial) with its padding, by torch."""
    pads = list(itertools.chain.from_iterable(reversed(spec.padding)))  # last dim first
    return F.pad(x, pads, mode="constant" if spec.padding_mode == "zeros" else spec.padding_mode)


def torch_conv(spec, x, w, bias):
    """Through conv1d/2d/3d or conv_transpose1d/2d/3d, padded and cropped outside of them."""
    x, w = (torch.from_numpy(np.ascontiguousarray(a)) for a in channels_first(spec, x, w))
    bias = None if bias is None else torch.from_numpy(bias)
    if not spec.transposed:
        y = getattr(F, f"conv{spec.rank}d")(
            bordered(spec, x), w, bias, stride=spec.stride, dilation=spec.dilation, groups=spec.groups
        )
        return layout_of(spec, y.numpy())
    y = getattr(F, f"conv_transpose{spec.rank}d")(
        x, w, bias, stride=spec.stride, dilation=spec.dilation, groups=spec.groups,
        output_padding=spec.output_padding,
    )  # fmt: skip
    kept = [slice(lo, size - hi) for size, (lo, hi) in zip(y.shape[2:], spec.padding, strict=True)]
    return layout_of(spec, y.numpy()[(..., *kept)])


def onnx_run(op, inputs, **attributes):
    """One ONNX node by onnxruntime, float32 in and out."""
    names = [f"in{i}" for i in range(len(inputs))]
    feed = {n: np.ascontiguousarray(a, dtype=np.float32) for n, a in zip(names, inputs, strict=True)}
    return onnxruntime_output(helper.make_node(op, names, ["out"], **attributes), feed, opset=20)


def onnx_conv(spec, x, w, bias):
    """Through Conv or ConvTranspose with explicit pads; borders that are not zeros are x's beforehand."""
    if spec.padding_mode != "zeros":
        x = layout_of(spec, bordered(spec, torch.from_numpy(channels_first(spec, x, w)[0].copy())).numpy())
        spec = without_borders(spec)
    attributes = {
        "kernel_shape": spec.kernel, "strides": spec.stride, "dilations": spec.dilation, "group": spec.groups,
        "pads": [lo for lo, _ in spec.padding] + [hi for _, hi in spec.padding],
    }  # fmt: skip
    if spec.transposed:
        attributes["output_padding"] = spec.output_padding
    inputs = [*channels_first(spec, x, w), *([] if bias is None else [bias])]
    return layout_of(spec, onnx_run("ConvTranspose" if spec.transposed else "Conv", inputs, **attributes))


def check(spec):
    x, w, bias = integer_arrays(spec)
    linear = replace(spec, residual=False, activation=None, shuffle=1)
    y = conv_reference(linear, x, w, bias)
    assert y.shape == spec.output_shape and y.dtype == np.float64
    np.testing.assert_array_equal(y, torch_conv(spec, x, w, bias), err_msg=f"{spec} against torch")
    # onnxruntime has no result for an output padding that only the dilation allows.
    if all(extra < stride for extra, stride in zip(spec.output_padding, spec.stride, strict=True)):
        np.testing.assert_array_equal(y, onnx_conv(spec, x, w, bias), err_msg=f"{spec} against onnxruntime")

    def shuffled(values):
        first = np.array(np.moveaxis(values, -1, 1) if spec.channels_last else values)
        return layout_of(spec, F.channel_shuffle(torch.from_numpy(first), spec.shuffle).numpy())

    rng, extra, y = np.random.default_rng(1), {}, shuffled(y)
    if spec.residual:
        extra["residual"] = rng.integers(-4, 5, spec.output_shape).astype(np.float64)
        y = y + extra["residual"]
    if spec.slopes:
        extra["slopes"] = rng.integers(-4, 5, spec.bias_shape).astype(np.float64)
        every = extra["slopes"].reshape(-1, *() if spec.channels_last else (1,) * spec.rank)
        y = np.where(y < 0, y * shuffled(np.broadcast_to(every, y.shape)), y)
    elif spec.activation:
        y = activate(spec.activation, y)
    np.testing.assert_array_equal(conv_reference(spec, x, w, bias, **extra), y, err_msg=f"{spec}")


@settings(max_examples=300)
@given(specs(transposed=False))
def test_convolution(spec):
    check(spec)


@settings(max_examples=300)
@given(specs(transposed=True))
def test_transposed(spec):
    check(spec)


GRID = np.concatenate([np.linspace(-9, 9, 181), [-100.0, 100.0, np.nan]])


@pytest.mark.parametrize(
    ("activation", "op", "attributes"),
    [
        ("hard_sigmoid=0.2,0.4", "HardSigmoid", {"alpha": 0.2, "beta": 0.4}),
        ("hard_swish", "HardSwish", {}),
        ("gelu", "Gelu", {}),
        ("gelu_tanh", "Gelu", {"approximate": "tanh"}),
        ("leaky_relu", "LeakyRelu", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_activation_as_onnx(activation, op, attributes):
    grid = GRID[:-1]
    np.testing.assert_allclose(
        activate(activation, grid), onnx_run(op, [grid], **attributes), rtol=1e-5, atol=1e-6
    )


def test_batch_zero():
    spec = ConvSpec((0, 4, 9), 6, 3, padding=1, bias=True, activation="gelu")
    assert conv_reference(spec, np.ones((0, 4, 9)), np.ones((6, 4, 3)), np.ones(6)).shape == (0, 6, 9)


def test_infinity_and_nan_stay_in_their_windows():
    spec = ConvSpec((1, 1, 9), 1, 3, padding=1)
    x = np.zeros((1, 1, 9))
    x[0, 0, 2], x[0, 0, 7] = np.inf, np.nan
    y = conv_reference(spec, x, np.ones((1, 1, 3)))[0, 0]
    np.testing.assert_array_equal(y, [0, np.inf, np.inf, np.inf, 0, 0, np.nan, np.nan, np.nan])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((1, 4, 8))}, "x: shape (1, 4, 8), expected (1, 4, 9)"),
        ({"w": np.ones((4, 6, 3))}, "w: shape (4, 6, 3), expected (6, 4, 3)"),
        ({"bias": np.ones((1, 6))}, "bias: shape (1, 6), expected (6,)"),
        ({"slopes": 1}, "slopes: given, expected as conv1d:1x4x9:o6:k3:NCHW:float32:bias says"),
        ({"bias": None}, "bias: None, expected as conv1d:1x4x9:o6:k3:NCHW:float32:bias says"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_do_not_fit(change, message):
    spec = ConvSpec((1, 4, 9), 6, 3, bias=True)
    arrays = {"x": np.ones((1, 4, 9)), "w": np.ones((6, 4, 3)), "bias": np.ones(6), **change}
    with pytest.raises(SpecError) as caught:
        conv_reference(spec, **arrays)
    assert str(caught.value) == message
