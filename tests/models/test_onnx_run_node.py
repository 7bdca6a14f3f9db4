"""run_node: ONNX's own Conv cases, and every attribute against onnxruntime."""

from __future__ import annotations

import itertools
import re

import numpy as np
import onnx_cases
import pytest
from onnx import helper
from onnx_cases import check
from runtime_node import onnxruntime_output

import tvmconv

IN_MEMORY = (
    "test_basic_conv_with_padding",
    "test_basic_conv_without_padding",
    "test_conv_with_autopad_same",
    "test_conv_with_strides_and_asymmetric_padding",
    "test_conv_with_strides_no_padding",
    "test_conv_with_strides_padding",
)


ON_DISK = [folder for folder, _ in onnx_cases.on_disk("Conv")]


@pytest.fixture(scope="module")
def in_memory():
    return onnx_cases.in_memory("Conv")


def test_no_case_is_left_out(in_memory):
    assert set(IN_MEMORY) == set(in_memory)
    assert len(ON_DISK) >= 27


@pytest.mark.parametrize("name", IN_MEMORY)
def test_onnx_case_in_memory(name, in_memory):
    onnx_cases.run_in_memory(in_memory[name])


@pytest.mark.parametrize("folder", ON_DISK, ids=lambda folder: folder.name)
def test_onnx_case_on_disk(folder):
    onnx_cases.run_on_disk(folder, ("Conv",))


def test_convolutions_that_other_operators_are_made_of():
    cases = onnx_cases.expanded("Conv")
    assert len(cases) >= 13
    for case in cases.values():
        onnx_cases.run_expanded(case, ("Conv",))


ATTRIBUTES = [
    # shape, weights, attributes
    ((1, 3, 11), (4, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [3]}),
    ((1, 3, 11), (4, 3, 4), {"auto_pad": "SAME_LOWER", "strides": [3]}),
    ((1, 4, 10, 7), (4, 2, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 1], "group": 2}),
    ((1, 4, 10, 7), (4, 2, 3, 2), {"auto_pad": "SAME_LOWER", "strides": [2, 1], "group": 2}),
    ((1, 4, 10, 7), (4, 4, 3, 3), {"auto_pad": "VALID", "dilations": [2, 3]}),
    ((2, 4, 10, 7), (8, 1, 3, 3), {"auto_pad": "NOTSET", "pads": [0, 2, 1, 0], "group": 4}),
    ((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), {"auto_pad": "SAME_LOWER", "strides": [1, 2, 2]}),
    ((1, 2, 5, 6, 7), (3, 2, 3, 1, 2), {"pads": [1, 0, 2, 2, 0, 0], "dilations": [2, 1, 3]}),
]  # fmt: skip


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape, weights, attributes", ATTRIBUTES)
def test_attributes_against_onnxruntime(shape, weights, attributes, bias):
    rng = np.random.default_rng(7)
    arrays = [rng.standard_normal(dims).astype(np.float32) for dims in (shape, weights, weights[:1])]
    names = ["x", "w", "b"][: 2 + bias]
    node = helper.make_node("Conv", names, ["y"], kernel_shape=weights[2:], **attributes)
    expected = onnxruntime_output(node, dict(zip(names, arrays, strict=False)))
    check(tvmconv.onnx.run_node(node, arrays[: len(names)]), [expected], 1e-5, 1e-6)


@pytest.mark.parametrize("upper", [True, False])
def test_same_padding_over_the_small_sizes(upper):
    """ceil(size/stride) results; the padding is what they need, the odd one where the name says."""
    from tvmconv.onnx.reading.attributes import conv_spec

    for size, kernel, stride, dilation in itertools.product(range(1, 9), range(1, 5), (1, 2, 3), (1, 2)):
        node = helper.make_node(
            "Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER" if upper else "SAME_LOWER", strides=[stride],
            dilations=[dilation],
        )  # fmt: skip
        spec = conv_spec(node, (1, 1, size), (1, 1, kernel), bias=False)
        ((lo, hi),) = spec.padding
        assert spec.out_spatial == (-(-size // stride),)
        assert 0 <= (hi - lo if upper else lo - hi) <= 1
        needed = (spec.out_spatial[0] - 1) * stride + (kernel - 1) * dilation + 1 - size
        assert lo + hi == max(needed, 0)


def _node(**attributes):
    return helper.make_node("Conv", ["x", "w", "b"], ["y"], "the_node", **attributes)


def _arrays(*shapes, dtype=np.float32):
    return [np.ones(shape, dtype) for shape in shapes]


def test_inputs_by_name_and_left_out():
    x, w = _arrays((1, 2, 5, 5), (3, 2, 3, 3))
    by_order = tvmconv.onnx.run_node(_node(), [x, w, None])[0]
    by_name = tvmconv.onnx.run_node(_node(), {"x": x, "w": w, "b": None})[0]
    assert np.array_equal(by_order, by_name) and np.all(by_order == 18)


@pytest.mark.parametrize(
    "node, arrays, message",
    [
        (_node(), _arrays((1, 2, 5, 5)), "the_node: inputs: no w, expected x, w and maybe bias"),
        (_node(), _arrays(*[(1, 2, 5, 5)] * 4), "the_node: inputs: 4 of them"),
        (_node(), _arrays((1, 3, 5, 5), (3, 2, 3, 3)), "the_node: w: shape (3, 2, 3, 3) with group 1"),
        (_node(), _arrays((1, 2, 5, 5), (3, 2, 3, 3), (4,)), "the_node: bias: shape (4,)"),
        (_node(), _arrays((1, 2, 5), (3, 2, 3, 3)), "the_node: w: shape (3, 2, 3, 3), expected 3 dims"),
        (_node(), _arrays((5, 5), (3, 2)), "the_node: x: shape (5, 5), expected 3 to 5 dims"),
        (_node(), _arrays((1, 2, 2, 5), (3, 2, 3, 3)), "the_node: kernel: 3 in spatial dim 0"),
        (_node(), _arrays((1, 2, 5, 5), (3, 2, 3, 3), dtype=np.complex64), "complex64"),
        (helper.make_node("Softmax", ["x"], ["y"]), [], "operator: 'Softmax', expected one of Conv"),
        (helper.make_node("Conv", ["x"], ["y"], domain="com.x"), [], "'com.x.Conv'"),
        (_node(), {"x": np.ones(3)}, "the_node: inputs: no w, b"),
    ],
)  # fmt: skip
def test_what_does_not_fit(node, arrays, message):
    with pytest.raises(tvmconv.SpecError, match=re.escape(message)):
        tvmconv.onnx.run_node(node, arrays)
