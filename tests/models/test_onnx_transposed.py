"""run_node of ConvTranspose: ONNX's own cases, and every attribute against onnxruntime."""

from __future__ import annotations

import itertools
import re

import numpy as np
import onnx_cases
import pytest
from onnx import helper
from onnx_cases import check
from onnx_models import Net, check_layers
from runtime_node import onnxruntime_output

import tvmconv
from tvmconv.onnx import compile_model, verify_model
from tvmconv.onnx.recognising.extraction import extract
from tvmconv.onnx.recognising.transposed import transposed_spec

ON_DISK = [folder for folder, _ in onnx_cases.on_disk("ConvTranspose")]


def test_onnx_cases_in_memory():
    cases = onnx_cases.in_memory("ConvTranspose").values()
    assert len(cases) >= 11
    for case in cases:
        onnx_cases.run_in_memory(case)


def test_cases_are_found():
    assert len(ON_DISK) >= 3


@pytest.mark.parametrize("folder", ON_DISK, ids=lambda folder: folder.name)
def test_onnx_case_on_disk(folder):
    onnx_cases.run_on_disk(folder, ("ConvTranspose",))


ATTRIBUTES = [
    # shape, weights, attributes
    ((1, 3, 7), (3, 4, 4), {"auto_pad": "SAME_UPPER", "strides": [3]}),
    ((1, 3, 7), (3, 4, 4), {"auto_pad": "SAME_LOWER", "strides": [3]}),
    ((1, 3, 7), (3, 4, 5), {"auto_pad": "SAME_UPPER", "strides": [2]}),
    ((1, 3, 7), (3, 4, 5), {"auto_pad": "SAME_LOWER", "strides": [2]}),
    ((1, 4, 5, 7), (4, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 3], "group": 2}),
    ((1, 4, 5, 7), (4, 2, 3, 2), {"auto_pad": "SAME_LOWER", "strides": [2, 1], "group": 2}),
    ((1, 4, 5, 7), (4, 2, 3, 3), {"auto_pad": "VALID", "strides": [2, 1], "output_padding": [1, 0]}),
    ((1, 4, 5, 7), (4, 3, 3, 3), {"auto_pad": "VALID", "dilations": [2, 3]}),
    ((2, 4, 5, 7), (4, 1, 3, 3), {"auto_pad": "NOTSET", "pads": [0, 2, 1, 0], "group": 4}),
    ((2, 4, 5, 7), (4, 1, 3, 3), {"pads": [1, 2, 1, 0], "strides": [2, 3], "output_padding": [1, 2]}),
    ((1, 2, 3, 4, 5), (2, 3, 2, 3, 2), {"auto_pad": "SAME_LOWER", "strides": [1, 2, 2]}),
    ((1, 2, 3, 4, 5), (2, 3, 3, 1, 2), {"pads": [1, 0, 2, 2, 0, 0], "dilations": [2, 1, 3]}),
    ((1, 2, 4, 5), (2, 3, 3, 3), {"output_shape": [8, 9], "strides": [2, 2]}),
    ((1, 2, 4, 5), (2, 3, 3, 3), {"output_shape": [8, 9], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 4, 5), (2, 3, 3, 3), {"output_shape": [8, 9], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ((1, 2, 4, 5), (2, 3, 4, 3), {"output_shape": [7, 12], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 2, 4, 5), (2, 3, 4, 4), {"output_shape": [8, 10], "strides": [2, 2], "output_padding": [1, 1]}),
    ((1, 2, 6), (2, 3, 3), {"output_shape": [20], "strides": [3], "dilations": [2]}),
]  # fmt: skip


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape, weights, attributes", ATTRIBUTES)
def test_attributes_against_onnxruntime(shape, weights, attributes, bias):
    rng = np.random.default_rng(7)
    out = weights[1] * attributes.get("group", 1)
    arrays = [rng.standard_normal(dims).astype(np.float32) for dims in (shape, weights, (out,))]
    names = ["x", "w", "b"][: 2 + bias]
    node = helper.make_node("ConvTranspose", names, ["y"], kernel_shape=weights[2:], **attributes)
    expected = onnxruntime_output(node, dict(zip(names, arrays, strict=False)))
    check(tvmconv.onnx.run_node(node, arrays[: len(names)]), [expected], 1e-5, 1e-6)


def test_same_where_the_taps_do_not_reach():
    """ONNX says input times stride; onnxruntime leaves off what no tap reaches, where only the bias is."""
    rng = np.random.default_rng(7)
    x, w, b = (rng.standard_normal(dims).astype(np.float32) for dims in ((1, 2, 5), (2, 3, 2), (3,)))
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], strides=[4], auto_pad="SAME_UPPER")
    (y,) = tvmconv.onnx.run_node(node, [x, w, b])
    shorter = onnxruntime_output(node, {"x": x, "w": w, "b": b})
    assert y.shape == (1, 3, 20) and shorter.shape == (1, 3, 18)
    check([np.ascontiguousarray(y[..., :18])], [shorter], 1e-5, 1e-6)
    assert np.array_equal(y[..., 18:], np.broadcast_to(b[:, None], (1, 3, 2)))


def _node(**attributes):
    return helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], "the_node", **attributes)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_same_over_the_small_sizes(auto_pad):
    """Input times stride; what is cropped is what is over, the odd element where the name says."""
    for size, kernel, stride, dilation in itertools.product(range(1, 6), range(1, 5), (1, 2, 3), (1, 2)):
        node = _node(auto_pad=auto_pad, strides=[stride], dilations=[dilation])
        spec = transposed_spec(node, (1, 1, size), (1, 1, kernel), bias=False)
        ((lo, hi),), (extra,) = spec.padding, spec.output_padding
        assert spec.out_spatial == (size * stride,)
        assert 0 <= (hi - lo if auto_pad == "SAME_UPPER" else lo - hi) <= 1
        assert not (extra and lo + hi)


def _arrays(*shapes):
    return [np.ones(shape, np.float32) for shape in shapes]


XW = _arrays((1, 2, 5, 5), (2, 3, 3, 3))


@pytest.mark.parametrize(
    "node, arrays, message",
    [
        (_node(), _arrays((1, 2, 5, 5)), "the_node: inputs: no w, expected x, w and maybe bias"),
        (_node(), _arrays((1, 3, 5, 5), (2, 3, 3, 3)), "the_node: w: shape (2, 3, 3, 3), expected 3 input"),
        (_node(), _arrays((1, 2, 5), (2, 3, 3, 3)), "the_node: w: shape (2, 3, 3, 3), expected 3 dims"),
        (_node(kernel_shape=[3, 2]), XW, "the_node: kernel_shape: (3, 2)"),
        (_node(group=3), XW, "the_node: groups: 3, expected a divisor"),
        (_node(group=0), XW, "the_node: out_channels: 0"),
        (_node(strides=[0, 1]), XW, "the_node: strides: (0, 1)"),
        (_node(pads=[1, 1]), XW, "the_node: pads: [1, 1], expected 4"),
        (_node(auto_pad="SAME"), XW, "the_node: auto_pad: 'SAME', expected"),
        (_node(output_padding=[1]), XW, "the_node: output_padding: (1,)"),
        (_node(output_padding=[1, 0]), XW, "the_node: output_padding: (1, 0)"),
        (_node(output_shape=[9]), XW, "the_node: output_shape: (9,)"),
        (_node(output_shape=[0, 7]), XW, "the_node: output_shape: (0, 7)"),
        (_node(output_shape=[9, 7]), XW, "the_node: output_shape: (9, 7)"),
        (_node(), _arrays((1, 2, 5, 5), (2, 3, 3, 3), (4,)), "the_node: bias: shape (4,)"),
    ],
)  # fmt: skip
def test_what_does_not_fit(node, arrays, message):
    with pytest.raises(tvmconv.SpecError, match=re.escape(message)):
        tvmconv.onnx.run_node(node, arrays)


def _upsampling_net():
    net = Net((1, 6, 5, 7))
    y = net.op("ConvTranspose", "x", net.random(6, 4, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1], group=2)
    y = net.op("Relu", net.batch_norm(y, 8))
    w, bias = net.random(8, 3, 3, 3), net.random(3)
    y = net.op("ConvTranspose", y, w, bias, strides=[2, 2], auto_pad="SAME_UPPER")
    return net.op("Sigmoid", net.op("Add", y, net.random(3, 1, 1))), net


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_extracted_with_what_follows(layout):
    _, net = _upsampling_net()
    found = extract(net.model(), layout=layout)
    check_layers(found)
    assert [(layer.spec.transposed, layer.spec.bias, layer.spec.activation) for layer in found.layers] == [
        (True, True, "relu"), (True, True, "sigmoid")
    ]  # fmt: skip
    assert not found.skipped


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_compiled_and_verified(layout):
    model = _upsampling_net()[1].model()
    x = np.random.default_rng(0).standard_normal((1, 6, 5, 7)).astype(np.float32)
    library = compile_model(model, layout=layout, bake_weights=True)
    results = verify_model(model, library.load(), x)
    assert len(results) == 2 and all(result.ok for result in results)
