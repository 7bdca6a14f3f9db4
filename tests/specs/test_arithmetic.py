"""The arithmetic of convolutions: published numbers, the specs' own, and brute force."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tvmconv.base.errors import SpecError
from tvmconv.specs.arithmetic import (
    Window,
    check_chain,
    field_of,
    input_size_for,
    multiply_adds,
    output_size,
    padding_needed,
    parameters,
    receptive_field,
    same_padding,
    seen_by,
    separable_saving,
    transposed_size,
)
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.kinds import parse_spec
from tvmconv.specs.pooling import PoolSpec
from tvmconv.specs.reference.floats import conv_reference
from tvmconv.specs.shorthand import depthwise, pointwise

INTS = st.integers


# ---- sizes ----


@pytest.mark.parametrize("size, kernel, stride, padding, dilation, out", [
    (4, 3, 1, 0, 1, 2), (5, 4, 1, 2, 1, 6), (5, 3, 1, 1, 1, 5), (5, 3, 1, "FULL", 1, 7),  # Dumoulin, Visin:
    (5, 3, 2, 0, 1, 2), (5, 3, 2, 1, 1, 3), (6, 3, 2, 1, 1, 3), (7, 3, 1, 0, 2, 3),  # figures 2.1-2.7, 5.1
    (227, 11, 4, 0, 1, 55), (224, 11, 4, 2, 1, 55), (224, 7, 2, 3, 1, 112), (224, 3, 2, "SAME", 1, 112),
])  # fmt: skip
def test_published_sizes(size, kernel, stride, padding, dilation, out):
    assert output_size(size, kernel, stride=stride, padding=padding, dilation=dilation) == out


@pytest.mark.parametrize("size, kernel, stride, padding, extra, out", [
    (2, 3, 1, 0, 0, 4), (6, 4, 1, 2, 0, 5), (5, 3, 1, 1, 0, 5), (7, 3, 1, 2, 0, 5),  # figures 4.1-4.7
    (2, 3, 2, 0, 0, 5), (3, 3, 2, 1, 0, 5), (3, 3, 2, 1, 1, 6), (4, 4, 2, 1, 0, 8),  # the last: DCGAN
])  # fmt: skip
def test_published_transposed_sizes(size, kernel, stride, padding, extra, out):
    assert transposed_size(size, kernel, stride=stride, padding=padding, output_padding=extra) == out


@given(INTS(1, 40), INTS(1, 6), INTS(1, 5), INTS(0, 6), INTS(0, 6), INTS(1, 4))
def test_sizes_agree_with_specs_and_with_each_other(size, kernel, stride, lo, hi, dilation):
    options = {"stride": stride, "padding": (lo, hi), "dilation": dilation}
    of_spec = {**options, "padding": ((lo, hi),)}
    grown = stride * (size - 1) + dilation * (kernel - 1) + 1 - lo - hi
    if grown >= 1:
        spec = ConvSpec((1, 1, size), 1, kernel, transposed=True, **of_spec)
        assert transposed_size(size, kernel, **options) == spec.out_spatial[0] == grown
    else:
        with pytest.raises(SpecError, match="padding"):
            transposed_size(size, kernel, **options)
    if dilation * (kernel - 1) + 1 > size + lo + hi:
        with pytest.raises(SpecError, match="kernel"):
            output_size(size, kernel, **options)
        return
    out = output_size(size, kernel, **options)
    assert out == ConvSpec((1, 1, size), 1, kernel, **of_spec).out_spatial[0]
    sizes = [s for s in range(max(1, size - 9), size + 9) if s + lo + hi > dilation * (kernel - 1)
             and output_size(s, kernel, **options) == out]
    assert input_size_for(out, kernel, **options) == (sizes[0], sizes[-1])
    lost = (size + lo + hi - dilation * (kernel - 1) - 1) % stride  # a of Dumoulin and Visin
    if lost < max(stride, dilation):
        assert transposed_size(out, kernel, **options, output_padding=lost) == size


@given(INTS(1, 40), INTS(1, 60), INTS(1, 7), INTS(1, 4), INTS(1, 4))
def test_padding_needed_is_the_least(size, out, kernel, stride, dilation):
    def got(total):
        try:
            return output_size(size, kernel, stride=stride, padding=(0, total), dilation=dilation)
        except SpecError:
            return 0

    if got(0) > out:
        with pytest.raises(SpecError, match="out: "):
            padding_needed(size, out, kernel, stride=stride, dilation=dilation)
        return
    lo, hi = padding_needed(size, out, kernel, stride=stride, dilation=dilation)
    assert got(lo + hi) == out and hi - lo in (0, 1)
    assert lo + hi == 0 or got(lo + hi - 1) < out


@given(INTS(1, 40), INTS(1, 7), INTS(1, 9), INTS(1, 4))
def test_same_padding_is_that_of_specs(size, kernel, stride, dilation):
    spec = ConvSpec((1, 1, size), 1, kernel, stride=stride, dilation=dilation, padding="SAME")
    assert spec.padding == (same_padding(size, kernel, stride=stride, dilation=dilation),)


@given(INTS(1, 30), INTS(1, 5), INTS(1, 5), INTS(0, 4), INTS(1, 3))
def test_ceil_mode_is_that_of_poolings(size, kernel, stride, padding, dilation):
    extent = dilation * (kernel - 1) + 1
    assume(padding < extent <= size + 2 * padding)
    spec = PoolSpec((1, 1, size), kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=True)
    got = output_size(size, kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=True)
    assert (got,) == spec.out_spatial


@pytest.mark.parametrize("call, message", [
    (lambda: output_size(5, 7), "kernel: 7"), (lambda: output_size(5, 0), "kernel: 0"),
    (lambda: output_size(5, 3, stride=0), "stride: 0"),
    (lambda: output_size(5, 3, padding=-1), "padding: -1"),
    (lambda: output_size(5, 3, padding="SAM"), "padding: 'SAM'"), (lambda: output_size(0, 3), "size: 0"),
    (lambda: output_size(5, 3, padding=(1, 2, 3)), "padding: (1, 2, 3)"),
    (lambda: transposed_size(5, 3, output_padding=1), "output_padding: 1"),
    (lambda: input_size_for(1, 1, padding=3), "out: 1"), (lambda: padding_needed(9, 2, 3), "out: 2"),
    (lambda: receptive_field([]), "layers: none"),
])  # fmt: skip
def test_what_is_refused(call, message):
    with pytest.raises(SpecError) as caught:
        call()
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


# ---- receptive fields ----


def vgg16():
    """Its 13 convolutions and 5 poolings."""
    layers, shape = [], (1, 3, 224, 224)
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers.append(ConvSpec(shape, width, 3, padding=1, bias=True, activation="relu"))
            shape = layers[-1].output_shape
        layers.append(PoolSpec(shape, 2))
        shape = layers[-1].output_shape
    return layers


def test_vgg16():
    field = receptive_field(vgg16())
    assert [(f.size, f.jump, f.start) for f in field] == [(212, 32, Fraction(31, 2))] * 2
    assert parameters(*vgg16()) == 14_714_688
    assert multiply_adds(*vgg16()) == 15_346_630_656


def test_alexnet():
    """TF-slim's AlexNet v2, whose pool5 Araujo et al. list with a field of 195 and a stride of 32."""
    stack = [Window(11, 4), Window(3, 2), Window(5, 1, 2), Window(3, 2), *[Window(3, 1, 1)] * 3]
    assert (field_of(stack).size, field_of(stack).jump) == (163, 16)
    pool5 = field_of([*stack, Window(3, 2)])
    assert (pool5.size, pool5.jump) == (195, 32)


def test_mobilenet_v1():
    """569 million multiply-adds and 4.2 million parameters, with the classifier of 1024 to 1000."""
    layers = [ConvSpec((1, 224, 224, 3), 32, 3, stride=2, padding="SAME", layout="NHWC")]
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
                          (1024, 2), (1024, 1)):  # fmt: skip
        layers.append(depthwise(layers[-1].output_shape, 3, stride=stride, padding="SAME", layout="NHWC"))
        layers.append(pointwise(layers[-1].output_shape, width, layout="NHWC"))
    assert layers[-1].output_shape == (1, 7, 7, 1024)
    assert round((multiply_adds(*layers) + 1024 * 1000) / 1e6) == 569
    assert round((parameters(*layers) + 1024 * 1000) / 1e6, 1) == 4.2
    assert receptive_field(layers)[0].size == 315  # Araujo et al., as its jump
    assert receptive_field(layers)[0].jump == 32


WINDOWS = st.builds(Window, INTS(1, 4), INTS(1, 3), INTS(0, 2), INTS(1, 3), st.booleans())


@given(st.lists(WINDOWS, min_size=1, max_size=3))
def test_fields_are_what_an_impulse_reaches(windows):
    assume(not any(w.transposed and w.dilation > 1 for w in windows))
    assume(not any(w.transposed and w.kernel < w.stride for w in windows))  # holes among the results
    size = shape = 48
    specs = []
    for w in windows:
        try:
            specs.append(ConvSpec((size, 1, shape), 1, w.kernel, stride=w.stride, padding=w.padding,
                                  dilation=w.dilation, transposed=w.transposed))  # fmt: skip
        except SpecError:
            assume(False)
        shape = specs[-1].out_spatial[0]
    reached = np.eye(size)[:, None]  # an impulse a batch element
    for spec in specs:
        reached = conv_reference(spec, reached, np.ones(spec.weight_shape))
    spans = []
    for result in range(shape):
        inside = True  # is no padding seen, at any depth?
        for depth in range(len(windows)):
            first, last = seen_by(windows[depth:], result)
            inside &= first >= 0 and last < specs[depth].in_spatial[0]
        if inside:
            inputs = np.flatnonzero(reached[:, 0, result])
            assert (inputs[0], inputs[-1]) == seen_by(windows, result)
            spans.append((result, inputs))
    assume(len(spans) > 16)
    field = field_of(windows)
    assert field.size == max(last[-1] - last[0] + 1 for _, last in spans)
    if not any(w.transposed for w in windows):
        for result, inputs in spans:
            assert Fraction(int(inputs[0] + inputs[-1]), 2) == field.start + field.jump * result


def test_each_dim_has_a_field_of_its_own():
    spec = ConvSpec((1, 3, 9, 20), 4, (1, 5), stride=(1, 2), padding=(0, 2), dilation=(1, 2))
    high, wide = receptive_field([spec])
    assert (high.size, high.jump, high.start) == (1, 1, 0)
    assert (wide.size, wide.jump, wide.start) == (9, 2, 2)


def test_a_transposed_layer_undoes_the_jump():
    down, up = Window(4, 2, 1), Window(4, 2, 1, transposed=True)
    assert field_of([down, up]).jump == 1 and field_of([down, up]).start == 0
    assert field_of([up]).jump == Fraction(1, 2) and field_of([up]).size == 2


# ---- costs ----


@pytest.mark.parametrize("descriptor, params, macs", [
    ("conv2d:1x3x224x224:o64:k7x7:s2:p3:NCHW:float32", 9408, 118_013_952),  # ResNet's first
    ("conv2d:1x224x224x3:o64:k3x3:p1:NHWC:float32:bias", 1792, 86_704_128),  # VGG's first
    ("conv2d:1x112x112x32:o32:k3x3:p1:g32:NHWC:float32", 288, 3_612_672),  # MobileNet's first depthwise
    ("conv2d:1x8x9x9:o6:k1x1:NCHW:float32:bias:prelu", 60, 3888),
    ("tconv2d:1x100x1x1:o1024:k4x4:NCHW:float32", 1_638_400, 1_638_400),  # DCGAN's first
    ("maxpool2d:1x56x56x64:k3x3:s2:p1:NHWC:float32", 0, 0),
    ("deform2d:1x64x28x28:o64:k3x3:p1:mask:bias:NCHW:float32", 36928, 28_901_376),
])  # fmt: skip
def test_published_costs(descriptor, params, macs):
    spec = parse_spec(descriptor)
    assert parameters(spec) == params and multiply_adds(spec) == macs
    assert parameters(spec, spec) == 2 * params and multiply_adds(spec, spec) == 2 * macs


@given(INTS(1, 8), INTS(1, 8), st.tuples(INTS(1, 4), INTS(1, 4)), INTS(1, 3),
       st.sampled_from(["NCHW", "NHWC"]))
def test_separable_saving_is_exact(inputs, outputs, kernel, stride, layout):
    shape = (2, inputs, 9, 11) if layout == "NCHW" else (2, 9, 11, inputs)
    spec = ConvSpec(shape, outputs, kernel, stride=stride, padding="SAME", layout=layout)
    saving = separable_saving(spec)
    pair = saving.depthwise_macs + saving.pointwise_macs
    assert saving.ratio == Fraction(1, outputs) + Fraction(1, kernel[0] * kernel[1])
    assert saving.ratio == Fraction(pair, spec.macs)
    assert saving.ratio == Fraction(saving.separable_weights, saving.dense_weights)


def test_separable_saving_needs_a_dense_convolution():
    for text in ("conv2d:1x8x9x9:o8:k3x3:g2:NCHW:float32", "tconv2d:1x8x9x9:o8:k3x3:NCHW:float32"):
        with pytest.raises(SpecError, match="expected a convolution of one group"):
            separable_saving(ConvSpec.parse(text))


def test_a_chain_must_fit():
    first = "conv2d:1x8x9x9:o6:k3x3:NCHW:float32"
    for text, message in (
        ("conv2d:1x6x9x9:o6:k3x3:NCHW:float32",
         "layer 2: input_shape 1x6x9x9, expected 1x6x7x7 as layer 1 gives"),
        ("conv2d:1x6x7x7:o6:k3x3:NHWC:float32", "layer 2: layout NHWC, expected NCHW as layer 1 gives"),
        ("conv2d:1x6x7x7:o6:k3x3:NCHW:float64", "layer 2: dtype float64, expected float32 as layer 1 gives"),
    ):
        with pytest.raises(SpecError) as caught:
            check_chain([parse_spec(first), parse_spec(text)])
        assert str(caught.value) == message
    for pair in itertools.pairwise(vgg16()):
        check_chain(pair)
