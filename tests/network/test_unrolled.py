"""Scan, Loop, and onnxruntime's LSTM of 8-bit weights, which are unrolled, beside onnxruntime."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_networks import assert_near, feeds_of, session_results

from tvmconv.base.errors import Error
from tvmconv.network.compiling import compile, read
from tvmconv.network.importing import import_model
from tvmconv.network.interpret import interpret

FLOAT = TensorProto.FLOAT


def model_of(nodes, inputs, outputs, weights=(), domains=()):
    given = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()]
    made = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", given, made, [numpy_helper.from_array(a, n) for n, a in weights])
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(name, 1) for name in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def scan(body, **told):
    """A running sum of x along its axis 1, from behind, with each step's product with outer values."""
    results = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("next", "y_part")]
    given = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("sum", "part")]
    node = helper.make_node(
        "Scan", ["first", "x"], ["last", "y"], num_scan_inputs=1, name="running",
        body=helper.make_graph(body, "body", given, results), **told,
    )  # fmt: skip
    return model_of([node], {"first": [2, 3], "x": [2, 5, 3], "w": [3, 4]}, ["last", "y"])


ADD = [helper.make_node("Add", ["sum", "part"], ["next"])]
BODY = [*ADD, helper.make_node("MatMul", ["next", "w"], ["y_part"])]


def test_a_scan():
    proto = scan(BODY, scan_input_axes=[1], scan_input_directions=[1], scan_output_axes=[2],
                 scan_output_directions=[1])  # fmt: skip
    graph = import_model(proto)
    feeds = feeds_of(graph)
    wanted = session_results(proto, feeds)
    assert wanted["y"].shape == (2, 4, 5)
    assert_near(interpret(graph, feeds), wanted)
    module = compile(read(proto, {}), "x86-64-v3").load()
    assert_near(dict(zip(["last", "y"], module["main"](*feeds.values()), strict=True)), wanted)


@pytest.mark.parametrize(
    "body, message",
    [
        ([*ADD, helper.make_node("NonZero", ["next"], ["y_part"], name="inner")],
         "NonZero (node inner of its body) is not supported there"),
        ([*ADD, *[helper.make_node("Neg", ["next"], [f"n{k}"]) for k in range(2000)], BODY[1]],
         "5 steps of 2002 nodes, expected at most 8192 nodes in all"),
    ],
)  # fmt: skip
def test_scans_that_are_not_supported(body, message):
    with pytest.raises(Error, match="node running: Scan") as caught:
        import_model(scan(body, scan_input_axes=[1]))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_an_lstm_of_8_bits(direction):
    rng = np.random.default_rng(3)  # up to 63: from 65 on onnxruntime's sums saturate on CPUs without VNNI
    d, steps, width, hidden = 1 + (direction == "bidirectional"), 5, 6, 8
    weights = {
        "w": rng.integers(-63, 64, (d, width, 4 * hidden)).astype(np.int8),
        "r": rng.integers(-63, 64, (d, hidden, 4 * hidden)).astype(np.int8),
        "b": rng.standard_normal((d, 8 * hidden)).astype(np.float32),
        "ws": np.full(d, 0.01, np.float32), "wz": np.zeros(d, np.int8),
        "rs": np.full(d, 0.02, np.float32), "rz": np.zeros(d, np.int8),
    }  # fmt: skip
    node = helper.make_node(
        "DynamicQuantizeLSTM", ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"], ["y", "h", "c"],
        domain="com.microsoft", direction=direction, hidden_size=hidden,
    )  # fmt: skip
    proto = model_of([node], {"x": [steps, 1, width]}, ["y", "h", "c"], weights.items(), ["com.microsoft"])
    graph = import_model(proto)
    feeds = feeds_of(graph)
    assert_near(interpret(graph, feeds), session_results(proto, feeds))
