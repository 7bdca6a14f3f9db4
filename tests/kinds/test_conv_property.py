"""Random convolutions through the whole pipeline: right values, and not one element outside of a buffer.

An example is a list of specs, compiled into one library and checked in a child process, which names the case
that failed or crashed.
"""

from dataclasses import replace

import guard
import numpy as np
import pytest
from checking import random_arrays
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kernel_checks import check_guarded_only, check_kernels
from strategies import specs

import tvmconv
from tvmconv.base.errors import ArtifactError, SpecError
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.shorthand import depthwise, pointwise

# What random drawing would meet too rarely; one spec for each.
CORNERS = [
    ConvSpec((1, 1, 1, 1), 1, 1, layout="NHWC"),
    ConvSpec((2, 3, 1, 1), 5, 3, padding=1, bias=True, activation="relu"),
    ConvSpec((1, 5, 5, 7), 11, 5, stride=7, padding=1, layout="NHWC"),
    ConvSpec((1, 13, 13, 3), 8, 2, stride=5, layout="NHWC", bias=True),
    depthwise((1, 9, 33, 31), 3, padding=((0, 2), (3, 0)), layout="NHWC", bias=True, activation="relu6"),
    depthwise((1, 31, 9, 33), 3, padding=((2, 0), (0, 3)), bias=True, activation="relu6"),
    depthwise((2, 1, 1, 67), 3, padding=1, layout="NHWC"),
    depthwise((3, 17, 2, 5), (1, 5), multiplier=3, padding=(0, 2), dilation=(1, 2), layout="NCHW"),
    depthwise((1, 7, 7, 24), 5, padding="SAME", stride=2, dilation=1, layout="NHWC", activation="hard_swish"),
    pointwise((1, 7, 5, 97), 89, layout="NHWC", bias=True, activation="relu"),
    pointwise((3, 97, 5, 7), 89, bias=True, activation="hard_swish"),
    pointwise((1, 15, 1, 16), 33, layout="NHWC", stride=2),
    ConvSpec((1, 14, 15, 29), 31, 3, padding="SAME", layout="NHWC", stride=2, bias=True),
    ConvSpec((2, 6, 7, 35), 21, 3, padding=2, dilation=2, groups=7, layout="NHWC"),
    ConvSpec((1, 35, 6, 7), 21, (1, 4), padding="FULL", groups=7, bias=True, activation="clip=-0.1,0.1"),
    # Wide enough for Winograd's algorithm, with odd sizes; grouped and asymmetrically padded too.
    ConvSpec((1, 13, 14, 17), 37, 3, padding=1, layout="NHWC", bias=True, activation="relu6"),
    ConvSpec((2, 9, 12, 38), 66, 3, padding=((0, 2), (1, 0)), layout="NHWC", groups=2),
    # By Winograd's algorithm with a dilation: images of unlike sizes, tiles that hang over.
    ConvSpec((1, 17, 20, 19), 37, 3, padding=(2, 3), dilation=(2, 3), layout="NHWC", bias=True, residual=True,
             activation="relu", algorithm="winograd"),
    ConvSpec((2, 38, 11, 12), 34, 3, padding=((0, 9), (3, 1)), dilation=(5, 2), groups=2, bias=True,
             algorithm="winograd"),
    pointwise((2, 7, 5, 44), 36, layout="NHWC", bias=True, residual=True, activation="relu",
              algorithm="strassen"),
    ConvSpec((1, 37, 5), 19, 4, padding=((3, 0),), layout="NWC", bias=True),
    ConvSpec((1, 5, 300), 3, 65, stride=3, dilation=2),
    ConvSpec((1, 3, 4, 5, 6), 8, (1, 2, 3), padding=((0, 0), (1, 0), (0, 2)), layout="NDHWC", groups=2),
    ConvSpec((1, 6, 3, 4, 5), 7, 3, padding="SAME", bias=True),
    # Dims that the kernel does not reach along: next to the batch, to one another, and between others.
    ConvSpec((2, 3, 7, 6, 5), 8, (1, 3, 2), padding=(0, 1, 1), layout="NDHWC", bias=True, residual=True),
    ConvSpec((2, 7, 3, 6, 5), 20, (3, 1, 1), padding=(1, 0, 0), layout="NDHWC", activation="prelu"),
    ConvSpec((2, 5, 7, 3, 6), 20, (3, 1, 1), padding=(1, 0, 0), residual=True),
    ConvSpec((1, 5, 3, 7, 6), 9, (1, 1, 3), padding=(0, 0, 1), bias=True),
    ConvSpec((1, 5, 3, 7, 6), 9, (3, 1, 3), groups=1, padding=(1, 0, 1), layout="NDHWC"),
    ConvSpec((1, 2, 3, 4), 6, (2, 3), padding=((10, 0), (0, 9)), layout="NHWC", groups=2, bias=True),
    # A residual and slopes, beside tiles of every kind.
    pointwise((1, 7, 5, 97), 89, layout="NHWC", bias=True, residual=True, activation="relu"),
    pointwise((3, 31, 5, 7), 29, bias=True, residual=True, activation="prelu"),
    depthwise((1, 9, 33, 31), 3, padding=1, layout="NHWC", bias=True, residual=True, activation="prelu"),
    depthwise((2, 13, 9, 33), 3, padding=1, residual=True, activation="silu"),
    ConvSpec((1, 13, 14, 17), 37, 3, padding=1, layout="NHWC", residual=True, activation="prelu"),
    ConvSpec((1, 14, 15, 29), 31, 5, padding=2, layout="NHWC", stride=2, residual=True, activation="gelu"),
    ConvSpec((2, 6, 7, 35), 21, 3, padding=2, dilation=2, groups=7, layout="NHWC", activation="prelu"),
    ConvSpec((1, 13, 14, 17), 19, 3, padding=1, residual=True),
    # A shuffle: of the weights alone, of runs, of single channels, across groups that it does not fit.
    pointwise((1, 7, 5, 97), 90, layout="NHWC", bias=True, residual=True, activation="prelu", shuffle=3),
    pointwise((1, 7, 5, 40), 96, groups=2, layout="NHWC", bias=True, activation="prelu", shuffle=32),
    pointwise((1, 7, 5, 48), 96, groups=3, layout="NHWC", bias=True, residual=True, shuffle=3),
    pointwise((1, 7, 5, 48), 144, groups=2, layout="NHWC", activation="prelu", shuffle=2),
    pointwise((2, 13, 5, 60), 80, groups=4, layout="NHWC", bias=True, residual=True, shuffle=2),
    pointwise((2, 13, 5, 60), 40, groups=4, layout="NHWC", bias=True, activation="relu", shuffle=5),
    pointwise((1, 48, 5, 7), 96, groups=3, bias=True, residual=True, activation="prelu", shuffle=3),
    depthwise((1, 9, 33, 40), 3, padding=1, layout="NHWC", residual=True, activation="prelu", shuffle=4),
    depthwise((1, 40, 9, 33), 3, padding=1, bias=True, residual=True, activation="prelu", shuffle=2),
    ConvSpec((1, 14, 15, 40), 24, 3, padding=1, groups=2, layout="NHWC", bias=True, shuffle=4),
    ConvSpec((1, 40, 14, 15), 24, 3, padding=1, bias=True, activation="prelu", shuffle=4),
    ConvSpec((1, 16, 13, 13), 32, 5, padding=2, groups=2, residual=True, shuffle=2, algorithm="im2col"),
]


def compiled(list_of_specs, target="native"):
    """A loaded library of the specs, and [(spec, function)]."""
    named = {f"f{i}": spec for i, spec in enumerate(list_of_specs)}
    module = tvmconv.compile(named, target).load()
    return module, [(spec, module[name]) for name, spec in named.items()]


@pytest.fixture(scope="module")
def corners():
    return compiled(CORNERS)


def check_all(module, functions):
    descriptors = {function.name: function.descriptor for function in functions}
    guard.in_child(check_kernels, str(module.path), descriptors)


# No shrinking: it would compile for minutes, and the failing spec is named as it is.
@settings(max_examples=5, phases=[Phase.explicit, Phase.generate])
@given(st.lists(specs(transposed=False).map(str), min_size=12, max_size=12, unique=True))
def test_random_specs(descriptors):
    module, pairs = compiled(map(ConvSpec.parse, descriptors))
    check_all(module, [function for _, function in pairs])


def test_corners(corners):
    module, pairs = corners
    check_all(module, [function for _, function in pairs])


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3"])
def test_corners_with_narrower_vectors(target):
    """What a newer machine runs too, with other register tiles and remainders: on each every second one."""
    try:
        module, pairs = compiled(CORNERS[target == "x86-64-v3" :: 2], target)
    except ArtifactError as error:
        pytest.skip(str(error))
    check_all(module, [function for _, function in pairs])


def test_guard_sees_a_kernel_that_reads_too_far(corners):
    module, pairs = corners
    spec, function = next((s, f) for s, f in pairs if s.kind == "depthwise" and s.channels_last)
    batch, height, width, channels = spec.input_shape
    narrower = replace(spec, input_shape=(batch, height, width - 1, channels))
    with pytest.raises(AssertionError, match="died of SIG"):
        guard.in_child(check_guarded_only, str(module.path), {function.name: str(narrower)})


@pytest.mark.parametrize("misaligned", ["x", "w", "bias", "out"])
@pytest.mark.parametrize("offset", [1, 2, 63])
def test_misaligned_data_raise(misaligned, offset, corners):
    spec, function = next((s, f) for s, f in corners[1] if s.bias)
    x, w, bias = random_arrays(spec)
    arrays = {"x": x, "w": w, "bias": bias, "out": np.full(spec.output_shape, 7, np.float32)}
    arrays[misaligned] = guard.aligned_copy(arrays[misaligned], offset=offset)
    with pytest.raises(SpecError, match=misaligned) as caught:
        function.bind(arrays["w"], arrays["bias"])(arrays["x"], out=arrays["out"])
    assert "expected a multiple of 4" in str(caught.value) and "\n" not in str(caught.value)
    assert (arrays["out"] == 7).all(), "refused before native code ran"


def test_batch_zero():
    spec = ConvSpec((0, 8, 9, 3), 4, 3, layout="NHWC", bias=True)
    _, [(_, function)] = compiled([spec])
    x, w, bias = random_arrays(spec)
    assert function(x, w, bias).shape == (0, 6, 7, 4)
    assert tvmconv.conv(x, w, bias, layout="NHWC").shape == (0, 6, 7, 4)
