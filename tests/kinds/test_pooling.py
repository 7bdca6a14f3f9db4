"""Pooling: ONNX's cases, every option against torch, random specs between guard pages, bad input."""

import itertools
import math
import re
from dataclasses import replace

import guard
import numpy as np
import onnx_cases
import pytest
import torch
from guarded_libraries import verify_guarded
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx import helper
from strategies import pool_specs
from torch.nn import functional

import tvmconv
from tvmconv.base.dtypes import FLOATS, epsilon, rounded, widened
from tvmconv.base.errors import SpecError
from tvmconv.specs.kinds import parse_spec
from tvmconv.specs.pooling import PoolSpec
from tvmconv.specs.reference.pooling import pool_reference

OPERATORS = ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")
POOLS = {
    "max": (None, functional.max_pool1d, functional.max_pool2d, functional.max_pool3d),
    "avg": (None, functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d),
}


def test_onnx_cases_in_memory():
    cases = onnx_cases.in_memory(*OPERATORS)
    assert len(cases) >= 43
    for name, case in cases.items():
        try:
            onnx_cases.run_in_memory(case)
        except Exception as error:
            raise AssertionError(f"{name}: {error}") from error


@pytest.mark.parametrize("folder", [f for f, _ in onnx_cases.on_disk(*OPERATORS)], ids=lambda f: f.name)
def test_onnx_case_on_disk(folder):
    onnx_cases.run_on_disk(folder, OPERATORS)


def random(shape, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    if dtype in FLOATS:
        return rounded(rng.standard_normal(shape), dtype)
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)


# kernel, stride, padding, ceil_mode; for sizes 13, 14x11, 6x7x9
OPTIONS = [
    (2, None, 0, False), (2, None, 0, True), (3, 2, 1, False), (3, 2, 1, True), (3, 1, 1, False),
    (5, 3, 2, True), (4, 1, 2, False), (1, 2, 0, True), (3, 5, 1, True), (2, 3, 1, True),
]  # fmt: skip


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_like_torch(rank, layout):
    spatial = {1: (13,), 2: (14, 11), 3: (6, 7, 9)}[rank]
    channels = {1: 5, 2: 20, 3: 3}[rank]
    x = random((2, channels, *spatial))
    given = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "NHWC" else x
    cases = []
    for kernel, stride, padding, ceil in OPTIONS[:: 1 if rank == 2 else 2]:
        options = {"stride": stride, "padding": padding, "ceil_mode": ceil}
        dilations = (1, 2) if 2 * padding < kernel and kernel < 4 else (1,)
        cases += [("max", kernel, {**options, "dilation": dilation}) for dilation in dilations]
        cases += [("avg", kernel, {**options, "count_include_pad": counted}) for counted in (False, True)]
    for (operation, kernel, options), found in zip(cases, pooled(given, layout, cases), strict=True):
        expected = POOLS[operation][rank](torch.tensor(x), kernel, **options).numpy()
        check(found, expected, layout, 0 if operation == "max" else 4e-7)


def pooled(x, layout, cases):
    """The results for (operation, kernel, options), by one library."""
    specs = [PoolSpec(x.shape, kernel, operation=operation, layout=layout, dtype=str(x.dtype), **options)
             for operation, kernel, options in cases]  # fmt: skip
    module = tvmconv.compile({f"f{i}": spec for i, spec in enumerate(specs)}).load()
    return [function(x) for function in module.functions.values()]


def check(found, expected, layout, allowed):
    found = np.moveaxis(found, -1, 1) if layout == "NHWC" else found
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=allowed)


def test_sizes_as_torch_over_the_small_ones():
    """The number of results, with ceil_mode above all: the last window starts in the image or before it."""
    for size, kernel, stride, dilation in itertools.product(range(1, 9), range(1, 4), (1, 2, 3, 4), (1, 2)):
        for padding, ceil in itertools.product(range(kernel // 2 + 1), (False, True)):
            try:
                spec = PoolSpec((1, 1, size), kernel, stride=stride, padding=padding, dilation=dilation,
                                ceil_mode=ceil)
            except SpecError:
                continue  # larger than the image: torch counts otherwise there
            x = torch.zeros(1, 1, size)
            expected = functional.max_pool1d(x, kernel, stride, padding, dilation, ceil)
            assert spec.output_shape == tuple(expected.shape)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("spatial", [(7, 7), (13,), (1, 1), (3, 5, 4), (50, 60)])
def test_whole_images(spatial, layout):
    x = random((2, 19, *spatial))
    given = torch.tensor(np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "NHWC" else x)
    axes = tuple(range(2, x.ndim))
    mean, largest = tvmconv.global_avg_pool(given, layout), tvmconv.global_max_pool(given, layout)
    assert isinstance(mean, torch.Tensor) and isinstance(largest, torch.Tensor)
    check(mean.numpy(), x.astype(np.float64).mean(axes, keepdims=True).astype(np.float32), layout, 2e-7)
    check(largest.numpy(), x.max(axes, keepdims=True), layout, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("operation", ["max", "avg"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_values_that_are_no_number_spread(layout, operation, value):
    """As in torch: every window that holds a NaN has it as its maximum, and as its mean."""
    for kernel, stride, padding in ((3, 2, 1), (3, 1, 0), (9, 1, 0)):
        x = random((1, 18, 9, 9))
        x[0, 3, 4, 5] = x[0, 17, 0, 0] = x[0, 0, 8, 8] = value
        x[0, 5] = -np.inf
        given = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "NHWC" else x
        ours = tvmconv.max_pool if operation == "max" else tvmconv.avg_pool
        found = ours(given, kernel, stride=stride, padding=padding, layout=layout)
        more = {} if operation == "max" else {"count_include_pad": False}
        expected = POOLS[operation][2](torch.tensor(x), kernel, stride, padding, **more).numpy()
        check(found, expected, layout, 1e-6)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int8", "uint8"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_other_types(layout, dtype):
    x = random((2, 70, 9, 67), dtype)
    if layout == "NHWC":
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    for kernel, options in ((3, {"stride": 2, "padding": 1}), (2, {}), (x.shape[1:3], {})):
        if layout == "NCHW" and not isinstance(kernel, int):
            kernel = x.shape[2:]
        spec = PoolSpec(x.shape, kernel, layout=layout, dtype=dtype, **options)
        found = tvmconv.max_pool(x, kernel, layout=layout, **options)
        assert found.dtype == x.dtype
        np.testing.assert_array_equal(widened(found), pool_reference(spec, x))
        if dtype in FLOATS:
            mean = pool_reference(replace(spec, operation="avg"), x)
            found = tvmconv.avg_pool(x, kernel, layout=layout, **options)
            assert found.dtype == x.dtype
            np.testing.assert_allclose(widened(found), mean, rtol=epsilon(dtype), atol=1e-6)


@given(st.lists(pool_specs(), min_size=12, max_size=12, unique=True))
@settings(max_examples=4, phases=[Phase.explicit, Phase.generate])
def test_random_specs_between_guard_pages(specs):
    for spec in specs:
        assert parse_spec(str(spec)) == spec and hash(parse_spec(str(spec))) == hash(spec)
        assert math.prod(spec.output_shape) * spec.taps == spec.flops
    module = tvmconv.compile({f"f{i}": spec for i, spec in enumerate(specs)}).load()
    guard.in_child(verify_guarded, str(module.path))


def test_library_without_weights():
    """No prepack, nothing to bind, and an empty batch is fine."""
    texts = {"p": "maxpool2d:2x6x6x3:k2x2:NHWC:float32", "none": "avgpool1d:0x3x8:k2"}
    module = tvmconv.compile(texts).load()
    assert module["p"]._packed_bytes == 0
    x = random((2, 6, 6, 3))
    expected = pool_reference(PoolSpec(x.shape, 2, layout="NHWC"), x)
    out = np.empty(expected.shape, np.float32)
    assert module["p"].bind()(x, out=out) is out
    for y in (out, module["p"](x), module["p"](x[:, ::-1][:, ::-1])):
        np.testing.assert_array_equal(y, expected)
    assert module["none"](np.zeros((0, 3, 8), np.float32)).shape == (0, 3, 4)
    with pytest.raises(SpecError, match="w: ndarray, expected None"):
        module["p"](x, x)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_channel_shuffle(layout):
    for groups in (1, 2, 3, 6):
        x = random((2, 6, 4, 5), "int8")
        expected = torch.nn.functional.channel_shuffle(torch.tensor(x), groups)
        given = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "NHWC" else x
        found = tvmconv.channel_shuffle(given, groups, layout)
        check(found, expected.numpy(), layout, 0)
        assert found.flags.c_contiguous and not np.may_share_memory(found, given)
        same = tvmconv.channel_shuffle(torch.tensor(given), groups, layout)
        assert isinstance(same, torch.Tensor) and np.array_equal(same.numpy(), found)
        w = np.ones((6, 2, 1, 1) if layout == "NCHW" else (1, 1, 2, 6), np.float32)
        options = {"groups": 3, "layout": layout}
        y = tvmconv.conv(given.astype("f4"), w, shuffle=groups, **options)
        apart = tvmconv.channel_shuffle(tvmconv.conv(given.astype("f4"), w, **options), groups, layout)
        np.testing.assert_array_equal(y, apart)
    with pytest.raises(SpecError, match="groups: 4, expected a divisor of the 6 channels of x"):
        tvmconv.channel_shuffle(np.zeros((1, 6, 2, 2)), 4)


def pool_node(operator="MaxPool", outputs=("y",), **attributes):
    return helper.make_node(operator, ["x"], list(outputs), "the_node", **attributes)


def test_indices_of_the_maxima():
    """ONNX's second output, with padding and dilation, row by row or column by column."""
    x = random((2, 3, 7, 9))
    node = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 1, 2, 0], "dilations": [1, 2]}
    y, at = tvmconv.onnx.run_node(pool_node(outputs=("y", "i"), **node), [x])
    assert at.dtype == np.int64 and np.array_equal(x.reshape(-1)[at], y)
    _, other = tvmconv.onnx.run_node(pool_node(outputs=("y", "i"), storage_order=1, **node), [x])
    turned = np.ascontiguousarray(x.swapaxes(-1, -2)).reshape(-1)
    assert np.array_equal(turned[other], y)


BAD = {
    "kernel": (lambda x: tvmconv.max_pool(x, 0), "kernel: 0, expected a positive integer"),
    "kernel dims": (lambda x: tvmconv.max_pool(x, (2, 2, 2)),
        "kernel: (2, 2, 2), expected one integer, or 2"),
    "large kernel": (lambda x: tvmconv.max_pool(x, 9), "kernel: 9 in spatial dim 0, expected at most"),
    "stride": (lambda x: tvmconv.max_pool(x, 2, stride=0), "stride: 0, expected a positive integer"),
    "padding": (lambda x: tvmconv.max_pool(x, 2, padding=2),
        "padding: (2, 2) in spatial dim 0, expected each less"),
    "negative": (lambda x: tvmconv.max_pool(x, 2, padding=-1),
        "padding: -1, expected an integer that is not"),
    "padding name": (lambda x: tvmconv.max_pool(x, 2, padding="SAM"), "did you mean SAME?"),
    "dilation": (lambda x: tvmconv.max_pool(x, 2, dilation=1.5),
        "dilation: 1.5, expected a positive integer"),
    "ceil": (lambda x: tvmconv.max_pool(x, 2, ceil_mode=2), "ceil_mode: 2, expected True or False"),
    "layout": (lambda x: tvmconv.max_pool(x, 2, layout="NHCW"), "layout: 'NHCW', expected one of"),
    "dtype": (lambda x: tvmconv.avg_pool(x.astype("int8"), 2), "dtype: 'int8', expected one of float32"),
    "rank": (lambda x: tvmconv.global_avg_pool(x[0, 0]), "x: shape (6, 5), expected 3 to 5 dims"),
    "kind": (lambda x: tvmconv.max_pool([1], 2), "x: list, expected a NumPy or DLPack array"),
    "empty": (lambda x: tvmconv.max_pool(x[:, :0], 2), "expected no dim but the batch to be 0"),
    "operation": (lambda x: PoolSpec((1, 1, 4), 2, operation="min"),
        "operation: 'min', expected one of max, avg"),
    "countpad": (lambda x: PoolSpec((1, 1, 4), 2, count_include_pad=True),
        "count_include_pad: True, expected False"),
    "no kernel": (lambda x: parse_spec("maxpool1d:1x1x4:s2"), "expected kernel in it, as in maxpool2d"),
    "token": (lambda x: parse_spec("maxpool1d:1x1x4:k2:ceiling"), "descriptor's token: 'ceiling'"),
    "twice": (lambda x: parse_spec("maxpool1d:1x1x4:k2:k3"), "expected kernel once"),
    "word": (lambda x: parse_spec("maxpol2d:1x1x4x4:k2x2"), "maxpool2d"),
    "dims": (lambda x: parse_spec("maxpool2d:1x1x4:k2"), "expected 4 dims for maxpool2d"),
    "large": (lambda x: PoolSpec((2**16, 2**16, 4), 2), "expected at most 2146435072"),
    "node": (lambda x: tvmconv.onnx.run_node(pool_node(), [x]), "the_node: kernel_shape: none"),
    "node pads": (lambda x: tvmconv.onnx.run_node(pool_node(kernel_shape=[2, 2], pads=[1]), [x]),
        "the_node: pads"),
    "node strides": (lambda x: tvmconv.onnx.run_node(pool_node(kernel_shape=[2, 2], strides=[1]), [x]),
        "the_node: s"),
    "node dtype": (lambda x: tvmconv.onnx.run_node(pool_node(kernel_shape=[2, 2]), [x.astype("i2")]),
        "'int16'"),
    "node inputs": (lambda x: tvmconv.onnx.run_node(pool_node("GlobalMaxPool"), [x, x]),
        "2 of them, expected x"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name):
    call, message = BAD[name]
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        call(np.zeros((1, 2, 6, 5), np.float32))
    assert "\n" not in str(caught.value)
