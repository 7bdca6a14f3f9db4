"""Models that cannot be networks: one line each, with the node, its operator, its place and what to do."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from small_networks import model

import tvmconv
from tvmconv import network as networks
from tvmconv.network.importing import import_model
from tvmconv.network.interpret import interpret


def refusal(*args, **options):
    with pytest.raises(tvmconv.Error) as caught:
        import_model(model(*args, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_operator_that_is_not_supported():
    said = refusal(
        helper.make_node("Relu", ["x"], ["a"], "first"), helper.make_node("Det", ["a"], ["y"], "second")
    )
    assert "node second: Det (node 2 of 2)" in said and "cut the model before it" in said


def test_operator_of_another_domain():
    said = refusal(helper.make_node("Relu", ["x"], ["y"], "n", domain="com.acme"))
    assert "node n: Relu (node 1 of 1) of com.acme" in said


def test_a_loop_without_a_count():
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Relu", ["v"], ["w"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, ()),
         helper.make_tensor_value_info("c", TensorProto.BOOL, ()),
         helper.make_tensor_value_info("v", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, ()),
         helper.make_tensor_value_info("w", TensorProto.FLOAT, None)],
    )  # fmt: skip
    said = refusal(helper.make_node("Loop", ["", "", "x"], ["y"], "again", body=body))
    assert "node again: Loop" in said and "number of steps: left open, expected a constant" in said


def test_dynamic_shapes_ask_for_one():
    said = refusal(helper.make_node("Relu", ["x"], ["y"]), shape=("batch", 3, "height", 8))
    assert "x=1x3x224x8" in said and "'height'" in said
    relu = helper.make_node("Relu", ["x"], ["y"])
    graph = import_model(model(relu, shape=("batch", 3, 8, 8)), {"batch": 2})
    assert graph.values["x"].shape == (2, 3, 8, 8)


def test_cycle():
    said = refusal(helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
                   helper.make_node("Relu", ["b"], ["y"]))  # fmt: skip
    assert "computed from itself" in said


def test_value_that_nothing_makes():
    assert "'nowhere': nothing makes it" in refusal(helper.make_node("Relu", ["nowhere"], ["y"]))


def test_argument_that_has_to_be_known():
    said = refusal(
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["x", "i"], ["y"], "r"),
    )
    assert "node r: Reshape (node 2 of 2): shape: computed while the network runs" in said


def test_shapes_that_do_not_fit():
    said = refusal(helper.make_node("Add", ["x", "w"], ["y"], "sum"), w=np.ones((5, 8), np.float32))
    assert "node sum: Add (node 1 of 1)" in said and "broadcast" in said


def test_opsets():
    assert "too new" in refusal(helper.make_node("Relu", ["x"], ["y"]), opset=999)
    assert "opset 0 is unknown" in refusal(helper.make_node("Relu", ["x"], ["y"]), opset=0)


def test_inputs_of_the_wrong_kind():
    graph = import_model(model(helper.make_node("Relu", ["x"], ["y"])))
    for feeds, words in (
        ({}, "input 'x': missing"), ({"x": np.ones((1, 3, 8, 9), np.float32)}, "expected 1x3x8x8 float32"),
        ({"x": np.ones((1, 3, 8, 8))}, "1x3x8x8 float64, expected"),
        ({"x": np.ones((1, 3, 8, 8), np.float32), "z": 1}, "input 'z'"),
    ):  # fmt: skip
        with pytest.raises(tvmconv.SpecError, match=words):
            interpret(graph, feeds)


def test_nodes_in_any_order_and_outputs_that_are_inputs():
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Neg", ["x"], ["a"])]
    graph = import_model(model(*nodes, helper.make_node("Identity", ["x"], ["z"]), outputs=("y", "z")))
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    found = interpret(graph, {"x": x})
    assert np.array_equal(found["y"], np.maximum(-x, 0)) and np.array_equal(found["z"], x)


def test_a_network_without_inputs():
    every = {"x": np.ones((1, 3, 8, 8), np.float32)}
    with pytest.raises(tvmconv.SpecError, match="no inputs but those with fixed values, expected some that"):
        networks.compile(model(helper.make_node("Relu", ["x"], ["y"])), "x86-64-v2", fixed=every)
