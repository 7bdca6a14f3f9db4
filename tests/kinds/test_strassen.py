"""Strassen's product for pointwise convolutions."""

from __future__ import annotations

import itertools
from typing import Any

import guard
import numpy as np
import pytest
from kernel_checks import check_kernels
from points import choices

import tvmconv
from tvmconv.base.errors import ArtifactError
from tvmconv.compiler import codegen
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.baking import packed_weights
from tvmconv.compiler.ops import strassen as product
from tvmconv.compiler.ops.problem import problem_of
from tvmconv.formats.choice import Choice
from tvmconv.frontends.verify import check, verify
from tvmconv.schedules.cpu import strassen
from tvmconv.schedules.machines import resolve
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.reference.floats import conv_reference
from tvmconv.tuning.measuring.runner import BASELINE, SEARCH, LocalRunner

DESCRIPTORS = (
    "conv2d:1x14x14x64:o128:k1x1:NHWC:float32:bias:relu6",
    "conv2d:1x7x7x136:o72:k1x1:NHWC:float32:bias:residual:relu",  # an odd number of pixels, tails of channels
    "conv2d:3x5x9x44:o100:k1x1:NHWC:float32:silu",
    "conv2d:1x1x1x32:o64:k1x1:NHWC:float32:bias",  # one pixel of a set
    "conv1d:1x3x8:o12:k1:NWC:float32",
    "conv2d:1x6x11x96:o48:k1x1:g3:NHWC:float32:bias:prelu",
    "conv2d:1x8x5x48:o96:k1x1:NHWC:float32:sh4:bias",
    "conv2d:1x8x5x24:o24:k1x1:g2:NHWC:float32:sh3:residual",
    "conv3d:1x3x4x5x16:o40:k1x1x1:NDHWC:float32:hard_swish",
    "conv2d:2x4x4x10:o6:k1x1:NHWC:float32",  # one level only
)
ELSEWHERE = (
    "conv2d:1x8x8x32:o32:k1x1:s2:NHWC:float32", "conv2d:1x8x8x32:o32:k1x1:p1:NHWC:float32",
    "conv2d:1x8x8x33:o32:k1x1:NHWC:float32", "conv2d:1x8x8x32:o33:k1x1:NHWC:float32",
    "conv2d:1x32x8x8:o32:k1x1:NCHW:float32", "conv2d:1x8x8x32:o32:k1x1:NHWC:float64",
    "conv2d:1x8x8x32:o32:k3x3:p1:NHWC:float32",
)  # fmt: skip


@pytest.mark.parametrize("target", ["native", "x86-64-v3"])
def test_it_computes_the_convolution(target: str) -> None:
    """Every value against the reference, with guard pages beside each buffer."""
    machine, kernels = resolve(target), {}
    for descriptor in DESCRIPTORS:
        descriptor += ":strassen"
        found = choices(descriptor, machine, strassen, 2 if target == "native" else 1)
        problem = problem_of(ConvSpec.parse(descriptor))
        deepest = max(levels for levels in product.LEVELS if product.fits(problem, levels))
        for choice in (*found, Choice(strassen.STRATEGY, {"levels": deepest})):
            name = f"f{len(kernels)}"
            kernels[name] = codegen.build_kernel(ConvSpec.parse(descriptor), machine, choice, f"k_{name}")
            assert kernels[name].schedule["algorithm"] == "strassen"
    levels = {kernel.schedule["point"]["levels"] for kernel in kernels.values()}
    assert levels == {1, 2}
    try:
        library = Library(kernels, machine).load()
    except ArtifactError as error:
        pytest.skip(str(error))
    descriptors = {name: kernel.descriptor for name, kernel in kernels.items()}
    guard.in_child(check_kernels, str(library.path), descriptors)


@pytest.mark.parametrize("levels", [1, 2])
def test_few_products_give_that_of_matrices(levels: int) -> None:
    """Of any elements: what each pair of theirs contributes to each of the product is 1 where the definition
    has it, else 0."""
    own, size = product.transform(levels), 2**levels
    x, w, y = (np.array(m) for m in (own.input, own.weight, own.output))
    found = np.einsum("ys,sx,sw->yxw", y, x, w)

    def at(row: int, column: int) -> int:  # numbered level by level
        pairs = [(row >> i & 1) * 2 + (column >> i & 1) for i in range(levels)]
        return sum(pair * 4**i for i, pair in enumerate(pairs))

    expected = np.zeros_like(found)
    for row, k, column in itertools.product(range(size), repeat=3):
        expected[at(row, column), at(row, k), at(k, column)] = 1
    np.testing.assert_array_equal(found, expected)
    assert own.products == 7**levels


def test_errors_are_as_small_as_stated() -> None:
    """Small integers are exact; other sums within 2e-6 of the largest sum of |x * w|: so say the docs."""
    machine, rng, kernels = resolve("native"), np.random.default_rng(0), {}
    for levels in (1, 2):
        spec = ConvSpec.parse("conv2d:1x14x14x512:o256:k1x1:NHWC:float32")
        choice = Choice(strassen.STRATEGY, {"levels": levels})
        kernels[f"f{levels}"] = codegen.build_kernel(spec, machine, choice, f"k_{levels}")
    library = Library(kernels, machine).load()
    for name in kernels:
        x, w = (rng.integers(-64, 65, s).astype(np.float32) for s in (spec.input_shape, spec.weight_shape))
        np.testing.assert_array_equal(library[name](x, w), conv_reference(spec, x, w))
        for scale in (1.0, 1e-3):  # of some of the channels
            x, w = (rng.standard_normal(s, np.float32) for s in (spec.input_shape, spec.weight_shape))
            x[..., ::3] *= scale
            error = np.abs(library[name](x, w) - conv_reference(spec, x, w)).max()
            assert error <= 2e-6 * conv_reference(spec, np.abs(x), np.abs(w)).max()


def test_weights_are_packed_alike_in_numpy() -> None:
    machine, rng = resolve("native"), np.random.default_rng(0)
    for descriptor, point in (
        (DESCRIPTORS[1], {"levels": 2, "block": 16}), (DESCRIPTORS[6], {"levels": 1}), (DESCRIPTORS[5], {}),
    ):  # fmt: skip
        choice = Choice(strassen.STRATEGY, point)
        kernel = codegen.build_kernel(ConvSpec.parse(descriptor + ":strassen"), machine, choice, "k")
        arrays = {a.name: rng.standard_normal(a.shape, np.float32) for a in kernel.weights}
        library = Library({"f": kernel}, machine).load()
        blob = packed_weights(kernel, arrays)
        others = [rng.standard_normal(a.shape, np.float32) for a in library["f"].arguments[:1]]
        expected = library["f"].bind(*arrays.values())(*others) if "residual" not in descriptor else None
        baked = Library({"f": kernel}, machine, baked={"f": blob}).load()
        assert len(blob) == kernel.packed_bytes
        if expected is not None:
            np.testing.assert_allclose(baked["f"](*others), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("descriptor", ELSEWHERE)
def test_what_it_is_not_for(descriptor: str) -> None:
    assert strassen.STRATEGY not in codegen.spaces(tvmconv.ConvSpec.parse(descriptor), resolve("x86-64-v4"))
    with pytest.raises(tvmconv.SpecError, match="algorithm: 'strassen', expected one that fits"):
        tvmconv.ConvSpec.parse(descriptor + ":strassen")


@pytest.mark.parametrize(
    ("point", "said"),
    [({"levels": 3}, "levels: 3, expected 1 or 2"), ({"levels": 0}, "levels: 0"),
     ({"block": 12}, "block: 12"),
     ({"levels": 1, "step": 99}, "step: 99, expected 1 to 98"), ({"step": 0}, "step: 0"),
     ({"levels": 2, "step": 7, "steps": 8}, "steps: 8, expected 1 to 7"),
     ({"levels": 2, "step": 9, "block": 16}, "18 vectors of sums to fit 16 registers")],
)  # fmt: skip
def test_points_that_do_not_fit(point: dict, said: str) -> None:
    spec = ConvSpec.parse(DESCRIPTORS[0])
    with pytest.raises(ValueError, match=said):
        codegen.scheduled(spec, resolve("x86-64-v3"), Choice(strassen.STRATEGY, point))


def test_it_is_the_default_of_deep_layers_of_many_pixels() -> None:
    """But with AVX2, or additions on the ports of multiply-adds, where it was slower."""
    default = {
        "conv2d:1x28x28x256:o512:k1x1:NHWC:float32": True, "conv2d:1x14x14x512:o512:k1x1:NHWC:float32": True,
        "conv2d:1x56x56x512:o512:k1x1:NHWC:float32": True,
        "conv2d:1x40x40x512:o128:k1x1:NHWC:float32": False,  # sums of a large x for few channels
        "conv2d:1x56x56x32:o32:k1x1:NHWC:float32": False,  # additions cost more than they save
        "conv2d:1x7x7x512:o512:k1x1:NHWC:float32": False,  # many more weights for few pixels
    }  # fmt: skip
    for descriptor, chosen in default.items():
        for target in ("x86-64-v3", "x86-64-v4", "znver5", "sapphirerapids"):
            made = codegen.scheduled(ConvSpec.parse(descriptor), resolve(target)).schedule
            pays = chosen and target == "znver5"
            assert (made["strategy"] == strassen.STRATEGY) == pays, f"{descriptor} {target}"
            direct = codegen.scheduled(ConvSpec.parse(descriptor + ":direct"), resolve(target)).schedule
            assert direct["strategy"] != strassen.STRATEGY


def test_clipped_results_err_as_the_largest_sums_do() -> None:
    """A block's products are in several of its results, also in those that a clip makes small."""
    spec = ConvSpec.parse("conv2d:1x28x28x128:o512:k1x1:NHWC:float32:bias:relu6")
    machine, choice = resolve("x86-64-v3"), Choice("strassen", {"levels": 2})
    kernel = codegen.build_kernel(spec, machine, choice, "k_clipped")
    module = Library({"clipped": kernel}, machine).load()
    normal, integer = verify(module)
    assert normal.ok and integer.ok, (normal, integer)
    assert integer.max_abs == 0 < normal.max_abs and normal.tolerance < 1e-5
    runner = LocalRunner(machine, 1)  # the tuner's check, which has facts of the schedule alone
    try:
        (measured,) = runner.measure({BASELINE: kernel}, [BASELINE], SEARCH)
    finally:
        runner.stop()
    assert not measured.error
    facts = codegen.scheduled(spec, machine, Choice("direct_last", {})).schedule
    assert kernel.schedule["combines"] and "combines" not in facts
    wrong = check(SlightlyWrong(module["clipped"]), module.manifest["functions"][0], "normal")
    assert (wrong.wrong, wrong.worst) == (1, (0, 3, 4, 5))


class SlightlyWrong:
    """A function of which one result is off by little."""

    def __init__(self, function: tvmconv.runtime.Function) -> None:
        self.function = function

    def bind(self, *weights: np.ndarray) -> Any:
        def call(x: np.ndarray, out: np.ndarray) -> None:
            self.function.bind(*weights)(x, out=out)
            out[0, 3, 4, 5] += 2e-3

        return call
