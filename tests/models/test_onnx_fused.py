"""What a layer takes in after its sums: residuals and PReLU; and the kinds of layers beside Conv."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import Net, check_layers

from tvmconv.base.errors import Error
from tvmconv.onnx import compile_model, verify_model
from tvmconv.onnx.recognising.extraction import extract


def shown(found):
    """(name, residual's value, activation) of each layer."""
    return [(layer.name, layer.inputs.get("residual"), layer.spec.activation) for layer in found.layers]


def verified(model, layout="NCHW", bake=False, shape=(1, 4, 9, 8)):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    module = compile_model(model, layout=layout, bake_weights=bake).load()
    results = verify_model(model, module, {"x": x})
    assert all(result.ok for result in results), results
    return module


def bottleneck():
    """A block of ResNet's whose shortcut is a convolution as well, and one whose shortcut is its input."""
    net = Net()
    y = net.op("Relu", net.batch_norm(net.conv("x", 4, 6, (1, 1)), 6))
    main = net.batch_norm(net.conv(y, 6, 12, pads=[1] * 4), 12)
    shortcut = net.batch_norm(net.conv("x", 4, 12, (1, 1)), 12)
    block = net.op("Relu", net.op("Add", main, shortcut))
    main = net.conv(block, 12, 12, pads=[1] * 4, group=4, bias=True)
    net.op("PRelu", net.op("Sum", block, main), net.random(12, 1, 1))
    return net.model(), main, block


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_residuals(layout):
    model, _, block = bottleneck()
    found = extract(model, layout=layout)
    check_layers(found)
    main = found.layers[1].y
    assert shown(found) == [
        ("Conv_0", None, "relu"), ("Conv_3", None, None), ("Conv_5", main, "relu"),
        ("Conv_9", block, "prelu"),
    ]  # fmt: skip
    assert [len(layer.nodes) for layer in found.layers] == [3, 2, 4, 3]
    assert found.layers[-1].weights["slopes"].shape == (12,)
    module = verified(model, layout, bake=layout == "NHWC")
    assert ":residual:prelu" in list(module.functions.values())[-1].descriptor


@pytest.mark.parametrize(
    "build",
    [
        lambda net, y: net.op("Add", net.op("Relu", y), "other"),  # an activation before the sum
        lambda net, y: net.op("Add", y, "row"),  # one row for all
        lambda net, y: net.op("Add", y, y),
        lambda net, y: net.op("Sum", y, "other", "other"),
        lambda net, y: net.op("Sub", y, "other"),
        lambda net, y: net.op("Add", net.op("Add", y, "other"), net.op("Neg", y)),  # something else reads y
    ],
)
def test_sums_that_are_no_residual(build):
    net = Net()
    for name, shape in (("other", (1, 6, 7, 6)), ("row", (1, 6, 1, 6))):
        net.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    build(net, net.conv("x", 4, 6))
    found = extract(net.model())
    check_layers(found)
    assert not found.layers[0].spec.residual


def test_nothing_is_folded_behind_a_residual_but_an_activation():
    net = Net()
    y = net.conv("x", 4, 4, (1, 1))
    y = net.batch_norm(net.op("Add", "x", y), 4)
    y = net.op("Tanh", net.op("Add", net.conv(y, 4, 4, (1, 1)), y))
    found = extract(net.model())
    check_layers(found)
    assert [(len(layer.nodes), layer.spec.activation) for layer in found.layers] == [(2, None), (3, "tanh")]


def test_one_sum_is_taken_once():
    """A later convolution has the sum, with what the earlier one makes; not both."""
    net = Net()
    left, right = (net.conv("x", 4, 4, (1, 1)) for _ in range(2))
    net.op("Relu", net.op("Add", right, left))
    found = extract(net.model())
    check_layers(found)
    assert shown(found) == [("Conv_0", None, None), ("Conv_1", left, "relu")]


def test_residual_with_weights_that_the_graph_computes():
    net = Net()
    net.inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (4, 4, 1, 1)))
    net.op("PRelu", net.op("Add", "x", net.op("Conv", "x", net.op("Tanh", "w"))), net.random(1, 4, 1, 1))
    found = extract(net.model(), layout="NHWC")
    check_layers(found)
    (layer,) = found.layers
    assert (layer.inputs, layer.computed) == ({"x": "x", "residual": "x"}, {"w": "v0_0"})
    assert set(layer.weights) == {"slopes"}
    module = compile_model(net.model(), layout="NHWC", bake_weights=True).load()
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal((1, 4, 9, 8)), "w": rng.standard_normal((4, 4, 1, 1))}
    (result,) = verify_model(net.model(), module, {name: a.astype(np.float32) for name, a in feeds.items()})
    assert result.ok and not next(iter(module.functions.values())).baked


@pytest.mark.parametrize(
    "shape, activation",
    [((6, 1, 1), "prelu"), ((1, 6, 1, 1), "prelu"), ((1,), "leaky_relu"), ((6,), None), ((7, 6), None)],
)
def test_slopes(shape, activation):
    """A slope a channel is an argument, one for all a number; by column or by pixel they are not folded."""
    net = Net()
    net.op("PRelu", net.conv("x", 4, 6), net.random(*shape))
    found = extract(net.model())
    check_layers(found)
    assert (found.layers[0].spec.activation or "None").partition("=")[0] == str(activation)


# ---- other kinds of layers ----


def every_kind():
    """Layers of each kind that stays in floating point."""
    net = Net(opset=19)
    y = net.op("Relu", net.conv("x", 4, 8, pads=[1] * 4))
    y = net.op("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    offset = net.conv(y, 8, 36, pads=[1] * 4)
    mask = net.op("Sigmoid", net.conv(y, 8, 18, pads=[1] * 4, bias=True))
    y = net.op(
        "DeformConv", y, net.random(6, 4, 3, 3), offset, net.random(6), mask,
        kernel_shape=[3, 3], pads=[1] * 4, group=2, offset_group=2,
    )  # fmt: skip
    y = net.op("ConvTranspose", y, net.random(6, 3, 2, 2), strides=[2, 2], group=2)
    y = net.op("AveragePool", y, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    top = net.op("GlobalMaxPool", y)
    return net.model(net.op("GlobalAveragePool", y), top)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_every_kind(layout):
    model = every_kind()
    found = extract(model, layout=layout)
    check_layers(found)
    assert not found.skipped
    assert [str(layer.spec).partition(":")[0] for layer in found.layers] == [
        "conv2d", "maxpool2d", "conv2d", "conv2d", "deform2d", "tconv2d", "avgpool2d", "maxpool2d",
        "avgpool2d",
    ]  # fmt: skip
    deformable = found.layers[4]
    assert list(deformable.inputs) == ["x", "offset", "mask"] and list(deformable.weights) == ["w", "bias"]
    module = verified(model, layout, bake=True)
    assert len(module.functions) == 9


def test_poolings_that_no_kernel_is_for_are_told():
    net = Net()
    y = net.op("MaxPool", net.conv("x", 4, 6), kernel_shape=[2, 2], outputs=2, name="with indices")
    net.inputs.append(helper.make_tensor_value_info("half", TensorProto.FLOAT16, (1, 2, 6, 6)))
    net.op("DeformConv", "half", net.random(2, 2, 1, 1, dtype="float16"), "half", name="half deformable")
    model = net.model(y, net.nodes[1].output[1], net.nodes[-1].output[0])
    found = extract(model)
    assert len(found.layers) == 1
    assert [(item.name, item.reason.partition(":")[0]) for item in found.skipped] == [
        ("half deformable", "dtype"), ("with indices", "Indices"),
    ]  # fmt: skip
    alone = Net()
    alone.op("MaxPool", "x", kernel_shape=[2, 2], outputs=2)
    with pytest.raises(Error, match=r"without convolutions that can be compiled \(it has 1 MaxPool: Indices"):
        extract(alone.model("v0_0", "v0_1"))


def test_wrong_number_of_inputs():
    net = Net()
    net.op("ConvInteger", net.const([[[1, 2]]], "uint8"), name="bad")
    with pytest.raises(Error, match="node bad: 1 inputs, expected 2 to 4 as ConvInteger has"):
        extract(net.model())
    assert onnx.defs.get_schema("ConvInteger").max_input == 4


# ---- shuffles of channels ----


def shuffled(net, y, shape, groups, perm=(0, 2, 1, 3, 4)):
    n, c, *spatial = shape
    apart = net.op("Reshape", y, net.const([n, groups, c // groups, *spatial], "int64"))
    return net.op("Reshape", net.op("Transpose", apart, perm=perm), net.const(shape, "int64"))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_shuffles(layout):
    net = Net((1, 8, 9, 8))
    shape = (1, 12, 9, 8)
    y = net.op("Relu", net.batch_norm(net.conv("x", 8, 12, (1, 1), group=4), 12))  # as ShuffleNet has it
    y = shuffled(net, y, shape, 4)
    y = net.op("PRelu", shuffled(net, net.conv(y, 12, 12, (1, 1), group=2), shape, 2), net.const([[[0.1]]]))
    net.op("Relu", net.op("Add", shuffled(net, net.conv(y, 12, 12, pads=[1] * 4), shape, 3), y))
    found = extract(net.model(), layout=layout)
    check_layers(found)
    assert [(layer.spec.shuffle, layer.spec.activation, len(layer.nodes)) for layer in found.layers] == [
        (4, "relu", 6), (2, "leaky_relu=0.1", 5), (3, "relu", 6)
    ]  # fmt: skip
    verified(net.model(), layout, bake=True, shape=(1, 8, 9, 8))


@pytest.mark.parametrize(
    "build",
    [
        lambda net, y, shape: net.batch_norm(shuffled(net, y, shape, 4), 12),
        lambda net, y, shape: net.op("PRelu", shuffled(net, y, shape, 4), net.random(12, 1, 1)),
    ],
)
def test_constants_behind_a_shuffle(build):
    """They are one a channel of the result, and go to the weights that make it."""
    net = Net((1, 8, 9, 8))
    build(net, net.conv("x", 8, 12, (1, 1), group=4), (1, 12, 9, 8))
    found = extract(net.model())
    check_layers(found)
    assert found.layers[0].spec.shuffle == 4 and len(found.layers[0].nodes) == 5


@pytest.mark.parametrize("perm", [(0, 1, 2, 3, 4), (0, 2, 1, 4, 3)])
def test_other_transpositions(perm):
    net = Net((1, 8, 8, 8))
    shuffled(net, net.conv("x", 8, 12, (1, 1)), (1, 12, 8, 8), 4, perm)
    found = extract(net.model())
    check_layers(found)
    assert found.layers[0].spec.shuffle == 1
