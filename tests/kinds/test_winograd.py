"""Winograd's algorithm: by tiles, and along the rows of depthwise convolutions."""

from __future__ import annotations

import guard
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kernel_checks import check_kernels
from points import choices

import tvmconv
from tvmconv.base.errors import ArtifactError
from tvmconv.compiler import codegen
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.baking import packed_weights
from tvmconv.compiler.ops.toom_cook import transform
from tvmconv.compiler.ops.winograd import sides
from tvmconv.formats.choice import Choice
from tvmconv.frontends.verify import verify
from tvmconv.schedules.cpu import winograd_rows, winograd_tiles
from tvmconv.schedules.machines import resolve
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.reference.floats import conv_reference

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
TILED = (
    "conv2d:1x14x14x64:o64:k3x3:p1:g4:NHWC:float32:bias:relu6",
    "conv2d:2x9x10x32:o32:k3x3:p1:g8:NHWC:float32:bias:residual:relu",  # several groups to a vector
    "conv2d:1x12x7x24:o48:k3x3:p1:g12:NHWC:float32",  # so too, with more outputs than inputs
    "conv2d:1x13x12x24:o12:k3x3:p2+0x0+1:g3:NHWC:float32:silu",  # as many groups as do not fill vectors
    "conv2d:1x17x20x19:o37:k3x3:d2x3:p2x3:NHWC:float32:bias:prelu",
    "conv2d:1x15x16x20:o20:k3x3:s2:p1:NHWC:float32",
    "conv2d:1x64x9x12:o64:k3x3:s2x1:d1x2:p1x2:g8:NCHW:float32:bias",
    "conv2d:1x33x11x13:o17:k3x3:p1:NCHW:float32:bias:residual:hard_swish",
    "conv2d:3x1x1x16:o16:k3x3:p1:NHWC:float32",
    "conv2d:1x2x3x8:o40:k3x3:p9x8:NHWC:float32",  # padding wider than the image
    "conv2d:1x8x7x48:o48:k3x3:p1:g2:NHWC:float32:sh3:bias",
    "conv2d:1x13x15x3:o24:k7x6:s2:p3x2:NHWC:float32:bias:relu",
    "conv2d:1x11x10x16:o16:k5x2:p2x1:g4:NHWC:float32",
    "conv2d:1x19x9x10:o9:k10x4:s2x1:p0x1:NHWC:float32",
)
OTHERS = (
    "conv2d:1x14x14x32:o32:k3x3:s2:p1:g32:NHWC:float32", "conv2d:1x14x14x32:o64:k3x3:p1:g32:NHWC:float32",
    "conv2d:1x14x14x32:o32:k3x5:p1:g32:NHWC:float32", "conv2d:1x32x14x14:o32:k3x3:p1:g32:NCHW:float32",
    "conv2d:1x14x14x32:o32:k3x3:d1x2:g32:NHWC:float32", "conv2d:1x14x14x32:o32:k3x3:p1:g32:NHWC:float64",
    "conv2d:1x3x3x32:o32:k3x3:g32:NHWC:float32", "conv2d:1x14x14x32:o32:k3x3:p1:g32:NHWC:float32:direct",
)  # fmt: skip


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
@pytest.mark.parametrize("strategy", [winograd_rows, winograd_tiles], ids=lambda module: module.STRATEGY)
def test_it_computes_the_convolution(strategy, target: str) -> None:
    """Every value against the reference, with guard pages beside each buffer."""
    machine, kernels = resolve(target), {}
    for descriptor in DEPTHWISE if strategy is winograd_rows else TILED:
        if strategy is winograd_tiles:
            descriptor += ":winograd"  # which no other strategy is a rival for, small as it may be
        for choice in choices(descriptor, machine, strategy, 3 if target == "native" else 1):
            name = f"f{len(kernels)}"
            kernels[name] = codegen.build_kernel(ConvSpec.parse(descriptor), machine, choice, f"k_{name}")
            assert kernels[name].schedule["algorithm"].startswith("winograd")
    try:
        library = Library(kernels, machine).load()
    except ArtifactError as error:
        pytest.skip(str(error))
    descriptors = {name: kernel.descriptor for name, kernel in kernels.items()}
    guard.in_child(check_kernels, str(library.path), descriptors)


@hypothesis.given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.randoms())
def test_few_multiplications_give_the_correlation(outputs: int, taps: int, stride: int, rng) -> None:
    hypothesis.assume(outputs + -(-taps // stride) <= 7)  # beyond what there are points for
    found = transform(outputs, taps, stride)
    b, g, a = (np.array(m) for m in (found.input, found.weight, found.output))
    d, w = (np.array([rng.randint(-8, 8) for _ in range(size)]) for size in (found.reach(1), taps))
    y = [np.dot(d[o * stride : o * stride + taps], w) for o in range(outputs)]
    np.testing.assert_allclose(a @ ((g @ w) * (b @ d)), y, rtol=0, atol=1e-9)
    if found.exact:
        single = [m.astype(np.float32) for m in (a, g, w, b, d)]
        np.testing.assert_array_equal(single[0] @ ((single[1] @ single[2]) * (single[3] @ single[4])), y)


def test_small_integers_are_as_near_as_stated() -> None:
    """Exact by tiles that say so, else within 2e-6 of the largest sum of |x * w|: so says the README."""
    machine, kernels = resolve("native"), {}
    for taps, stride in ((2, 1), (3, 1), (5, 1), (3, 2), (5, 2), (7, 2)):
        for side in sides(taps, stride):
            spec = ConvSpec.parse(f"conv2d:1x15x15x16:o8:k{taps}x{taps}:s{stride}:NHWC:float32:winograd")
            choice = Choice(winograd_tiles.STRATEGY, {"tall": side, "wide": side})
            name = f"f{len(kernels)}"
            kernels[name] = codegen.build_kernel(spec, machine, choice, f"k_{name}")
    library, rng, inexact = Library(kernels, machine).load(), np.random.default_rng(0), 0
    for name, kernel in kernels.items():
        spec, exact = ConvSpec.parse(kernel.descriptor), kernel.schedule["exact"]
        for least, most in ((-8, 8), (0, 3), (-1, 1), (-128, 127)):
            x, w = (rng.integers(least, most + 1, s).astype(np.float32) for s in
                    (spec.input_shape, spec.weight_shape))  # fmt: skip
            error = np.abs(library[name](x, w) - conv_reference(spec, x, w)).max()
            size = conv_reference(spec, np.abs(x), np.abs(w)).max()
            assert error <= (0 if exact else 2e-6 * size), f"{spec}: {kernel.schedule['point']}"
            inexact += error > 0
    assert inexact  # or the README could say that all are exact


def test_short_sums_are_no_wrong_ones() -> None:
    """What tiles with inexact factors err by does not shrink with the sums."""
    machine, kernels = resolve("native"), {}
    for number, (kernel, side) in enumerate(((2, 4), (3, 4), (4, 2))):
        spec = ConvSpec.parse(f"conv2d:1x33x33x1:o32:k{kernel}x{kernel}:NHWC:float32:winograd")
        choice = Choice(winograd_tiles.STRATEGY, {"tall": side, "wide": side})
        kernels[f"f{number}"] = codegen.build_kernel(spec, machine, choice, f"k_f{number}")
        assert not kernels[f"f{number}"].schedule["exact"]
    module = Library(kernels, machine).load()
    for seed in range(30):
        for found in verify(module, seed=seed):
            assert found.ok and found.tolerance < 4e-6, found


def test_how_many_multiplications() -> None:
    counts = {(2, 3, 1): 4, (4, 3, 1): 6, (2, 3, 2): 5, (3, 3, 2): 7, (3, 1, 1): 3}
    assert {key: transform(*key).products for key in counts} == counts


def test_weights_are_packed_alike_in_numpy() -> None:
    machine, rng = resolve("native"), np.random.default_rng(0)
    choice = Choice(winograd_rows.STRATEGY, {})
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
    ("strategy", "point", "said"),
    [("winograd_rows", {"rows": 9}, "rows: 9, expected 1 to 8"), ("winograd_rows", {"rows": 0}, "rows: 0"),
     ("winograd_rows", {"block": 5}, "block: 5"),
     ("winograd_rows", {"order": "up"}, "order: 'up', expected rows or channels"),
     ("winograd_tiles", {"tall": 3}, "tall: 3, expected 2 or 4"),
     ("winograd_tiles", {"lines": 5, "tall": 4}, "lines: 5, expected 1 to 4"),
     ("winograd_tiles", {"step": 8}, "step: 8, expected 1 to 7"),  # of tiles of 2 columns, as before `wide`
     ("winograd_tiles", {"block": 12}, "block: 12"),
     ("winograd_tiles", {"tall": 2, "lines": 7, "step": 4}, "56 vectors of sums to fit 16 registers")],
)  # fmt: skip
def test_points_that_do_not_fit(strategy: str, point: dict, said: str) -> None:
    descriptor = DEPTHWISE[0] if strategy == "winograd_rows" else TILED[0] + ":winograd"
    with pytest.raises(ValueError, match=said):
        codegen.scheduled(ConvSpec.parse(descriptor), resolve("x86-64-v3"), Choice(strategy, point))


def test_clipped_sums_err_as_large_ones() -> None:
    """Results of a tile err alike, those that a clip makes small as well: `verify` allows for the largest."""
    spec = ConvSpec.parse("conv2d:1x256x28x28:o256:k3x3:p1:g8:NCHW:float32:relu6")
    machine, choice = resolve("x86-64-v3"), Choice("winograd_tiles", {"tall": 4, "wide": 4})
    kernel = codegen.build_kernel(spec, machine, choice, "k_clipped")
    checks = list(verify(Library({"clipped": kernel}, machine).load()))
    assert len(checks) == 2 and all(check.ok for check in checks), checks
    assert all(check.tolerance < 1e-5 and check.max_abs > 0 for check in checks)
