"""Quantised models, as onnxruntime's own quantiser writes them: their integer convolutions are found,
compiled, and agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import Net, check_layers, small_network

from tvmconv.onnx import compile_model, verify_model
from tvmconv.onnx.recognising.extraction import extract
from tvmconv.onnx.using.agreement import verify_extraction
from tvmconv.onnx.using.timing import runtime_times
from tvmconv.specs.conv import ConvSpec

SHAPE = (1, 3, 17, 12)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    """Paths of the small network quantised in several ways, by name."""
    from onnxruntime import quantization as q

    class Photos(q.CalibrationDataReader):
        def __init__(self):
            rng = np.random.default_rng(0)
            self.left = [{"x": rng.standard_normal(SHAPE).astype(np.float32)} for _ in range(3)]

        def get_next(self):
            return self.left.pop() if self.left else None

    folder = tmp_path_factory.mktemp("quantised")
    onnx.save(small_network(), folder / "float.onnx")
    paths = {}
    for name, form, x, per_channel in [
        ("qdq", q.QuantFormat.QDQ, q.QuantType.QUInt8, False),
        ("qdq signed, per channel", q.QuantFormat.QDQ, q.QuantType.QInt8, True),
        ("qlinear", q.QuantFormat.QOperator, q.QuantType.QUInt8, False),
        ("qlinear signed, per channel", q.QuantFormat.QOperator, q.QuantType.QInt8, True),
    ]:
        paths[name] = folder / f"{name}.onnx"
        q.quantize_static(
            folder / "float.onnx", paths[name], Photos(), quant_format=form, per_channel=per_channel,
            activation_type=x, weight_type=q.QuantType.QInt8,
        )  # fmt: skip
    paths["dynamic"] = folder / "dynamic.onnx"
    q.quantize_dynamic(folder / "float.onnx", paths["dynamic"])
    return paths


@pytest.mark.parametrize(
    "name, types",
    [
        ("qdq", "uint8"), ("qdq signed, per channel", "int8"),
        ("qlinear", "uint8"), ("qlinear signed, per channel", "int8"), ("dynamic", "uint8/int32"),
    ],
)  # fmt: skip
def test_quantised_models(quantised, name, types):
    for layout in ("NCHW", "NHWC"):
        found = extract(quantised[name], layout=layout)
        check_layers(found)
        texts = [str(layer.spec) for layer in found.layers if isinstance(layer.spec, ConvSpec)]
        assert len(texts) == 8 and all(f":{types}" in text for text in texts)
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    module = compile_model(quantised[name], layout="NHWC", bake_weights=True).load()
    results = verify_model(quantised[name], module, x)
    assert len(results) == len(found.layers) and all(result.ok for result in results), results


def test_times_of_a_quantised_model(quantised):
    """onnxruntime's profiler calls fused nodes by other names; each layer's time is found."""
    found = extract(quantised["qdq"])
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    times = runtime_times(found, x, repeat=2)
    assert set(times.layers) == {layer.name for layer in found.layers}
    assert all(seconds > 0 for seconds in times.layers.values())


def test_a_wrong_integer_kernel_is_found(quantised):
    """One weight that is off by one shows, though a step is allowed where results lie halfway."""
    found = extract(quantised["qlinear"])
    module = compile_model(found).load()
    first, *others = found.layers
    w = first.weights["w"].copy()
    w.flat[4] += 1
    wrong = replace(found, layers=(replace(first, weights={**first.weights, "w": w}), *others))
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    results = verify_extraction(wrong, module, x)
    assert [result.ok for result in results] == [False] + [True] * 7


def qdq(*, bias="int32", activation=None, y_scale=0.05, y_zero=0, w_axis=0, public=False):
    """A convolution between DequantizeLinear and QuantizeLinear."""
    net = Net()
    net.inputs = [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, 4, 9, 8))]
    rng = net.rng
    scales = rng.uniform(0.01, 0.02, 4)
    w = net.op(
        "DequantizeLinear", net.const(rng.integers(-90, 90, (4, 4, 3, 3)), "int8"), net.const(scales),
        net.const(np.zeros(4), "int8"), axis=w_axis,
    )  # fmt: skip
    given = [net.op("DequantizeLinear", "x", net.const(0.02), net.const(120, "uint8")), w]
    if bias == "int32":
        steps = net.const(0.02 * scales)
        integers = net.const(rng.integers(-500, 500, 4), "int32")
        given.append(net.op("DequantizeLinear", integers, steps, axis=0))
    elif bias == "float32":
        given.append(net.random(4))
    y = net.op("Conv", *given)
    if activation:
        y = activation(net, y)
    z = net.op("QuantizeLinear", y, net.const(y_scale), net.const(y_zero, "uint8"))
    return net.model(z, y) if public else net.model(z)


def _clip_to_6(net, y):
    return net.op("Clip", y, net.const(0.0), net.const(6.0))


def _relu(net, y):
    return net.op("Relu", y)


@pytest.mark.parametrize(
    "options, integer",
    [
        ({}, True),
        ({"bias": None}, True),
        ({"activation": _relu}, True),
        ({"activation": _relu, "y_zero": 3}, True),  # cuts more than 0..255 does
        ({"activation": _clip_to_6, "y_scale": 0.02}, True),
        ({"activation": _clip_to_6}, True),
        ({"activation": lambda net, y: net.op("Tanh", y), "y_zero": 50}, True),
        ({"bias": "float32"}, False),
        ({"w_axis": 1}, False),
        ({"public": True}, False),  # the result is wanted in floating point, too
    ],
)
def test_what_is_an_integer_convolution(options, integer):
    """What is none stays a convolution of floats, of dequantised weights."""
    found = extract(qdq(**options))
    check_layers(found)
    (layer,) = found.layers
    assert layer.spec.dtype == ("uint8" if integer else "float32")
    assert (layer.x == "x") == integer


@pytest.mark.parametrize("options", [
    {"activation": _relu, "y_zero": 30}, {"activation": _clip_to_6},
    {"activation": lambda net, y: net.op("Tanh", y), "y_zero": 120, "y_scale": 0.02},
])  # fmt: skip
def test_an_activation_before_quantisation(options):
    model = qdq(**options)
    x = np.random.default_rng(2).integers(0, 256, (1, 4, 9, 8)).astype(np.uint8)
    (result,) = verify_model(model, compile_model(model).load(), x)
    assert result.ok and ":uint8" in result.descriptor, result
