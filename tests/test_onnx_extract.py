"""Layers extracted from models: what is folded into them, what is not, and that it is the same function."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import Net, small_network

import tvmconv
from tvmconv.onnx.agreement import arriving
from tvmconv.onnx.layers import Extraction, extract, image_from, image_in, weights_in
from tvmconv.onnx.model import parse_shapes
from tvmconv.onnx.report import by_kind
from tvmconv.onnx.session import random_feeds
from tvmconv.reference import conv_reference


def check(found: Extraction) -> None:
    """Each layer computes from the x that arrives at it the y that onnxruntime has there."""
    values = arriving(found, random_feeds(found.model, found.shapes))
    for layer in found.layers:
        w, bias = layer.w, layer.bias
        if w is None:
            w = weights_in(found.layout, values[layer.w_value])
        if bias is None and layer.spec.bias:
            bias = values[layer.bias_value]
        y = conv_reference(layer.spec, image_in(found.layout, values[layer.x]), w, bias)
        expected = values[layer.y]
        error = np.max(np.abs(image_from(found.layout, y) - expected))
        assert error <= 1e-5 * (np.ptp(expected) + 1e-3), layer.name


def activations(net: Net, *outputs: str) -> list[str | None]:
    found = extract(net.model(*outputs))
    check(found)
    return [layer.spec.activation for layer in found.layers]


def _hard_swish_by_clip(net, y):
    three, six = net.const(3.0), net.const(6.0)
    clamped = net.op("Clip", net.op("Add", y, three), net.const(0.0), six)
    return net.op("Div", net.op("Mul", y, clamped), six)


def _hard_swish_by_gate(net, y):
    gate = net.op("Clip", net.op("Add", net.const(3.0), y), net.const(0.0), net.const(6.0))
    return net.op("Mul", net.op("Mul", gate, net.const(1 / 6, node=True)), y)


def _gelu_by_erf(net, y):
    inner = net.op("Erf", net.op("Div", y, net.const(np.sqrt(2))))
    return net.op("Mul", net.op("Mul", y, net.op("Add", inner, net.const([1.0]))), net.const(0.5))


SPELLINGS = {
    "Relu": ("relu", lambda net, y: net.op("Relu", y)),
    "Max with 0": ("relu", lambda net, y: net.op("Max", net.const(0.0), y)),
    "Clip from 0": ("relu", lambda net, y: net.op("Clip", y, net.const(0.0))),
    "Clip 0 to 6": ("relu6", lambda net, y: net.op("Clip", y, net.const(0.0), net.const(6.0))),
    "Relu, Min": ("relu6", lambda net, y: net.op("Min", net.op("Relu", y), net.const(6.0))),
    "Clip": ("clip=-0.3,0.7", lambda net, y: net.op("Clip", y, net.const(-0.3), net.const(0.7))),
    "Clip to 1": ("clip=-inf,1", lambda net, y: net.op("Clip", y, "", net.const(1.0))),
    "LeakyRelu": ("leaky_relu=0.2", lambda net, y: net.op("LeakyRelu", y, alpha=0.2)),
    "LeakyRelu by default": ("leaky_relu", lambda net, y: net.op("LeakyRelu", y)),
    "PRelu, one slope": ("leaky_relu=0.3", lambda net, y: net.op("PRelu", y, net.const([0.3]))),
    "Sigmoid": ("sigmoid", lambda net, y: net.op("Sigmoid", y)),
    "Tanh": ("tanh", lambda net, y: net.op("Tanh", y)),
    "HardSigmoid by default": ("hard_sigmoid=0.2,0.5", lambda net, y: net.op("HardSigmoid", y)),
    "HardSigmoid": ("hard_sigmoid", lambda net, y: net.op("HardSigmoid", y, alpha=1 / 6, beta=0.5)),
    "HardSwish": ("hard_swish", lambda net, y: net.op("HardSwish", y)),
    "x*HardSigmoid(x)": (
        "hard_swish", lambda net, y: net.op("Mul", net.op("HardSigmoid", y, alpha=1 / 6), y)
    ),
    "x*clip(x+3, 0, 6)/6": ("hard_swish", _hard_swish_by_clip),
    "(clip(3+x, 0, 6)*(1/6))*x": ("hard_swish", _hard_swish_by_gate),
    "clip(x+3, 0, 6)/6": (
        "hard_sigmoid",
        lambda net, y: net.op(
            "Div", net.op("Clip", net.op("Add", y, net.const(3.0)), net.const(0.0), net.const(6.0)),
            net.const(6.0),
        ),
    ),
    "x*Sigmoid(x)": ("silu", lambda net, y: net.op("Mul", y, net.op("Sigmoid", y))),
    "gelu by Erf": ("gelu", _gelu_by_erf),
    "none": (None, lambda net, y: net.op("Abs", y)),
    "x*Sigmoid(2x)": (
        None, lambda net, y: net.op("Mul", y, net.op("Sigmoid", net.op("Mul", y, net.const(2.0))))
    ),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_activation(spelling):
    expected, build = SPELLINGS[spelling]
    net = Net()
    build(net, net.conv("x", 4, 6, bias=True))
    assert activations(net) == [expected]


@pytest.mark.parametrize("kind, expected", [("none", "gelu"), ("tanh", "gelu_tanh")])
def test_gelu_operator(kind, expected):
    net = Net(opset=20)
    net.op("Gelu", net.conv("x", 4, 6), approximate=kind)
    assert activations(net) == [expected]


def test_clip_by_attributes():
    net = Net(opset=6)
    net.op("Clip", net.conv("x", 4, 6), min=0.0, max=6.0)
    net.op("Clip", net.conv("x", 4, 6), min=0.0)
    assert activations(net, "v1_0", "v3_0") == ["relu6", "relu"]


def test_activation_that_something_else_reads_too():
    net = Net()
    y = net.conv("x", 4, 6)
    silu = net.op("Mul", y, net.op("Sigmoid", y))
    net.op("Add", silu, y)
    assert activations(net) == [None]


def test_activation_whose_input_is_an_output_of_the_model():
    net = Net()
    y = net.conv("x", 4, 6)
    z = net.op("Relu", y)
    assert activations(net, y, z) == [None]


def test_activation_inside_a_branch_reads_the_value_too():
    net = Net()
    y = net.conv("x", 4, 6)
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, [y], [f"{name}_y"])], name, [], [onnx.ValueInfoProto(name=f"{name}_y")]
        )
        for name, op in (("then", "Neg"), ("else", "Abs"))
    }
    net.op("Relu", y)
    net.op("If", net.const(True, "bool"), **branches)
    assert [layer.spec.activation for layer in extract(net.model()).layers] == [None]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_folding_of_affine_nodes(layout):
    net = Net()
    y = net.conv("x", 4, 6, bias=True)
    y = net.batch_norm(y, 6, epsilon=1e-3)
    y = net.op("Mul", y, net.random(6, 1, 1))
    y = net.op("Sub", net.random(1, 6, 1, 1, node=True), y)
    y = net.op("Div", y, net.const(1.5))
    y = net.op("Identity", y)
    y = net.op("Add", y, net.op("Reshape", net.random(6), net.const([1, -1, 1, 1], "int64")))
    net.op("Relu", y)
    found = extract(net.model(), layout=layout)
    check(found)
    (layer,) = found.layers
    assert layer.spec.bias and layer.spec.activation == "relu"
    assert [name.split("_")[0] for name in layer.nodes] == [
        "Conv", "BatchNormalization", "Mul", "Sub", "Div", "Identity", "Add", "Relu"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "build",
    [
        lambda net, y: net.op("Add", y, net.random(1, 1, 7, 6)),  # a value for each pixel
        lambda net, y: net.op("Mul", y, net.random(6)),  # for each column
        lambda net, y: net.op("Add", y, net.random(1, 1, 1, 1, 1)),  # makes the result 5-D
        lambda net, y: net.op("Add", y, "x2"),  # not constant
        lambda net, y: net.op("Div", net.const(2.0), y),
        lambda net, y: net.op("Add", y, y),
        lambda net, y: net.batch_norm(y, 6, training_mode=1, outputs=3),
    ],
)
def test_what_is_not_folded(build):
    net = Net()
    net.inputs.append(helper.make_tensor_value_info("x2", TensorProto.FLOAT, (1, 6, 7, 6)))
    build(net, net.conv("x", 4, 6))
    (layer,) = extract(net.model()).layers
    assert len(layer.nodes) == 1 and not layer.spec.bias


def test_batch_norm_with_zero_variance_and_epsilon_is_not_folded():
    net = Net()
    y = net.conv("x", 4, 6)
    ones, zeros = net.const(np.ones(6)), net.const(np.zeros(6))
    net.op("BatchNormalization", y, ones, zeros, zeros, zeros, epsilon=0.0)
    assert len(extract(net.model()).layers[0].nodes) == 1


def test_weights_that_the_graph_computes():
    net = Net()
    net.inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (6, 4, 3, 3)))
    net.op("Relu", net.batch_norm(net.op("Conv", "x", net.op("Tanh", "w")), 6))
    net.op("Relu", net.op("Conv", "x", net.op("Tanh", "w"), net.random(6)))
    found = extract(net.model("v3_0", "v6_0"), layout="NHWC")
    check(found)
    assert [(len(layer.nodes), layer.constant, layer.spec.bias) for layer in found.layers] == [
        (1, False, False), (2, False, True),
    ]  # fmt: skip


def test_weights_through_constant_nodes():
    net = Net()
    w = net.op("Transpose", net.op("Cast", net.random(3, 3, 4, 6, dtype="float64"), to=1), perm=[3, 2, 0, 1])
    net.op("Conv", "x", w)
    net.op("Conv", "x", net.op("ConstantOfShape", net.const([6, 4, 1, 1], "int64")))
    found = extract(net.model("v2_0", "v4_0"))
    check(found)
    assert all(layer.constant for layer in found.layers)


def test_network_of_all_kinds():
    for layout in ("NCHW", "NHWC"):
        found = extract(small_network(), layout=layout)
        check(found)
        assert [layer.spec.kind for layer in found.layers] == [
            "dense", "pointwise", "depthwise", "pointwise", "grouped", "depthwise", "pointwise", "pointwise",
        ]  # fmt: skip
        kinds = {kind.kind: kind for kind in by_kind(found.layers)}
        assert (kinds["pointwise"].layers, kinds["pointwise"].distinct) == (4, 3)
        assert kinds["total"].flops == sum(layer.spec.flops for layer in found.layers)


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank):
    net = Net((2, 4, *(7,) * rank))
    y = net.conv("x", 4, 6, (3,) * rank, pads=[1] * 2 * rank)
    net.op("Relu", net.batch_norm(y, 6))
    for layout in ("NCHW", "NHWC"):
        found = extract(net.model(), layout=layout)
        check(found)
        assert found.layers[0].spec.rank == rank and found.layers[0].spec.activation == "relu"


def test_models_of_the_onnx_wheel():
    """Real architectures (with constant weights): as many layers as convolutions, batch norms all folded."""
    from pathlib import Path

    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    for name, count in (("resnet50", 53), ("densenet121", 121), ("shufflenet", 49), ("inception_v2", 69)):
        found = extract(folder / f"light_{name}.onnx")
        folded = {node for layer in found.layers for node in layer.nodes}
        after = [node for node in found.model.graph.nodes if node.op_type == "BatchNormalization"]
        directly = [node for node in after if found.model.graph.producer(node.input[0]).op_type == "Conv"]
        assert len(found.layers) == count
        assert all(node.name in folded for node in directly)


# ---- shapes ----


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
    net.op("ConvTranspose", "x", net.random(4, 6, 3, 3))
    with pytest.raises(tvmconv.Error, match="it has 1 ConvTranspose"):
        extract(net.model())


def test_convolutions_that_are_skipped_are_told():
    net = Net()
    net.op("ConvTranspose", net.conv("x", 4, 6), net.random(6, 6, 3, 3))
    body = helper.make_graph(
        [helper.make_node("Conv", ["x", net.random(6, 4, 3, 3)], ["inner_y"], "inner")], "body", [],
        [onnx.ValueInfoProto(name="inner_y")],
    )  # fmt: skip
    net.op("If", net.const(True, "bool"), then_branch=body, else_branch=body, name="choice")
    found = extract(net.model())
    assert {(item.name, item.op_type) for item in found.skipped} == {
        ("ConvTranspose_1", "ConvTranspose"), ("inner", "Conv"),
    }  # fmt: skip
    assert "choice" in found.skipped[-1].reason


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
    check(found)
    assert [layer.spec.activation for layer in found.layers] == ["relu", "relu"]
    assert len({layer.name for layer in found.layers}) == 2


def test_external_weights(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(small_network(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    found = extract(path)
    check(found)
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
