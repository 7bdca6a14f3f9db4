"""Channels-first images of one pixel: as the channels-last ones that they are."""

from __future__ import annotations

import numpy as np
import pytest
from combined import on_preset
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx import helper
from runtime_node import onnxruntime_output
from test_dtypes import preset
from test_quantised import LEVELS, TYPES, arguments_of, check, compiled, filled

import tvmconv
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.baking import packed_weights
from tvmconv.compiler.codegen import build_kernel, scheduled, spaces
from tvmconv.compiler.ops.problem import of_pixels, problem_of
from tvmconv.formats.choice import Choice
from tvmconv.frontends.verify import random_arrays, verify
from tvmconv.schedules.machines import presets, resolve
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.reference.quantised import quantised_reference

SHAPES = [
    "conv2d:1x67x1x1:o33:k1x1:NCHW:{}:bias",
    "conv2d:7x96x1x1:o40:k1x1:NCHW:{}",
    "conv1d:5x24x1:o48:k1:g2:NCW:{}:bias:sh4",
    "conv2d:3x24x1x1:o12:k1x1:g4:NCHW:{}:bias",
    "conv3d:9x35x1x1x1:o35:k1x1x1:g35:NCDHW:{}",
    "conv2d:3x37x1x1:o29:k3x3:p1:NCHW:{}:bias",
    "conv2d:2x20x1x1:o19:k5x3:s2:p2x1:NCHW:{}",
    "conv2d:1x1x1x1:o17:k1x1:NCHW:{}:bias",
]
EACH = [filled(shape, types) for shape in SHAPES for types in TYPES]
WITH_EPILOGUES = [
    "conv2d:3x40x1x1:o24:k1x1:NCHW:uint8:bias:residual:relu",
    "conv2d:1x40x1x1:o24:k1x1:NCHW:int8:bias:clip=-2,3",
    "conv2d:2x24x1x1:o48:k1x1:g2:NCHW:uint8/int8:bias:relu6:sh4",
]


@pytest.mark.parametrize("target", [preset(name) for name in LEVELS])
def test_on_every_preset(target: str) -> None:
    module, pairs = compiled([filled(*pair) for pair in on_preset(target, LEVELS, SHAPES, TYPES)], target)
    check(module, pairs)


def test_every_type_and_epilogue() -> None:
    module, pairs = compiled(EACH + WITH_EPILOGUES)
    check(module, pairs)
    assert all(found.ok and found.tolerance == 0 for found in verify(module))


@settings(deadline=None, max_examples=6, phases=[Phase.generate])
@given(data=st.data())
def test_random_layers(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 1, 2, 5, 24]))
    i, o = (groups * data.draw(st.integers(1, 80 // groups)) for _ in range(2))
    kernel = data.draw(st.sampled_from(["k1x1", "k3x3:p1", "k3x5:s2:p1x2"]))
    shape = f"conv2d:{data.draw(st.integers(1, 20))}x{i}x1x1:o{o}:{kernel}:g{groups}:NCHW:{{}}"
    text = filled(shape + data.draw(st.sampled_from(["", ":bias"])), data.draw(st.sampled_from(TYPES)))
    module, pairs = compiled([text])
    check(module, pairs)


def test_every_strategy_of_both_forms() -> None:
    """Also by planes, as records from before may say."""
    machine, kernels = resolve("native"), {}
    for spec in map(ConvSpec.parse, EACH[::5]):
        assert {"planes"} < set(spaces(spec, machine))
        for strategy in spaces(spec, machine):
            name = f"f{len(kernels)}"
            kernels[name] = build_kernel(spec, machine, Choice(strategy, {}), f"k_{name}")
    module = Library(kernels, machine).load()
    check(module, [(function.descriptor, function) for function in module.functions.values()])


def test_weights_that_are_baked() -> None:
    """Packed by what the manifest says, which does not know of the other form."""
    machine = resolve("native")
    for spec in map(ConvSpec.parse, EACH[::6]):
        kernel = build_kernel(spec, machine, symbol="k_f")
        function = Library({"f": kernel}, machine).load()["f"]
        arrays = random_arrays(spec, arguments_of(function), "normal", 3)
        x, weights = arrays["x"], {name: array for name, array in arrays.items() if name != "x"}
        baked = Library({"f": kernel}, machine, baked={"f": packed_weights(kernel, weights)}).load()["f"]
        np.testing.assert_array_equal(baked.bind()(x), quantised_reference(spec, **arrays), str(spec))


@pytest.mark.parametrize(("x_type", "w_type"), [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")])
@pytest.mark.parametrize(("batch", "group"), [(1, 1), (6, 1), (3, 4)])
def test_against_onnxruntime(x_type: str, w_type: str, batch: int, group: int) -> None:
    rng = np.random.default_rng(batch)
    halved = 2 if (x_type, w_type) == ("uint8", "int8") else 1  # its sums of those saturate without VNNI

    def draw(dtype: str, shape: tuple[int, ...], halved: int = 1) -> np.ndarray:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min // halved, limits.max // halved + 1, shape).astype(dtype)

    feeds = {
        "x": draw(x_type, (batch, 40, 1, 1)), "xs": np.float32(0.02), "xz": np.asarray(7, x_type),
        "w": draw(w_type, (24, 40 // group, 1, 1), halved),
        "ws": rng.uniform(0.01, 0.03, 24).astype(np.float32),
        "wz": np.full(24, 120 if w_type == "uint8" else 0, w_type),
        "ys": np.float32(1 / halved), "yz": np.asarray(3, x_type),
        "b": rng.integers(-500, 500, 24).astype(np.int32),
    }  # fmt: skip
    feeds = {name: np.asarray(value) for name, value in feeds.items()}
    node = helper.make_node("QLinearConv", list(feeds), ["y"], group=group)
    (y,) = tvmconv.onnx.run_node(node, feeds)
    expected = onnxruntime_output(node, feeds)
    off = np.abs(y.astype(int) - expected.astype(int))
    # A result halfway may differ by one, for scales are multiplied in another order.
    assert len(np.unique(y)) > 8 and off.max() <= 1 and np.count_nonzero(off) <= 1


FLOATS = [
    "conv2d:7x40x1x1:o36:k1x1:NCHW:float32:bias:residual:relu",
    "conv2d:5x24x1x1:o48:k1x1:g2:NCHW:float32:sh4",
    "conv2d:9x24x1x1:o24:k1x1:g24:NCHW:float32:bias",
    "conv1d:3x37x1:o29:k1:NCW:float16:bias",
    "conv2d:4x24x1x1:o12:k1x1:g4:NCHW:float64",
]


def test_several_images_of_floats() -> None:
    module = tvmconv.compile({f"f{i}": text for i, text in enumerate(FLOATS)}).load()
    strategies = {entry["schedule"]["strategy"] for entry in module.manifest["functions"]}
    assert strategies == {"direct_last", "groups_last"}
    assert all(found.ok for found in verify(module))


@pytest.mark.parametrize(("text", "strategy"), [
    (FLOATS[1], "direct_last"), ("conv2d:30x64x1x1:o64:k1x1:NCHW:float32", "strassen"),
])  # fmt: skip
def test_weights_of_floats_that_are_baked(text: str, strategy: str) -> None:
    spec, machine, rng = ConvSpec.parse(text), resolve("native"), np.random.default_rng(0)
    kernel = build_kernel(spec, machine, Choice(strategy, {}), "k_f")
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in (spec.input_shape, spec.weight_shape))
    plain = Library({"f": kernel}, machine).load()
    assert all(found.ok for found in verify(plain))
    baked = Library({"f": kernel}, machine, baked={"f": packed_weights(kernel, {"w": w})}).load()["f"]
    np.testing.assert_allclose(baked.bind()(x), plain["f"](x, w), rtol=0, atol=1e-5)


def test_the_default() -> None:
    """Vectors hold channels, on every CPU: those of planes would hold one pixel."""
    for machine in presets():
        for text in ("conv2d:1x960x1x1:o240:k1x1:NCHW:int8", "conv2d:8x240x1x1:o960:k1x1:NCHW:uint8:bias"):
            if machine.backend == "cpu":
                assert scheduled(ConvSpec.parse(text), machine).schedule["strategy"] != "planes", machine.name


@pytest.mark.parametrize("text", [
    "conv2d:1x8x1x2:o8:k1x1:NCHW:int8", "conv2d:1x8x3x3:o8:k3x3:NCHW:int8",
    "conv2d:1x1x1x8:o8:k1x1:NHWC:int8",
])  # fmt: skip
def test_others_are_as_they_were(text: str) -> None:
    assert of_pixels(problem_of(ConvSpec.parse(text))) is None
