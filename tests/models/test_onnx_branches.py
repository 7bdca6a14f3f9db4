"""What of a model is left over, what is inside its nodes, and branches that fixed inputs decide."""

from __future__ import annotations

import json
import re

import numpy as np
import onnx
import pytest
from cli_tools import tool
from onnx import TensorProto, helper
from onnx_models import Net, branch, check_layers, two_rates

import tvmconv
from tvmconv.network import checking
from tvmconv.onnx import compile_model, extract, verify_model
from tvmconv.onnx.reading.branches import parse_fixed


def test_a_fixed_input_chooses_the_branch():
    for rate, name, channels in ((16000, "fast", 6), (8000, "slow", 8)):
        found = extract(two_rates().model(), fixed={"sr": rate})
        check_layers(found)
        (layer,) = found.layers
        assert layer.nodes == (f"{name}_conv", f"{name}_Relu") and layer.spec.out_channels == channels
        assert found.shapes == {"x": (1, 4, 9, 8)} and not found.skipped
        assert [(item.name, item.op_type, item.inside) for item in found.rest] == [("last", "Softmax", {})]


def test_a_model_whose_convolutions_are_in_branches_says_so():
    message = "2 Conv inside If rate; its branch is used where the condition is constant: fix one of x, sr"
    with pytest.raises(tvmconv.Error, match=re.escape(message)):
        extract(two_rates().model())


def test_a_library_for_fixed_inputs_verifies_without_them():
    model = two_rates().model()
    module = compile_model(model, fixed={"sr": 16000}).load()
    assert module.manifest["onnx"]["fixed"] == {"sr": 16000}
    x = np.random.default_rng(0).standard_normal((1, 4, 9, 8)).astype(np.float32)
    (result,) = verify_model(model, module, x)
    assert result.ok and result.node == "fast_conv"


@pytest.mark.parametrize(
    "fixed, message",
    [
        ({"rate": 1}, "value of 'rate': model takes x, sr"),
        ({"sr": 1.5}, "value of 'sr': 1.5, expected numbers of type int64"),
        ({"sr": "fast"}, "value of 'sr': 'fast', expected numbers of type int64"),
        ({"sr": [1, 2]}, "value of 'sr': [1, 2], of shape (2,), expected one number, or an array"),
        ({"sr": 2**63}, "expected numbers of type int64"),
        ({"x": object()}, "expected numbers of type float32"),
    ],
)
def test_values_that_do_not_fit(fixed, message):
    with pytest.raises(tvmconv.SpecError, match=re.escape(message)):
        extract(two_rates().model(), fixed=fixed)


def test_values_as_text():
    assert parse_fixed(["sr=16000", "on=true", "s=1,2.5"]) == {"sr": 16000, "on": True, "s": [1, 2.5]}
    for text in ("sr", "sr=", "=1", "sr=fast", "sr=1,,2"):
        with pytest.raises(tvmconv.SpecError, match="expected NAME=NUMBER"):
            parse_fixed([text])
    with pytest.raises(tvmconv.SpecError, match="given twice"):
        parse_fixed(["a=1", "a=2"])


def test_two_ifs_whose_branches_use_the_same_names():
    net = Net()
    y = net.op("If", net.const(True, "bool"), then_branch=branch(net, "a", 4),
               else_branch=branch(net, "b", 4))  # fmt: skip
    z = net.op("If", net.const(False, "bool"), then_branch=branch(net, "c", 4),
               else_branch=branch(net, "d", 4, after="Sigmoid"))  # fmt: skip
    net.op("Add", y, z)
    found = extract(net.model())
    check_layers(found)
    assert [layer.name for layer in found.layers] == ["a_conv", "d_conv"]
    assert not np.array_equal(found.layers[0].w, found.layers[1].w)


def test_branches_within_branches_and_results_from_outside():
    net = Net()
    inner = net.rng.standard_normal((4, 4, 1, 1)).astype(np.float32)
    deep = helper.make_graph(
        [helper.make_node("Conv", ["outer", "w2"], ["deep"], "deep_conv")], "deep", [],
        [onnx.ValueInfoProto(name="deep")], [onnx.numpy_helper.from_array(inner, "w2")],
    )  # fmt: skip
    same = helper.make_graph([], "same", [], [onnx.ValueInfoProto(name="outer")])
    nodes = [
        helper.make_node("Neg", ["x"], ["outer"], "minus"),
        helper.make_node("If", ["yes"], ["mid"], "within", then_branch=deep, else_branch=same),
    ]
    results = [onnx.ValueInfoProto(name=name) for name in ("mid", "x", "mid")]
    then = helper.make_graph(nodes, "then", [], results)
    net.weights.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    net.op("If", "yes", outputs=3, then_branch=then, else_branch=then)
    found = extract(net.model("v0_0", "v0_1", "v0_2"))
    check_layers(found)
    assert [layer.name for layer in found.layers] == ["deep_conv"]
    assert sorted(item.op_type for item in found.rest) == ["Identity", "Identity", "Neg"]


def test_a_condition_on_shapes_is_constant():
    net = Net((1, 4, "height", 8))
    rows = net.op("Gather", net.op("Shape", "x"), net.const(2, "int64"))
    which = net.op("Greater", rows, net.const(10, "int64"))
    y = net.op("If", which, then_branch=branch(net, "large", 4), else_branch=branch(net, "small", 4))
    rows = net.op("Gather", net.op("Shape", y), net.const(2, "int64"))  # of what is in the branch
    which = net.op("Equal", rows, net.const(5, "int64"))
    then = branch(net, "five", 6)
    then.node[0].input[0] = y
    net.op("If", which, then_branch=then, else_branch=branch(net, "other", 6))
    for height, names in ((7, ["small_conv", "five_conv"]), (20, ["large_conv", "other_conv"])):
        found = extract(net.model(), {"height": height})
        check_layers(found)
        assert [layer.name for layer in found.layers] == names


def test_what_is_inside_loops_is_counted():
    net = Net()
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]),
         helper.make_node("Conv", ["state", net.random(4, 4, 1, 1)], ["next"], "looped"),
         helper.make_node("MaxPool", ["next"], ["pooled"], "pooled", kernel_shape=[1, 1])],
        "body", [helper.make_tensor_value_info("i", TensorProto.INT64, ()),
                 helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
                 helper.make_tensor_value_info("state", TensorProto.FLOAT, None)],
        [onnx.ValueInfoProto(name="go_on"), onnx.ValueInfoProto(name="pooled")],
    )  # fmt: skip
    start = (net.const(3, "int64"), net.const(True, "bool"), net.conv("x", 4, 4))
    y = net.op("Loop", *start, body=body, name="L")
    net.op("Relu", y, name="last")
    found = extract(net.model())
    assert [layer.name for layer in found.layers] == ["Conv_0"]
    inside = [(item.name, item.inside) for item in found.rest]
    assert inside == [("L", {"Conv": 1, "MaxPool": 1}), ("last", {})]


def test_the_command_line_names_what_is_left_over(tmp_path):
    path, library = tmp_path / "m.onnx", tmp_path / "m.so"
    net = two_rates()
    net.inputs.append(helper.make_tensor_value_info("which", TensorProto.BOOL, ()))
    net.op("If", "which", then_branch=branch(net, "p", 4), else_branch=branch(net, "q", 4), name="open")
    onnx.save(net.model("v2_0", "v3_0"), path)
    fixed = ("--set", "sr=16000")
    shown = tool("extract", path, *fixed)
    assert "left over: 2 nodes: 1 Softmax, 1 If\n" in shown.stdout, shown.stderr
    assert "inside If open, and not compiled: 2 Conv" in shown.stdout and "Softmax last" not in shown.stdout
    assert "  Softmax last\n" in tool("extract", path, *fixed, "-v").stdout
    facts = json.loads(tool("extract", path, *fixed, "--json").stdout)
    assert facts["fixed"] == {"sr": 16000} and len(facts["left_over"]) == 2
    made = tool("compile", "--onnx", path, *fixed, "-o", library)
    assert made.returncode == 0 and "left over: 2 nodes: 1 Softmax" in made.stderr
    verified = tool("verify", "--onnx", path, library)
    assert verified.returncode == 0 and "1 layer against onnxruntime" in verified.stdout, verified.stderr
    refused = tool("compile", "conv2d:1x5x5x4:o4:k1x1", *fixed, "-o", library)
    assert refused.returncode == 2 and "--set: needs --onnx" in refused.stderr


def test_a_value_has_the_shape_that_is_given_for_its_input() -> None:
    """Where the model leaves that open, a library says it, so that the model can be read again."""
    lengths = helper.make_tensor_value_info("n", TensorProto.INT64, ("batch",))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 3))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("Cast", ["n"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["c", "one"], ["d"]),
        helper.make_node("Mul", ["x", "d"], ["y"]),
    ]
    one = helper.make_tensor("one", TensorProto.INT64, (1,), [1])
    graph = helper.make_graph(nodes, "g", [x, lengths], [y], [one])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for shapes in ({"n": 1, "x": (1, 3)}, {"batch": 1}):
        network = tvmconv.network.read(proto, shapes, fixed={"n": 4})
        assert network.fixed["n"].shape == (1,)
        again = tvmconv.network.read(proto, {"x": (1, 3)}, fixed={"n": [4]})
        assert str(again.graph) == str(network.graph)
    scalar = helper.make_tensor_value_info("n", TensorProto.INT64, ())
    graph.input.remove(lengths)
    graph.input.append(scalar)
    graph.node.remove(nodes[1])
    graph.node[1].input[1] = "c"
    of_scalar = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert tvmconv.network.read(of_scalar, {"x": (1, 3)}, fixed={"n": 4}).graph.outputs
    network = tvmconv.network.read(of_scalar, {"x": (1, 3)})
    given = checking.arguments_of(network, {"x": np.ones((1, 3), np.float32), "n": np.array(4)})
    assert [array.shape for array in given] == [(1, 3), ()]
    with pytest.raises(tvmconv.SpecError, match="value of 'n': 4, of unknown shape, expected its shape too"):
        tvmconv.network.read(proto, {"x": (1, 3)}, fixed={"n": 4})
