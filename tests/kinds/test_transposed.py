"""Transposed convolution: random specs and corners through the whole pipeline, the multiply-adds that are
executed, torch's samples, and what is refused."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
import torch_samples
from checking import random_arrays
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from loop_nests import loop_nest, multiply_adds
from strategies import specs
from test_conv_property import check_all, compiled

import tvmconv
from tvmconv.compiler import codegen
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.baking import packed_weights
from tvmconv.compiler.ops.transposed_problem import TRANSPOSED
from tvmconv.formats.choice import Choice
from tvmconv.schedules.machines import resolve
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.reference.floats import conv_reference

# What random drawing would meet too rarely.
CORNERS = (
    "tconv2d:1x1x1x1:o1:k1x1:NHWC:float32",
    "tconv2d:1x1x1x7:o5:k4x4:NHWC:float32:bias",  # from one pixel, as generators begin
    "tconv2d:2x7x1x1:o5:k4x4:NCHW:float32:bias:relu",
    "tconv2d:1x1x1x3:o3:k2x2:s2:p1+0x0+0:op1x0:NHWC:float32",
    "tconv3d:1x1x2x1x3:o3:k2x3x2:s2:p0+0x1+0x0+0:d3x3x1:g3:op0x1x0:NHWC:float32",
    "tconv2d:1x5x6x7:o9:k1x1:NHWC:float32:bias",  # a matrix product
    "tconv2d:1x7x5x6:o9:k1x1:NCHW:float32",
    "tconv2d:1x6x5x7:o9:k1x1:s3:op2:NHWC:float32:bias",  # most phases see no tap at all
    "tconv2d:1x7x5x19:o9:k2x3:s5x4:op4x3:NCHW:float32:bias:relu6",
    "tconv2d:2x5x9x17:o21:k2x2:s2:NHWC:float32",  # no overlap
    "tconv2d:2x17x9x37:o21:k2x2:s2:NCHW:float32:bias",
    "tconv2d:1x5x9x8:o37:k3x3:s2:p1:op1:NHWC:float32:bias:relu",
    "tconv2d:1x8x5x41:o7:k3x3:s2:p1:op1:NCHW:float32:bias:relu",
    "tconv2d:1x9x33x40:o40:k4x4:s2:p1:g40:NHWC:float32:bias:relu6",
    "tconv2d:2x40x9x33:o40:k4x4:s2:p1:g40:NCHW:float32:bias",
    "tconv2d:1x7x9x11:o33:k3x4:s2x3:p1:g11:NHWC:float32:bias",
    "tconv2d:1x11x7x9:o33:k3x4:s2x3:p1:g11:NCHW:float32",
    "tconv2d:1x7x9x24:o36:k3x3:s2:g12:NHWC:float32:bias:hard_swish",
    "tconv2d:1x7x9x12:o60:k3x3:s3:d2:g3:NHWC:float32",
    "tconv2d:1x4x6x19:o5:k3x3:s6:d4:p3:NCHW:float32:bias",  # common divisor of stride and dilation
    "tconv2d:1x6x19x4:o5:k3x3:s4x6:d6x4:p2x5:NHWC:float32:bias",
    "tconv2d:1x5x33x6:o6:k2x9:d3:p0x20+3:NHWC:float32",
    "tconv2d:1x3x4x3:o2:k9x8:s8x9:p3x2:NHWC:float32",
    "tconv2d:1x3x4x35:o2:k9x11:s8x9:p3x2:NCHW:float32:bias",
    "tconv1d:1x40x16:o16:k16:s8:p4:NHWC:float32:bias",
    "tconv1d:1x16x40:o16:k16:s8:p4:NCHW:float32:bias:leaky_relu=0.1",
    "tconv1d:3x5x67:o4:k25:s2:p12:NCHW:float32",
    "tconv1d:1x23x4:o3:k11:s1:p5:NHWC:float32",
    "tconv2d:1x14x13x20:o24:k3x2:d1x2:p1+0x0+1:op0x1:g2:NHWC:float32:bias",  # stride 1, each its own way
    "tconv2d:2x20x13x14:o24:k3x2:d1x2:p1+0x0+1:op0x1:g2:NCHW:float32:residual",
    "tconv2d:1x12x13x16:o16:k3x3:p1:g16:NHWC:float32:bias",
    "tconv2d:1x9x5x5:o7:k3x3:p3:NCHW:float32",  # more is cropped than one tap reaches
    "tconv1d:1x18x23:o1:k32:s16:NCHW:float32:bias:relu",  # one channel of many phases: an inverse STFT
    "tconv1d:2x20x37:o4:k24:s8:p8:g4:NCHW:float32:residual",
    "tconv1d:1x3x5:o1:k16:s16:NCHW:float32",
    "tconv3d:1x3x4x5x8:o6:k3x2x3:s2x1x2:p1x0x1:NHWC:float32:bias",
    "tconv3d:1x8x3x4x17:o6:k3x2x3:s2x1x2:p1x0x1:NCHW:float32:bias",
    "tconv3d:1x4x3x4x5:o4:k2x2x2:s2:g4:NCHW:float32",
    "tconv2d:1x3x3x2:o2:k64x64:s32:p16:NHWC:float32",  # 1024 phases
    "tconv2d:1x2x3x4:o2:k64x64:s32:p16:g2:NCHW:float32",
)


def test_corners():
    module, pairs = compiled(map(ConvSpec.parse, CORNERS))
    check_all(module, [function for _, function in pairs])


# No shrinking: it would compile for minutes, and the failing spec is named as it is.
@settings(max_examples=5, phases=[Phase.explicit, Phase.generate])
@given(st.lists(specs(transposed=True).map(str), min_size=12, max_size=12, unique=True))
def test_random_specs(descriptors):
    module, pairs = compiled(map(ConvSpec.parse, descriptors))
    check_all(module, [function for _, function in pairs])


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_stride_one_is_an_ordinary_convolution(layout):
    """By its strategies, with baked weights too; going phase by phase gives the same."""
    shape = (1, 9, 10, 20) if layout == "NHWC" else (1, 20, 9, 10)
    spec = ConvSpec(shape, 33, (3, 2), layout=layout, padding=(1, 0), transposed=True)
    machine = resolve("native")
    kernels = {"plain": codegen.build_kernel(spec, machine, symbol="k_plain")}
    phases = [name for name in codegen.spaces(spec, machine) if name.startswith(TRANSPOSED)]
    assert phases and not kernels["plain"].schedule["strategy"].startswith(TRANSPOSED)
    for name in phases:
        kernels[name] = codegen.build_kernel(spec, machine, Choice(name, {}), f"k_{name}")
    x, w, _ = random_arrays(spec, "integer")
    baked = {name: packed_weights(kernel, {"w": w}) for name, kernel in kernels.items()}
    module, held = Library(kernels, machine).load(), Library(kernels, machine, baked=baked).load()
    for name in kernels:
        y = module[name](x, w)
        np.testing.assert_allclose(y, conv_reference(spec, x, w), rtol=0, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(held[name](x), y, rtol=0, atol=1e-4, err_msg=name)


def test_residual_and_slopes():
    for layout, shape in (("NHWC", (1, 5, 7, 6)), ("NCHW", (1, 6, 5, 21))):
        spec = ConvSpec(shape, 5, 3, stride=2, padding=1, transposed=True, layout=layout, bias=True,
                        residual=True, activation="prelu")
        x, w, bias = random_arrays(spec)
        rng = np.random.default_rng(3)
        residual = rng.standard_normal(spec.output_shape).astype(np.float32)
        slopes = rng.standard_normal(spec.bias_shape).astype(np.float32)
        _, [(_, function)] = compiled([spec])
        y = function(x, w, bias, residual, slopes)
        expected = conv_reference(spec, x, w, bias, residual=residual, slopes=slopes)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)


def taps_that_count(spec, padded):
    """Multiply-adds by the definition, dim by dim. ``padded``: those with a zero beside the image count too,
    but those with one between two of its elements do not."""
    total = spec.batch * spec.in_channels * spec.multiplier
    for dim in range(spec.rank):
        (lo, _), out, size = spec.padding[dim], spec.out_spatial[dim], spec.in_spatial[dim]
        landed = [
            (o + lo - k * spec.dilation[dim]) for o in range(out) for k in range(spec.kernel[dim])
        ]
        whole = [at // spec.stride[dim] for at in landed if at % spec.stride[dim] == 0]
        total *= sum(padded or 0 <= i < size for i in whole)
    return total


COUNTED = (
    "tconv2d:1x4x5x3:o5:k4x4:s2:{}:float32", "tconv2d:1x4x9x2:o18:k3x3:s2:p1:op1:{}:float32:bias:relu",
    "tconv2d:1x3x11x4:o4:k3x5:s3x2:d1x3:p1:{}:float32", "tconv2d:1x3x7x9:o9:k3x3:s2:p1:g9:{}:float32:bias",
    "tconv2d:2x3x3x4:o6:k3x3:s6x4:d4x6:p3:g2:{}:float32", "tconv1d:2x19x3:o4:k16:s8:p4:{}:float32",
    "tconv3d:1x2x3x5x2:o3:k2x3x4:s2x1x3:p1:{}:float32", "tconv2d:1x2x5x3:o2:k1x1:s3:{}:float32",
    "tconv2d:1x2x3x1:o1:k20x20:s10:p5:{}:float32", "tconv2d:1x5x6x3:o17:k3x3:p1:{}:float32",
    "tconv2d:1x7x6x1:o9:k3x3:s2:p1:{}:uint8/int8:bias",
)  # fmt: skip


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("descriptor", COUNTED)
def test_no_product_with_an_inserted_zero(descriptor, layout):
    """Of each descriptor one layout for each target."""
    target = ("x86-64-v2", "x86-64-v4")[(COUNTED.index(descriptor) + (layout == "NHWC")) % 2]
    last = ConvSpec.parse(descriptor.format("NHWC"))
    batch, *spatial, channels = last.input_shape
    shape = last.input_shape if layout == "NHWC" else (batch, channels, *spatial)
    spec = ConvSpec.parse(
        str(last).replace(":NHWC:", f":{layout}:").replace(
            "x".join(map(str, last.input_shape)), "x".join(map(str, shape)), 1
        )
    )
    executed = multiply_adds(loop_nest(spec, target))
    wanted = taps_that_count(spec, padded=False)
    assert wanted <= spec.macs and (wanted == spec.macs or any(map(any, spec.padding)))
    if layout == "NHWC":
        assert executed == wanted
    else:  # planes have their padding around them
        assert wanted <= executed <= taps_that_count(spec, padded=True)
    inserted = math.prod(spec.stride)
    if inserted > 1:
        naive = math.prod(spec.output_shape) * (spec.in_channels // spec.groups) * math.prod(spec.kernel)
        assert executed < naive


@pytest.mark.parametrize("op, sample", torch_samples.samples("conv_transpose"))
def test_torch_samples(op, sample):
    torch_samples.check(tvmconv.conv_transpose, op, sample)


def test_torch_has_no_error_inputs():
    """If it gets some, they belong in ``REFUSED``."""
    assert all(op.error_inputs_func is None for op in torch_samples.operators("conv_transpose"))


REFUSED = [
    # shapes of x and w, bias, arguments, message
    ((1, 4, 5, 5), (4, 2, 3, 3), None, {"output_padding": 1}, "output_padding: (1, 1), expected less than"),
    ((1, 4, 5, 5), (4, 2, 3, 3), None, {"stride": 2, "output_padding": (1, 2)}, "output_padding: (1, 2)"),
    ((1, 4, 5, 5), (4, 2, 3, 3), None, {"dilation": 3, "output_padding": 3}, "output_padding: (3, 3)"),
    ((1, 4, 5, 5), (4, 2, 3, 3), None, {"output_padding": -1}, "output_padding: -1"),
    ((1, 4, 5, 5), (4, 2, 3, 3), None, {"padding": -1}, "padding: -1"),
    ((1, 4, 5, 5), (4, 2, 3, 3), None, {"padding": "FULL"}, "padding: 'FULL', expected SAME, VALID"),
    ((1, 4, 2, 2), (4, 2, 3, 3), None, {"padding": 2}, "padding: ((2, 2), (2, 2)), expected to leave"),
    ((1, 4, 5, 5), (4, 2, 3, 3), None, {"stride": 0}, "stride: 0"),
    ((1, 4, 5, 5), (4, 2, 3, 3), None, {"stride": (2, 2, 2)}, "stride: (2, 2, 2)"),
    ((1, 4, 5, 5), (4, 2, 3, 3), None, {"dilation": 0}, "dilation: 0"),
    ((1, 4, 5, 5), (4, 2, 3, 3), None, {"groups": 3}, "groups: 3, expected a divisor of in_channels 4"),
    ((1, 4, 5, 5), (4, 2, 3, 3), None, {"groups": 0}, "groups: 0, expected a positive integer"),
    ((1, 4, 5, 5), (4, 2, 3, 3), None, {"groups": 2.0}, "groups: 2.0, expected a positive integer"),
    ((1, 4, 5, 5), (3, 2, 3, 3), None, {}, "w: shape (3, 2, 3, 3) has 3 input channels, expected 4"),
    ((1, 4, 5, 5), (4, 2, 3), None, {}, "w: shape (4, 2, 3), expected 4 dims"),
    ((1, 4, 5, 5), (4, 2, 0, 3), None, {}, "w: shape (4, 2, 0, 3), expected no empty dim"),
    ((1, 4, 5, 5), (4, 2, 3, 3), (4,), {"groups": 4}, "bias: shape (4,) of rank 1, expected (8,)"),
    ((4, 5), (4, 2), None, {}, "x: shape (4, 5), expected 3 to 5 dims"),
    ((1, 0, 5, 5), (4, 2, 3, 3), None, {}, "input_shape: (1, 0, 5, 5), expected no dim"),
]  # fmt: skip


@pytest.mark.parametrize("x, w, bias, options, message", REFUSED)
def test_what_does_not_fit(x, w, bias, options, message):
    arrays = [None if shape is None else np.ones(shape, np.float32) for shape in (x, w, bias)]
    with pytest.raises(tvmconv.SpecError, match=re.escape(message)) as caught:
        tvmconv.conv_transpose(*arrays, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_types_as_torch(dtype):
    kind = getattr(torch, dtype)
    x, w, b = torch.randn(2, 6, 9, 10).to(kind), torch.randn(6, 5, 3, 4).to(kind), torch.randn(5).to(kind)
    options = {"stride": (2, 3), "padding": 1, "output_padding": 1}
    expected = torch.nn.functional.conv_transpose2d(x.double(), w.double(), b.double(), **options)
    y = tvmconv.conv_transpose(x, w, b, **options)
    assert y.dtype == kind
    allowed = torch.finfo(kind).eps
    torch.testing.assert_close(y.double(), expected, rtol=allowed, atol=100 * min(allowed, 2.0**-23))


def test_batch_zero():
    x, w = np.zeros((0, 3, 4, 5), np.float32), np.ones((3, 2, 3, 3), np.float32)
    assert tvmconv.conv_transpose(x, w, stride=2).shape == (0, 2, 9, 11)
