"""Deformable convolution: ONNX's cases, onnxruntime and plain convolution as second opinions, random specs
between guard pages, offsets that point anywhere, bad input."""

import re

import guard
import numpy as np
import onnx_cases
import pytest
import torch
from guarded_libraries import sample_anywhere, verify_guarded
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx import helper
from runtime_node import onnxruntime_output
from strategies import deform_specs

import tvmconv
from tvmconv.base.errors import SpecError
from tvmconv.specs.deformable import DeformSpec
from tvmconv.specs.kinds import parse_spec
from tvmconv.specs.reference.deformable import deform_reference

CORNERS = [
    "deform2d:1x1x1x1:o1:k1x1",
    "deform2d:1x3x2x1:o5:k3x3:p1:mask",
    "deform2d:2x7x5x9:o3:k2x3:s2x1:p1+0x0+2:d1x2:bias",
    "deform2d:1x6x9x8:o9:k3x3:p1:g3:og2:mask:bias",
    "deform2d:1x33x7x7:o70:k3x3:p1:og3",
    "deform2d:2x16x6x5:o16:k1x5:p0x2:g16:og16:mask",
    "deform2d:1x24x5x7:o48:k3x2:s2:g24:og2:bias",
    "deform2d:1x20x13x17:o33:k3x3:s2:p1:mask:bias",
]


def arrays_of(spec, seed=0, spread=2.0):
    """x, w, offset, mask or None, bias or None."""
    rng = np.random.default_rng(seed)
    shapes = (spec.input_shape, spec.weight_shape, spec.offset_shape, spec.mask_shape, spec.bias_shape)
    x, w, offset, mask, bias = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return x, w, offset * np.float32(spread), mask if spec.mask else None, bias if spec.bias else None


def call(spec, x, w, offset, mask, bias):
    return tvmconv.deform_conv(
        x, w, offset, mask, bias, stride=spec.stride, padding=spec.padding, dilation=spec.dilation,
        groups=spec.groups, offset_groups=spec.offset_groups,
    )  # fmt: skip


def test_onnx_cases_in_memory():
    cases = onnx_cases.in_memory("DeformConv")
    assert len(cases) >= 4
    for case in cases.values():
        onnx_cases.run_in_memory(case)


def test_onnx_cases_on_disk():
    for folder, _ in onnx_cases.on_disk("DeformConv"):  # none in onnx 1.23
        onnx_cases.run_on_disk(folder, ("DeformConv",))


@pytest.mark.parametrize("text", CORNERS)
def test_against_the_reference_and_onnxruntime(text):
    spec = DeformSpec.parse(text)
    arrays = arrays_of(spec)
    expected = deform_reference(spec, *arrays)
    found = call(spec, *arrays)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5 * max(1, np.abs(expected).max()))
    x, w, offset, mask, bias = arrays
    names = ["x", "w", "o", "b" if spec.bias else "", "m" if spec.mask else ""]
    feeds = {name: a for name, a in zip(names, (x, w, offset, bias, mask), strict=True) if name}
    (top, bottom), (left, right) = spec.padding
    node = helper.make_node(
        "DeformConv", names, ["y"], strides=spec.stride, dilations=spec.dilation, group=spec.groups,
        offset_group=spec.offset_groups, pads=[top, left, bottom, right],
    )  # fmt: skip
    (ours,) = tvmconv.onnx.run_node(node, feeds)
    np.testing.assert_array_equal(ours, found)
    theirs = onnxruntime_output(node, feeds, opset=19)
    if theirs is None:
        pytest.skip("this onnxruntime has no DeformConv")
    np.testing.assert_allclose(found, theirs, rtol=1e-4, atol=1e-4)


def test_zero_offsets_are_a_convolution():
    spec = DeformSpec((2, 12, 9, 11), 20, 3, stride=2, padding=1, dilation=2, groups=2, bias=True)
    x, w, offset, _, bias = map(torch.tensor, (*arrays_of(spec)[:3], 0, arrays_of(spec)[4]))
    expected = torch.nn.functional.conv2d(x, w, bias, 2, 1, 2, 2)
    found = tvmconv.deform_conv(x, w, offset * 0, bias=bias, stride=2, padding=1, dilation=2, groups=2)
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_every_border_against_interpolation_by_torch():
    """One tap that walks over the image and beyond by quarters of a pixel: grid_sample with zeros outside."""
    height, width = 5, 6
    x = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.arange(-2, height + 1.01, 0.25), torch.arange(-2, width + 1.01, 0.25)
    for row in rows:
        offset = torch.zeros(1, 2, height, width)
        at = torch.zeros(height, width, 2)
        for index in range(height * width):
            column = columns[index % len(columns)]
            i, j = divmod(index, width)
            offset[0, 0, i, j], offset[0, 1, i, j] = row - i, column - j
            at[i, j, 0], at[i, j, 1] = 2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1
        expected = torch.nn.functional.grid_sample(x, at[None], align_corners=True)
        found = tvmconv.deform_conv(x, torch.eye(3).reshape(3, 3, 1, 1), offset)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@given(st.lists(deform_specs(), min_size=8, max_size=8, unique=True))
@settings(max_examples=2, phases=[Phase.explicit, Phase.generate])
def test_random_specs_between_guard_pages(specs):
    for spec in specs:
        assert parse_spec(str(spec)) == spec
    module = tvmconv.compile({f"f{i}": spec for i, spec in enumerate(specs)}).load()
    guard.in_child(verify_guarded, str(module.path))


def test_offsets_that_point_anywhere():
    """Huge, infinite, NaN, and on every border: nothing outside of a buffer is read, NaN makes NaN."""
    module = tvmconv.compile({f"f{i}": text for i, text in enumerate(CORNERS)}).load()
    guard.in_child(sample_anywhere, str(module.path))


def test_values_that_are_no_number_stay_where_they_are_read():
    spec = DeformSpec((1, 4, 7, 7), 5, 3, padding=1, mask=True)
    x, w, offset, mask, _ = arrays_of(spec, spread=1.0)
    x[0, 2, 3, 3], x[0, 1, 0, 6], mask[0, 4, 5, 5] = np.nan, np.inf, np.nan
    expected = deform_reference(spec, x, w, offset, mask)
    found = call(spec, x, w, offset, mask, None)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_library():
    spec = DeformSpec.parse("deform2d:1x8x6x6:o4:k3x3:p1:mask:bias")
    x, w, offset, mask, bias = arrays_of(spec)
    module = tvmconv.compile({"d": spec, "none": "deform2d:0x8x6x6:o4:k3x3:p1"}).load()
    assert [a.name for a in module["d"].arguments] == ["x", "w", "bias", "offset", "mask", "y"]
    y = module["d"](x, w, bias, offset, mask)
    bound = module["d"].bind(w, bias)
    assert np.array_equal(bound(x, offset, mask), y)
    assert np.array_equal(call(spec, x, w, offset, mask, bias), y)
    nothing, nowhere = np.zeros((0, 8, 6, 6), np.float32), np.zeros((0, 18, 6, 6), np.float32)
    assert module["none"](nothing, w, None, nowhere).shape == (0, 4, 6, 6)
    with pytest.raises(SpecError, match=re.escape("offset: shape (1, 17, 6, 6)")):
        bound(x, offset[:, 1:].copy(), mask)
    with pytest.raises(SpecError, match="inputs: 2, expected 3: x, offset, mask"):
        bound(x, offset)


def node(**attributes):
    return helper.make_node("DeformConv", ["x", "w", "o"], ["y"], "the_node", **attributes)


def ones(*shape):
    return np.ones(shape, np.float32)


X, W, OFFSET = ones(1, 4, 5, 5), ones(6, 4, 3, 3), ones(1, 18, 3, 3)
BAD = {
    "offset": (lambda: tvmconv.deform_conv(X, W, OFFSET[:, :17]), "offset: shape (1, 17, 3, 3)"),
    "offset size": (lambda: tvmconv.deform_conv(X, W, OFFSET, padding=1), "expected (1, 18, 5, 5)"),
    "offset type": (lambda: tvmconv.deform_conv(X, W, OFFSET.astype("f8")), "offset: dtype float64"),
    "no offset": (lambda: tvmconv.deform_conv(X, W, None), "offset: None, expected an array"),
    "mask": (lambda: tvmconv.deform_conv(X, W, OFFSET, OFFSET), "mask: shape (1, 18, 3, 3)"),
    "bias": (lambda: tvmconv.deform_conv(X, W, OFFSET, None, ones(5)), "bias: shape (5,)"),
    "weights": (lambda: tvmconv.deform_conv(X, W[:, :3], OFFSET),
        "w: shape (6, 3, 3, 3), expected (6, 4, 3, 3)"),
    "groups": (lambda: tvmconv.deform_conv(X, W, OFFSET, groups=3),
        "groups: 3, expected a divisor of in_channels 4"),
    "offset_groups": (lambda: tvmconv.deform_conv(X, W, OFFSET, offset_groups=3),
        "offset_groups: 3, expected a"),
    "dtype": (lambda: tvmconv.deform_conv(X.astype("f8"), W, OFFSET),
        "dtype: 'float64', expected one of float32"),
    "rank": (lambda: tvmconv.deform_conv(X[0], W[0], OFFSET),
        "expected 4 dims: deformable convolution is 2-D only"),
    "kernel": (lambda: tvmconv.deform_conv(X, ones(6, 4, 6, 3), OFFSET),
        "kernel: 6 in spatial dim 0, expected at"),
    "layout": (lambda: DeformSpec(X.shape, 6, 3, layout="NHWC"), "layout: 'NHWC', expected NCHW"),
    "mask flag": (lambda: DeformSpec(X.shape, 6, 3, mask=OFFSET), "expected True or False"),
    "token": (lambda: parse_spec("deform2d:1x4x5x5:o6:k3x3:og"), "descriptor's token: 'og'"),
    "rank word": (lambda: parse_spec("deform3d:1x4x5x5x5:o6:k3x3x3"), "deform2d"),
    "no o": (lambda: parse_spec("deform2d:1x4x5x5:k3x3"), "expected out_channels in it"),
    "node": (lambda: tvmconv.onnx.run_node(node(), [X, W]), "the_node: inputs: no offset"),
    "node group": (lambda: tvmconv.onnx.run_node(node(group=3), [X, W, OFFSET]), "the_node: groups: 3"),
    "node kernel": (lambda: tvmconv.onnx.run_node(node(kernel_shape=[2, 2]), [X, W, OFFSET]),
        "the_node: kernel_shape"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name):
    attempt, message = BAD[name]
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        attempt()
    assert "\n" not in str(caught.value)
