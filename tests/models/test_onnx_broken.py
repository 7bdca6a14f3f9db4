"""Shapes, and models, that cannot be used: each is an error of one line that says what is wrong."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import Net, check_layers, small_network

import tvmconv
from tvmconv.onnx.reading.model import parse_shapes
from tvmconv.onnx.recognising.extraction import extract


def test_dynamic_shapes_by_input_and_by_dimension():
    model = small_network(("batch", 3, "height", None))
    for shapes in ({"x": (2, 3, 17, 12)}, parse_shapes(["x=2x3x17x12"])):
        assert extract(model, shapes).layers[0].spec.input_shape == (2, 3, 17, 12)
    model = small_network(("batch", 3, "height", 12))
    assert extract(model, {"batch": 2, "height": 17}).shapes == {"x": (2, 3, 17, 12)}


def test_shapes_that_only_running_the_model_shows():
    net = Net()
    # How many rows there are depends on values; inference cannot know.
    rows = net.op("NonZero", net.const([1, 0, 1, 1, 0, 1, 1, 1, 1], "int64"))
    rows = net.op("Squeeze", rows, net.const([0], "int64"))
    net.conv(net.op("Gather", net.op("Abs", "x"), rows, axis=2), 4, 6)
    assert extract(net.model()).layers[0].spec.input_shape == (1, 4, 7, 8)


@pytest.mark.parametrize(
    "shapes, message",
    [
        (None, "shape of 'x': missing, and model leaves it open as ?x3x?x12; expected as x=1x3x224x12"),
        ({"batch": 1}, "shape of 'x': missing, and model leaves it open as 1x3x?x12"),
        ({"x": (1, 4, 17, 12)}, "shape of 'x': 1x4x17x12, expected ?x3x?x12"),
        ({"x": (1, 3, 17)}, "shape of 'x': 1x3x17, expected ?x3x?x12"),
        ({"y": (1, 3, 17, 12)}, "shape of 'y': model has no such input; its inputs: x (?x3x?x12)"),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    with pytest.raises(tvmconv.SpecError, match=re.escape(message)):
        extract(small_network(("batch", 3, "height", 12)), shapes)


@pytest.mark.parametrize("text", ["1x3", "x", "x=", "x=1x-3", "x=1xx3", "=1x3", "x=1,3", "x=a"])
def test_shapes_that_cannot_be_read(text):
    with pytest.raises(tvmconv.SpecError, match="expected NAME=1x3x224x224"):
        parse_shapes([text])


def test_image_too_small_for_the_kernels():
    net = Net((1, 4, "height", 8))
    net.conv(net.conv("x", 4, 6, (5, 5)), 6, 6, (5, 3))
    with pytest.raises(tvmconv.Error, match="Conv_1"):
        extract(net.model(), {"height": 7})


# ---- models that cannot be used ----


def test_files_that_are_no_models(tmp_path):
    good = small_network().SerializeToString()
    for data in (b"", b"not a model at all", good[: len(good) // 2], bytes(1000)):
        path = tmp_path / "m.onnx"
        path.write_bytes(data)
        with pytest.raises(tvmconv.Error, match=r"m.onnx: (not an ONNX model|a model without a single node)"):
            extract(path)
    with pytest.raises(FileNotFoundError):
        extract(tmp_path / "missing.onnx")


@pytest.mark.parametrize(
    "opset, message", [(999, "opset 999 is too new: the installed onnx"), (0, "opset 0 is unknown")]
)
def test_operator_sets(opset, message):
    model = small_network()
    model.opset_import[0].version = opset
    with pytest.raises(tvmconv.Error, match=message):
        extract(model)
    del model.opset_import[:]
    with pytest.raises(tvmconv.Error, match="no version of the standard ONNX operators"):
        extract(model)


def test_models_without_convolutions():
    net = Net()
    net.op("Relu", "x")
    with pytest.raises(tvmconv.Error, match=r"a model without convolutions$"):
        extract(net.model())
    net.op("NhwcFusedConv", "x", net.random(4, 6, 3, 3), domain="com.microsoft")
    with pytest.raises(tvmconv.Error, match="it has 1 NhwcFusedConv"):
        extract(net.model())


def test_convolutions_that_are_skipped_are_told():
    net = Net()
    net.op("NhwcFusedConv", net.conv("x", 4, 6), net.random(6, 6, 3, 3), domain="com.microsoft")
    body = helper.make_graph(
        [helper.make_node("Conv", ["x", net.random(6, 4, 3, 3)], ["inner_y"], "inner")], "body", [],
        [onnx.ValueInfoProto(name="inner_y")],
    )  # fmt: skip
    net.inputs.append(helper.make_tensor_value_info("which", onnx.TensorProto.BOOL, ()))
    net.op("If", "which", then_branch=body, else_branch=body, name="choice")
    found = extract(net.model())
    assert {(item.name, item.op_type) for item in found.skipped} == {
        ("NhwcFusedConv_1", "NhwcFusedConv"), ("inner", "Conv"),
    }  # fmt: skip
    assert "choice" in found.skipped[-1].reason
    assert [(item.name, item.op_type, item.inside) for item in found.rest] == [("choice", "If", {"Conv": 2})]


def test_convolutions_inside_functions():
    net = Net()
    body = [helper.make_node("Conv", ["a", "b"], ["c"], "inside"), helper.make_node("Relu", ["c"], ["d"])]
    net.functions.append(
        helper.make_function("own", "Block", ["a", "b"], ["d"], body, [helper.make_opsetid("", 17)])
    )
    net.domains["own"] = 1
    net.op("Block", "x", net.random(6, 4, 3, 3), domain="own")
    net.op("Block", "x", net.random(6, 4, 1, 1), domain="own")
    found = extract(net.model("v0_0", "v1_0"))
    check_layers(found)
    assert [layer.spec.activation for layer in found.layers] == ["relu", "relu"]
    assert len({layer.name for layer in found.layers}) == 2


def test_external_weights(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(small_network(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    found = extract(path)
    check_layers(found)
    digest = found.model.digest
    weights = tmp_path / "weights.bin"
    data = weights.read_bytes()
    weights.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert extract(path).model.digest != digest
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(tvmconv.Error, match="they end at byte"):
        extract(path)
    weights.unlink()
    with pytest.raises(tvmconv.Error, match=r"weights '.*' lie in .*weights.bin, which is missing"):
        extract(path)


@pytest.mark.parametrize(
    "attributes, message",
    [
        ({"pads": [1, 1]}, "pads: [1, 1], expected 4"),
        ({"pads": [1, 1, -1, 1]}, "padding: -1, expected"),
        ({"strides": [2]}, "strides: (2,), expected 2"),
        ({"strides": [0, 1]}, "strides: (0, 1), expected 2 positive"),
        ({"auto_pad": "SAME"}, "auto_pad: 'SAME', expected one of NOTSET"),
        ({"kernel_shape": [3, 2]}, "kernel_shape: (3, 2), expected (3, 3)"),
        ({"group": 2}, "w: shape (6, 4, 3, 3) with group 2, expected 4 input channels"),
    ],
)
def test_attributes_that_do_not_fit(attributes, message):
    net = Net()
    net.op("Conv", "x", net.random(6, 4, 3, 3), **attributes, name="bad")
    with pytest.raises(tvmconv.Error, match=f"bad.*{re.escape(message)}|onnxruntime cannot load"):
        extract(net.model())


def test_node_without_a_maker_of_its_input():
    net = Net()
    net.conv("nothing", 4, 6)
    with pytest.raises(tvmconv.Error, match="nothing makes its input 'nothing'"):
        extract(net.model())


def test_nodes_of_the_same_name_and_of_none():
    net = Net()
    net.conv(net.conv("x", 4, 6), 6, 6)
    model = net.model()
    for name in ("twin", ""):
        for node in model.graph.node:
            node.name = name
        names = [layer.name for layer in extract(model).layers]
        assert names == (["twin", "twin#2"] if name else ["Conv:v0_0", "Conv:v1_0"])


def test_damaged_models_give_one_line(capfd):
    """Random bytes changed: a model that still works, or an Error; nothing is printed by any library."""
    data = small_network(("n", 3, 17, 12)).SerializeToString()
    rng = np.random.default_rng(1)
    failed = 0
    for _ in range(200):
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 6)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            extract(bytes(damaged), {"x": (1, 3, 17, 12)})
        except tvmconv.Error as error:
            assert "\n" not in str(error)
            failed += 1
    assert 20 < failed < 150
    assert capfd.readouterr() == ("", "")
