"""Layers extracted from models: what is folded into them, what is not, and that it is the same function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import Net, check_layers, small_network

from tvmconv.onnx.recognising.extraction import extract
from tvmconv.onnx.using.report import by_kind
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.pooling import PoolSpec


def activations(net: Net, *outputs: str) -> list[str | None]:
    found = extract(net.model(*outputs))
    check_layers(found)
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
    check_layers(found)
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
        lambda net, y: net.op("Add", y, "x2"),  # one value for all channels, and not constant
        lambda net, y: net.op("Div", net.const(2.0), y),
        lambda net, y: net.op("Add", y, y),
        lambda net, y: net.batch_norm(y, 6, training_mode=1, outputs=3),
    ],
)
def test_what_is_not_folded(build):
    net = Net()
    net.inputs.append(helper.make_tensor_value_info("x2", TensorProto.FLOAT, (1, 1, 7, 6)))
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
    check_layers(found)
    assert [(len(layer.nodes), layer.constant, layer.spec.bias) for layer in found.layers] == [
        (1, False, False), (2, False, True),
    ]  # fmt: skip


def test_weights_through_constant_nodes():
    net = Net()
    w = net.op("Transpose", net.op("Cast", net.random(3, 3, 4, 6, dtype="float64"), to=1), perm=[3, 2, 0, 1])
    net.op("Conv", "x", w)
    net.op("Conv", "x", net.op("ConstantOfShape", net.const([6, 4, 1, 1], "int64")))
    found = extract(net.model("v2_0", "v4_0"))
    check_layers(found)
    assert all(layer.constant for layer in found.layers)


def test_network_of_all_kinds():
    for layout in ("NCHW", "NHWC"):
        found = extract(small_network(), layout=layout)
        check_layers(found)
        assert [layer.spec.kind for layer in found.layers] == [
            "dense", "pointwise", "depthwise", "pointwise", "grouped", "depthwise", "pointwise", "pointwise",
            "global_avgpool",
        ]  # fmt: skip
        assert [layer.name for layer in found.layers if "residual" in layer.inputs] == ["Conv_8"]
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
        check_layers(found)
        assert found.layers[0].spec.rank == rank and found.layers[0].spec.activation == "relu"


def test_models_of_the_onnx_wheel():
    """Real architectures (with constant weights): every convolution and pooling is a layer, every batch
    normalisation behind a convolution and every sum around a block is part of one."""
    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    for name, convolutions, poolings, sums in [
        ("resnet50", 53, 2, 16), ("densenet121", 121, 5, 0), ("shufflenet", 49, 5, 13),
        ("inception_v2", 69, 13, 0), ("squeezenet", 26, 4, 0), ("vgg19", 16, 5, 0),
    ]:  # fmt: skip
        found = extract(folder / f"light_{name}.onnx")
        folded = {node for layer in found.layers for node in layer.nodes}
        after = [node for node in found.model.graph.nodes if node.op_type == "BatchNormalization"]
        directly = [node for node in after if found.model.graph.producer(node.input[0]).op_type == "Conv"]
        assert all(node.name in folded for node in directly)
        specs = [layer.spec for layer in found.layers]
        assert sum(isinstance(spec, ConvSpec) for spec in specs) == convolutions
        assert sum(isinstance(spec, PoolSpec) for spec in specs) == poolings
        assert sum(getattr(spec, "residual", False) for spec in specs) == sums
        shuffles = sum(getattr(spec, "shuffle", 1) > 1 for spec in specs)
        assert shuffles == (16 if name == "shufflenet" else 0) and not found.skipped
