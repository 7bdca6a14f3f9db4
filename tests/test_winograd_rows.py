"""Winograd's algorithm along the rows of depthwise convolutions, which tuned records may choose."""

from __future__ import annotations

import random

import guard
import numpy as np
import pytest
from kernel_checks import check_kernels

import tvmconv
from tvmconv import codegen
from tvmconv.artifact.baking import packed_weights
from tvmconv.artifact.library import Library
from tvmconv.errors import ArtifactError
from tvmconv.schedules.cpu import winograd_rows
from tvmconv.schedules.machines import resolve
from tvmconv.schedules.plan import Choice
from tvmconv.spec import ConvSpec

DEPTHWISE = (
    "conv2d:1x14x14x32:o32:k3x3:p1:g32:NHWC:float32:bias:relu6",
    "conv2d:2x7x9x51:o51:k3x3:p1:g51:NHWC:float32",  # odd widths, a tail of channels, a batch
    "conv2d:1x1x2x17:o17:k3x3:p1:g17:NHWC:float32:bias:residual:relu",
    "conv2d:1x3x4x16:o16:k3x3:g16:NHWC:float32",  # a single pair
    "conv2d:1x13x10x40:o40:k5x3:p2+1x0+2:g40:NHWC:float32:silu",
    "conv2d:1x9x33x20:o20:k1x3:p0x1:g20:NHWC:float32",
    "conv2d:1x15x12x24:o24:k3x3:s2x1:p1:g24:NHWC:float32:bias",
    "conv2d:1x16x8x64:o64:k3x3:d3x1:p3x1:g64:NHWC:float32",
    "conv2d:1x6x6x12:o12:k3x3:p9x8:g12:NHWC:float32",  # padding wider than the image
    "conv2d:1x8x7x24:o24:k3x3:p1:g24:NHWC:float32:sh3:bias:prelu",
)
OTHERS = (
    "conv2d:1x14x14x32:o32:k3x3:s2:p1:g32:NHWC:float32", "conv2d:1x14x14x32:o64:k3x3:p1:g32:NHWC:float32",
    "conv2d:1x14x14x32:o32:k3x5:p1:g32:NHWC:float32", "conv2d:1x32x14x14:o32:k3x3:p1:g32:NCHW:float32",
    "conv2d:1x14x14x32:o32:k3x3:d1x2:g32:NHWC:float32", "conv2d:1x14x14x32:o32:k3x3:p1:g32:NHWC:float64",
    "conv2d:1x3x3x32:o32:k3x3:g32:NHWC:float32", "conv2d:1x14x14x32:o32:k3x3:p1:g32:NHWC:float32:direct",
)  # fmt: skip


def choices(descriptor: str, machine) -> list[Choice]:
    """The default point and one more."""
    spec, rng = ConvSpec.parse(descriptor), random.Random(descriptor)
    space = codegen.spaces(spec, machine)[winograd_rows.STRATEGY]
    return [Choice(winograd_rows.STRATEGY, point)
            for point in ({}, {knob: rng.choice(values) for knob, values in space.items()})]


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
def test_it_computes_the_convolution(target: str) -> None:
    """Every value against the reference, with guard pages beside each buffer."""
    machine, kernels = resolve(target), {}
    for descriptor in DEPTHWISE:
        for choice in choices(descriptor, machine):
            name = f"f{len(kernels)}"
            kernels[name] = codegen.build_kernel(ConvSpec.parse(descriptor), machine, choice, f"k_{name}")
            assert kernels[name].schedule["algorithm"] == "winograd_rows"
    try:
        library = Library(kernels, machine).load()
    except ArtifactError as error:
        pytest.skip(str(error))
    descriptors = {name: kernel.descriptor for name, kernel in kernels.items()}
    guard.in_child(check_kernels, str(library.path), descriptors)


def test_weights_are_packed_alike_in_numpy() -> None:
    machine, rng = resolve("native"), np.random.default_rng(0)
    choice = choices(DEPTHWISE[1], machine)[0]
    kernel = codegen.build_kernel(ConvSpec.parse(DEPTHWISE[1]), machine, choice, "k")
    w = rng.standard_normal(kernel.weights[0].shape, np.float32)
    library = Library({"f": kernel}, machine).load()
    blob = packed_weights(kernel, {"w": w})
    x = rng.standard_normal(library["f"].arguments[0].shape, np.float32)
    expected = library["f"](x, w)
    baked = Library({"f": kernel}, machine, baked={"f": blob}).load()
    np.testing.assert_allclose(baked["f"](x), expected, rtol=0, atol=1e-5)
    assert len(blob) == kernel.packed_bytes


@pytest.mark.parametrize("descriptor", OTHERS)
def test_what_it_is_no_rival_for(descriptor: str) -> None:
    spaces = codegen.spaces(tvmconv.ConvSpec.parse(descriptor), resolve("x86-64-v4"))
    assert winograd_rows.STRATEGY not in spaces


@pytest.mark.parametrize(
    ("point", "said"),
    [({"rows": 9}, "rows: 9, expected 1 to 8"), ({"rows": 0}, "rows: 0"), ({"block": 5}, "block: 5"),
     ({"order": "up"}, "order: 'up', expected rows or channels")],
)  # fmt: skip
def test_points_that_do_not_fit(point: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        codegen.scheduled(ConvSpec.parse(DEPTHWISE[0]), resolve("x86-64-v4"), Choice("winograd_rows", point))
