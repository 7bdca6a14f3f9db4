"""Convolutions of every kind from DequantizeLinear to QuantizeLinear: found as integers, and what our kernels
make of them beside what onnxruntime does, operator by operator in floats."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx_models import Net, check_layers
from strategies import specs

import tvmconv
from tvmconv.bench.engines.layer_data import weight_axes
from tvmconv.onnx import compile_model, verify_model
from tvmconv.onnx.recognising.extraction import extract
from tvmconv.onnx.recognising.layers import image_from, image_in
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.names import PADDING_MODES

NODES = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}


def drawn_arrays(spec, seed=0):
    """The arrays of a quantised ``spec``, zero points near the middle so that few results are at the limits;
    of weights, those of a transposed convolution the same in every group."""
    rng = np.random.default_rng(seed)
    middle = {name: np.iinfo(name).min + 128 for name in ("int8", "uint8")}

    def integers(shape, dtype, reach):
        lo = middle[dtype] - reach
        return rng.integers(lo, lo + 2 * reach, shape).astype(dtype)

    terms = np.prod(spec.kernel) * spec.in_channels // spec.groups
    steps = spec.multiplier if spec.transposed else spec.out_channels
    repeats = spec.out_channels // steps
    y_scale = np.float32(0.02 * 0.01 * 74 * 74 * np.sqrt(terms) / 50)
    found = {
        "x": integers(spec.input_shape, spec.dtype, 128),
        "w": integers(spec.weight_shape, spec.weight_dtype, 128),
        "bias": rng.integers(-3000, 3000, spec.bias_shape).astype(np.int32),
        "residual": integers(spec.output_shape, spec.out_dtype, 128), "x_scale": np.float32(0.02),
        "x_zero_point": integers((), spec.dtype, 9),
        "w_scale": np.tile(rng.uniform(0.005, 0.015, steps).astype(np.float32), repeats),
        "w_zero_point": np.tile(integers(steps, spec.weight_dtype, 5), repeats),
        "r_scale": np.float32(y_scale * 0.7), "r_zero_point": integers((), spec.out_dtype, 40),
        "y_scale": y_scale, "y_zero_point": integers((), spec.out_dtype, 40),
    }  # fmt: skip
    left_out = [name for name, there in (("bias", spec.bias), ("residual", spec.residual)) if not there]
    left_out += [] if spec.residual else ["r_scale", "r_zero_point"]
    return {name: array for name, array in found.items() if name not in left_out}


def model_of(spec, arrays):
    """The model that ``spec`` is; its inputs are x and, where there is one, residual."""
    net = Net()
    first = {name: image_from(spec.layout, arrays[name]) for name in ("x", "residual") if name in arrays}
    net.inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in first.items()
    ]

    def dequantised(value, scale, zero_point, **options):
        zero = [] if zero_point is None else [net.const(zero_point, str(zero_point.dtype))]
        return net.op("DequantizeLinear", value, net.const(scale), *zero, **options)

    w, steps = arrays["w"], spec.multiplier if spec.transposed else spec.out_channels
    if spec.channels_last:
        w = np.moveaxis(w, weight_axes(spec), (0, 1))
    x = dequantised("x", arrays["x_scale"], arrays["x_zero_point"])
    given = [x, dequantised(net.const(w, str(w.dtype)), arrays["w_scale"][:steps],
                            arrays["w_zero_point"][:steps], axis=int(spec.transposed))]  # fmt: skip
    if spec.bias:
        bias = net.const(arrays["bias"], "int32")
        given.append(dequantised(bias, arrays["x_scale"] * arrays["w_scale"], None, axis=0))
    options = {"output_padding": spec.output_padding} if spec.transposed else {}
    y = net.op("ConvTranspose" if spec.transposed else "Conv", *given, kernel_shape=spec.kernel,
               pads=[lo for lo, _ in spec.padding] + [hi for _, hi in spec.padding], strides=spec.stride,
               dilations=spec.dilation, group=spec.groups, **options)  # fmt: skip
    if spec.residual:
        y = net.op("Add", y, dequantised("residual", arrays["r_scale"], arrays["r_zero_point"]))
    if spec.activation:
        y = net.op(NODES[spec.activation], y)
    zero = net.const(arrays["y_zero_point"], spec.out_dtype)
    return net.model(net.op("QuantizeLinear", y, net.const(arrays["y_scale"]), zero))


def onnxruntime_result(model, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def found_in(spec, arrays):
    """(the model, its one layer as ``spec`` has it)."""
    model = model_of(spec, arrays)
    (layer,) = extract(model, layout=spec.layout).layers
    assert layer.spec == spec, (str(layer.spec), str(spec))
    assert layer.inputs == {name: name for name in ("x", "residual") if name in arrays}
    for name, array in layer.weights.items():
        np.testing.assert_array_equal(array, np.broadcast_to(arrays[name], array.shape))
    return model, layer


def onnxruntime_takes(spec):
    """It refuses an output padding from the stride on, which a dilation allows."""
    return all(extra < stride for extra, stride in zip(spec.output_padding, spec.stride, strict=True))


@st.composite
def quantised_specs(draw):
    spec = draw(specs(activations=["relu", "tanh"], max_elements=20_000).filter(onnxruntime_takes))
    types, _, weights = draw(st.sampled_from(["int8", "uint8", "uint8/int8", "uint8:wuint8"])).partition(":")
    # A Conv node has no shuffle, and zeros for padding.
    parts = [p for p in str(spec).split(":") if not p.startswith("sh") and p not in PADDING_MODES]
    text = ":".join(parts).replace("float32", types)
    return ConvSpec.parse(f"{text}:{weights}" if weights else text)


@settings(max_examples=5, phases=[Phase.explicit, Phase.generate])
@given(st.lists(quantised_specs(), min_size=8, max_size=8, unique=True))
def test_random_specs(drawn):
    module = tvmconv.compile({f"f{i}": spec for i, spec in enumerate(drawn)}).load()
    for spec, function in zip(drawn, module.functions.values(), strict=True):
        arrays = drawn_arrays(spec)
        model, layer = found_in(spec, arrays)
        y = function.bind(*layer.bound)(*(arrays[name] for name in layer.inputs))
        feeds = {name: np.ascontiguousarray(image_from(spec.layout, arrays[name])) for name in layer.inputs}
        expected = image_in(spec.layout, onnxruntime_result(model, feeds))
        assert y.dtype == expected.dtype
        off = np.abs(y.astype(int) - expected.astype(int))
        # Its sums are of floats: a result near halfway between two may be the other one.
        assert off.max(initial=0) <= 1 and np.count_nonzero(off) <= off.size // 200 + 1, spec


CASES = [
    "tconv2d:1x6x7x8:o12:k3x3:s2:p1:g2:op1:NCHW:uint8/int8:bias", "tconv1d:1x6x9:o4:k4:s2:p1:NCHW:int8:relu",
    "conv2d:1x8x9x10:o8:k3x3:p1:NCHW:uint8:bias:residual:relu", "conv2d:1x8x9x10:o8:k1x1:NCHW:int8:residual",
    "tconv2d:1x5x4x6:o6:k2x2:s2:NCHW:uint8:residual:sigmoid",
]  # fmt: skip


@pytest.mark.parametrize("text", CASES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_compiled_from_a_model(text, layout):
    spec = ConvSpec.parse(text)
    arrays = drawn_arrays(spec)
    model, _ = found_in(spec, arrays)
    check_layers(extract(model, layout=layout))
    module = compile_model(model, layout=layout, bake_weights=True).load()
    feeds = {name: arrays[name] for name in ("x", "residual") if name in arrays}
    (result,) = verify_model(model, module, feeds)
    assert result.ok and f":{layout}:" in result.descriptor and f":{spec.dtype}" in result.descriptor, result


def block(*, residual="q", public=False, shape=(1, 8, 9, 10), dtype="uint8"):
    """Two convolutions, with what goes into the first one added to the result of the second."""
    net = Net()
    shapes = {"x": (1, 8, 9, 10), "o": shape}
    net.inputs = [helper.make_tensor_value_info(name, 2, shape) for name, shape in shapes.items()]
    rng = net.rng

    def dequantised(value, scale=0.02, zero=128, kind="uint8"):
        return net.op("DequantizeLinear", value, net.const(scale), net.const(zero, kind))

    def conv(x):
        w = net.const(rng.integers(-90, 90, (8, 8, 3, 3)), "int8")
        return net.op("Conv", x, dequantised(w, 0.01, 0, "int8"), pads=[1, 1, 1, 1])

    inner = net.op("Relu", conv(dequantised("x")))
    inner = net.op("QuantizeLinear", inner, net.const(0.05), net.const(0, "uint8"))
    y = conv(dequantised(inner, 0.05, 0))
    other = {
        "q": lambda: dequantised("x"), "float": lambda: net.op("Relu", dequantised("x")),
        "small": lambda: dequantised("o"), "constant": lambda: net.random(1, 8, 9, 10),
        "self": lambda: dequantised(inner, 0.05, 0),
    }[residual]()  # fmt: skip
    total = net.op("Add", other, y)
    z = net.op("QuantizeLinear", net.op("Relu", total), net.const(0.1), net.const(3, dtype))
    return net.model(z, total) if public else net.model(z)


@pytest.mark.parametrize("options, integer", [
    ({}, True),
    ({"residual": "self"}, True),
    ({"residual": "float"}, False),
    ({"residual": "small", "shape": (1, 1, 9, 10)}, False),  # broadcast
    ({"residual": "constant"}, False),
    ({"dtype": "int8"}, False),  # not the residual's type
    ({"public": True}, False),  # the sum is wanted in floating point, too
])  # fmt: skip
def test_which_sums_are_integers(options, integer):
    model = block(**options)
    found = extract(model)
    check_layers(found)
    first, second = found.layers
    assert str(first.spec).endswith(":uint8")  # what its Relu cuts off is below the limits
    assert (second.spec.dtype == "uint8" and second.spec.residual) == integer
    if integer:
        assert str(second.spec).endswith(":uint8:residual:relu") and second.nodes[1].startswith("Add")
        x = np.random.default_rng(2).integers(0, 256, (2, 1, 8, 9, 10)).astype(np.uint8)
        results = verify_model(model, compile_model(model).load(), dict(zip("xo", x, strict=True)))
        assert [result.ok for result in results] == [True, True], results


def test_scales_of_transposed_weights_by_input_channel_stay_floats():
    spec = ConvSpec.parse("tconv2d:1x6x5x5:o6:k3x3:s2:NCHW:uint8")
    model = model_of(spec, drawn_arrays(spec))
    node = next(node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.attribute)
    node.attribute[0].i = 0
    found = extract(model)
    check_layers(found)
    assert found.layers[0].spec.dtype == "float32"
