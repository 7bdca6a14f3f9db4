"""Pad before a Conv becomes its padding, in every mode and spelling; what is not padding stays a node."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import Net, check_layers

from tvmconv.base.errors import Error
from tvmconv.onnx import compile_model, verify_model
from tvmconv.onnx.recognising.extraction import extract


def padded(net: Net, pads: list[int], mode: str, x: str = "x", **conv) -> None:
    value = net.op("Pad", x, net.const(pads, "int64"), mode=mode)
    net.conv(value, 4, 6, bias=True, **conv)


def only(net: Net, layout: str = "NCHW"):
    found = extract(net.model(), layout=layout)
    check_layers(found)
    (layer,) = found.layers
    return found, layer


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("mode", "name"), [
    ("constant", "zeros"), ("reflect", "reflect"), ("edge", "replicate"), ("wrap", "circular"),
])  # fmt: skip
def test_every_mode_agrees_with_onnxruntime(mode: str, name: str, layout: str) -> None:
    net = Net(opset=19)
    padded(net, [0, 0, 2, 1, 0, 0, 1, 3], mode)
    found, layer = only(net, layout)
    assert (layer.name, layer.nodes, layer.x) == ("Conv_1", ("Pad_0", "Conv_1"), "x")
    assert layer.spec.padding == ((2, 1), (1, 3)) and layer.spec.padding_mode == name
    assert not found.rest
    x = np.random.default_rng(0).standard_normal((1, 4, 9, 8)).astype(np.float32)
    results = verify_model(net.model(), compile_model(net.model(), layout=layout).load(), {"x": x})
    assert len(results) == 1 and all(result.ok for result in results)


def test_zeros_add_up() -> None:
    """To the node's own padding, auto_pad's too, and those of another Pad."""
    net = Net(opset=18)
    first = net.op("Pad", "x", net.const([1, 0, 1, 0], "int64"), "", net.const([2, -1], "int64"))
    padded(net, [0, 0, 0, 2, 0, 0, 0, 0], "constant", first, auto_pad="SAME_UPPER", strides=[2, 2])
    _, layer = only(net)
    # 11 x 10 after the Pads, to which SAME_UPPER adds 1 and 1 along the rows, and 0 and 1 along the columns.
    assert layer.spec.padding == ((2, 2), (2, 1)) and layer.nodes == ("Pad_0", "Pad_1", "Conv_2")


def test_a_pad_that_others_read_is_left_over_too() -> None:
    net = Net(opset=13)
    padded(net, [0, 0, 1, 1, 0, 0, 1, 1], "constant")
    net.op("Relu", net.nodes[0].output[0])
    found, layer = only(net)
    assert layer.x == "x" and [node.op_type for node in found.rest] == ["Pad", "Relu"]


@pytest.mark.parametrize(("pads", "mode", "conv", "value"), [
    ([0, 1, 0, 0, 0, 0, 0, 0], "constant", {}, 0),  # channels
    ([0, 0, -1, 0, 0, 0, 0, 0], "constant", {}, 0),  # less of the image
    ([0, 0, 1, 1, 0, 0, 1, 1], "constant", {}, 1),  # ones
    ([0, 0, 1, 1, 0, 0, 1, 1], "reflect", {"pads": [1, 1, 1, 1]}, 0),  # zeros around that
])  # fmt: skip
def test_others_stay(pads: list[int], mode: str, conv: dict, value: float) -> None:
    net = Net(opset=13)
    channels = 4 + pads[1] + pads[5]
    out = net.op("Pad", "x", net.const(pads, "int64"), net.const(value), mode=mode)
    net.conv(out, channels, 6, **conv)
    found, layer = only(net)
    assert layer.x == out and layer.spec.padding_mode == "zeros"
    assert [node.op_type for node in found.rest] == ["Pad"]


def test_pads_of_old_opsets_are_attributes() -> None:
    net = Net(opset=10)
    net.conv(net.op("Pad", "x", pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"), 4, 6)
    assert only(net)[1].spec.padding_mode == "reflect"


def test_pads_that_are_computed_stay() -> None:
    net = Net(opset=13)
    net.inputs.append(helper.make_tensor_value_info("pads", TensorProto.INT64, (8,)))
    out = net.op("Pad", "x", "pads")
    net.conv(out, 4, 6)
    with pytest.raises(Error):  # its size is not known
        extract(net.model())
