"""8-bit integers: ConvInteger and QLinearConv, exact on every x86 preset, by every strategy."""

import ctypes
import dataclasses
import re

import guard
import numpy as np
import onnx_cases
import pytest
from combined import on_preset
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kernel_checks import _call
from onnx import helper
from runtime_node import onnxruntime_output
from strategies import ACTIVATIONS, specs
from test_dtypes import LEVELS as X86_LEVELS
from test_dtypes import preset

import tvmconv
from tvmconv.base.errors import SpecError
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.codegen import build_kernel, kernel
from tvmconv.compiler.lower import lower_cpu
from tvmconv.formats.choice import Choice
from tvmconv.frontends.verify import random_arrays, verify
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import resolve
from tvmconv.specs.activations import clamp_of
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.reference.quantised import quantised_reference

LEVELS = (*X86_LEVELS, "x86-64-v4-vnni")
PRESETS = [preset(name) for name in LEVELS]
TYPES = (
    "int8/int32", "uint8/int32", "int8", "uint8", "uint8/int8", "int8/uint8:wuint8", "uint8/int32:wuint8",
)  # fmt: skip
SHAPES = [
    "conv2d:1x13x15x37:o29:k3x3:p1:NHWC:{}:bias",
    "conv2d:2x7x5x67:o33:k1x1:NHWC:{}",
    "conv2d:1x14x9x35:o35:k3x3:s2:p0+1x0+1:g35:NHWC:{}:bias",
    "conv2d:1x8x9x24:o12:k3x3:p1:g4:NHWC:{}",
    "conv2d:1x7x6x24:o48:k1x1:g2:NHWC:{}:bias:sh4",
    "conv2d:1x6x11x40:o20:k3x3:s2:p1:g10:NHWC:{}:bias",
    "conv2d:1x9x14x21:o17:k3x3:p1:d2:NCHW:{}:bias",
    "conv2d:1x35x9x14:o35:k3x3:p1:g35:NCHW:{}",
    "conv2d:2x19x5x7:o23:k1x1:NCHW:{}:bias",
    "conv1d:1x70x5:o9:k5:s2:p2:NWC:{}:bias",
    "conv3d:1x4x5x6x3:o8:k2x3x3:p1:NDHWC:{}",
]


def filled(shape, types):
    dtypes, _, weights = types.partition(":")
    return shape.format(dtypes) + (f":{weights}" if weights else "")


def compiled(descriptors, target="native"):
    """A loaded library, and [(spec, function)]."""
    named = {f"f{i}": ConvSpec.parse(text) for i, text in enumerate(descriptors)}
    module = tvmconv.compile(named, target).load()
    return module, [(spec, module[name]) for name, spec in named.items()]


def arguments_of(function):
    return [a._asdict() for a in function.arguments]


def operands_of(arrays):
    return [arrays["x"], arrays["w"], arrays.get("bias"),
            *(v for name, v in arrays.items() if name not in ("x", "w", "bias"))]  # fmt: skip


def check_integers(library, descriptors):
    """In a child process: exact values, also with every buffer flush with a guard page."""
    module, interface = tvmconv.load(library), ctypes.CDLL(library)
    for name, descriptor in descriptors.items():
        spec, function = ConvSpec.parse(descriptor), module[name]
        for seed, fill in enumerate(("normal", "integer")):
            print(name, descriptor, fill, flush=True)
            arrays = random_arrays(spec, arguments_of(function), fill, seed)
            expected = quantised_reference(spec, **arrays)
            y = function(*operands_of(arrays))
            assert y.dtype == spec.out_dtype
            np.testing.assert_array_equal(y, expected, err_msg=descriptor)
        for at in ("end", "start"):
            check_guarded(spec, interface, name, arrays, expected, at)


def check_guarded(spec, interface, name, arrays, expected, at):
    print(f"{name} {spec}, buffers flush with their {at}", flush=True)
    arrays = {name: guard.guarded_copy(array, at=at) for name, array in arrays.items()}
    residual = [arrays.pop("residual")] if "residual" in arrays else []
    x, w, bias, *others = operands_of(arrays)
    packed_bytes = getattr(interface, f"{name}_packed_bytes")
    packed_bytes.restype = ctypes.c_size_t
    packed = guard.guarded((packed_bytes(),), np.uint8, at=at)
    _call(interface, f"{name}_prepack", w, bias, *others, packed)
    y = guard.guarded(spec.output_shape, spec.out_dtype, at=at)
    _call(interface, name, x, guard.guarded_copy(packed, at=at), *residual, y)
    assert guard.outside_untouched(packed) and guard.outside_untouched(y), spec
    np.testing.assert_array_equal(y, expected, err_msg=str(spec))


def check(module, pairs):
    descriptors = {function.name: function.descriptor for _, function in pairs}
    guard.in_child(check_integers, str(module.path), descriptors)


@pytest.mark.parametrize("target", PRESETS)
def test_strategies_on_every_preset(target):
    module, pairs = compiled([filled(*pair) for pair in on_preset(target, LEVELS, SHAPES, TYPES)], target)
    check(module, pairs)
    assert all(found.ok and found.tolerance == 0 for found in verify(module))


@pytest.mark.parametrize(("first", "dots"), [(0, ("pmaddwd", "vpdpbusd")), (2, ("sdot",))])
def test_words_of_four_elements_on_any_machine(first, dots):
    """Layout and corrections of what has an instruction elsewhere, with zero points of w and without."""
    machine = dataclasses.replace(resolve("x86-64-v2"), name=f"{dots[-1]} written out", int8_dots=dots)
    signs = ("int8", "uint8/int8", "int8/int32:wuint8", "uint8/int32:wuint8")
    module, pairs = compiled([filled(shape, signs[(i + j) % 4]) for i, shape in enumerate(SHAPES)
                              for j in (first, first + 1)], machine)  # fmt: skip
    check(module, pairs)
    assert all(found.ok for found in verify(module))


@settings(max_examples=4, phases=[Phase.explicit, Phase.generate])
@given(st.lists(st.tuples(specs(activations=[None]).map(str), st.sampled_from(TYPES)),
                min_size=10, max_size=10, unique=True))  # fmt: skip
def test_random_specs(drawn):
    texts = [(text.replace("float32", "{}"), types) for text, types in drawn]
    check(*compiled(dict.fromkeys(filled(text, types) for text, types in texts)))


CLAMPS = ["relu", "relu6", "clip=-2.5,1.25", "clip=0.5,9", "clip=-inf,-1"]
CURVES = [name for name in ACTIVATIONS if clamp_of(name) is None]


def test_activations_act_on_real_numbers():
    texts = [f"conv2d:1x7x8x20:o19:k3x3:p1:NHWC:{types}:bias:{activation}"
             for types in ("uint8/int8", "int8") for activation in [*CLAMPS, *CURVES]]  # fmt: skip
    texts += ["conv2d:1x12x7x18:o10:k3x3:p1:NCHW:uint8:silu", "conv2d:1x9x8x16:o16:k3x3:g16:NHWC:int8:relu6"]
    texts += [f"conv2d:1x7x8x20:o19:k1x1:NHWC:uint8/int32:{clamp}" for clamp in ("relu", "clip=-9999,3000")]
    module, pairs = compiled(texts)
    for spec, function in pairs:
        arrays = random_arrays(spec, arguments_of(function), "normal", 1)
        arrays["x_zero_point"] = np.array([125 if spec.dtype == "uint8" else -3], spec.dtype)
        arrays["w_zero_point"] = np.full(spec.out_channels, 2, np.int8)
        if spec.out_dtype != "int32":
            arrays["y_zero_point"] = np.array([20], spec.out_dtype)  # so that most results are within limits
        expected = quantised_reference(spec, **arrays)
        exact = any(spec.activation == clamp for clamp in [*CLAMPS, "clip=-9999,3000"])
        off = np.abs(function(*operands_of(arrays)) - expected)
        # A curve's own error may carry a result over a half.
        assert off.max() <= (0 if exact else 1) and np.count_nonzero(off) <= off.size // 500, spec
        assert len(np.unique(expected)) > 12
    assert all(found.ok for found in verify(module))


@pytest.mark.parametrize("target", [preset("x86-64-v2"), preset("x86-64-v4")])
def test_a_row_of_one_byte_more_than_a_vector(target):
    """Of loops that we leave to LLVM, which vectorises some on its own."""
    check(*compiled(["conv2d:1x4x2x5:o8:k1x3:p0+0x5+3:d1x2:g2:NCHW:uint8:tanh",
                     "conv2d:1x4x3x17:o8:k1x1:NCHW:int8:tanh"], target))  # fmt: skip


def test_a_clamp_between_dequantised_and_quantised():
    """By onnxruntime, one operator after the other."""
    rng = np.random.default_rng(2)
    x, w = rng.integers(0, 256, (1, 8, 6, 7), np.uint8), rng.integers(-60, 61, (6, 8, 3, 3)).astype(np.int8)
    feeds = {"x": x, "xs": np.float32(0.02), "xz": np.uint8(130), "w": w, "ws": np.float32(0.015),
             "wz": np.int8(0), "ys": np.float32(0.0625), "yz": np.uint8(20)}  # fmt: skip
    _, [(_, function)] = compiled(["conv2d:1x8x6x7:o6:k3x3:NCHW:uint8:clip=-1,6"])
    y = function(x, w, None, *(feeds[n] for n in ("xs", "xz", "ws", "wz", "ys", "yz")))
    sums = onnxruntime_output(helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["y"]),
                          {n: np.asarray(feeds[n]) for n in ("x", "w", "xz", "wz")})  # fmt: skip
    real = np.clip(sums * np.float32(0.02 * 0.015), -1, 6).astype(np.float32)
    expected = onnxruntime_output(helper.make_node("QuantizeLinear", ["r", "ys", "yz"], ["y"]),
                              {"r": real, "ys": np.asarray(feeds["ys"]), "yz": np.asarray(feeds["yz"])})
    assert np.abs(y.astype(int) - expected).max() <= 1 and (y == expected).mean() > 0.99
    assert y.min() == 4 and y.max() == 116


@pytest.mark.parametrize("target", PRESETS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_extremes_do_not_saturate(layout, target):
    """All factors at +-255, where 16-bit intermediate sums of other implementations overflow."""
    shape = (1, 33, 7, 7) if layout == "NCHW" else (1, 7, 7, 33)
    spec = ConvSpec(shape, 17, 3, layout=layout, dtype="uint8", out_dtype="int32", weight_dtype="uint8")
    _, [(_, function)] = compiled([str(spec)], target)
    for x, xz in ((255, 0), (0, 255)):
        for w, wz in ((255, 0), (0, 255)):
            y = function(np.full(shape, x, np.uint8), np.full(spec.weight_shape, w, np.uint8), None, xz, wz)
            assert (y == (x - xz) * (w - wz) * 33 * 9).all()


@pytest.mark.parametrize("target", [preset("znver5"), preset("x86-64-v3")])
def test_strips_of_pixels_read_in_place(target):
    """Strips with a partial one, and a partial tile in it; where a CPU does so well, x of the other sign is
    shifted as it is read, without a copy."""
    shapes = ["conv2d:1x9x11x40:o70:k1x1:NHWC:{}:bias", "conv2d:2x5x9x64:o96:k1x1:g2:NHWC:{}",
              "conv1d:1x67x36:o33:k1:s2:NWC:{}", "conv2d:1x9x11x20:o70:k3x3:NHWC:{}"]  # fmt: skip
    machine, kernels = resolve(target), {}
    texts = (filled(shape, TYPES[(2 * i + j) % 7]) for i, shape in enumerate(shapes) for j in (0, 3))
    for spec in map(ConvSpec.parse, texts):
        for strip in (0, 1, 3) if spec.kernel[-1] == 1 and spec.stride[-1] == 1 else (0,):
            name, point = f"f{len(kernels)}", {"width": 4, "block": 16, "strip": strip}
            kernels[name] = build_kernel(spec, machine, Choice("words_last", point), f"k_{name}")
            assert target != "znver5" or sum(kernels[name].workspace) == 0
    module = Library(kernels, machine).load()
    check(module, [(function.descriptor, function) for function in module.functions.values()])


def test_padding_is_the_zero_point():
    x = np.full((1, 2, 3, 3), 200, np.uint8)
    w = np.ones((1, 2, 3, 3), np.int8)
    _, [(_, function)] = compiled(["conv2d:1x2x3x3:o1:k3x3:p1:NCHW:uint8/int32"])
    y = function(x, w, None, 190)
    np.testing.assert_array_equal(y[0, 0], 20 * np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]]))
    assert (function(x, w, None, 200) == 0).all()


def test_the_one_call_gives_sums():
    rng = np.random.default_rng(0)
    x, w = rng.integers(-128, 128, (1, 5, 6, 7)).astype(np.int8), rng.integers(0, 256, (4, 5, 3, 3), np.uint8)
    bias = np.arange(4, dtype=np.int32)
    y = tvmconv.conv(x, w, bias, padding=1)
    spec = ConvSpec.parse("conv2d:1x5x6x7:o4:k3x3:p1:NCHW:int8/int32:wuint8:bias")
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, quantised_reference(spec, x, w, bias))


def test_results_halfway_go_to_even():
    _, [(_, function)] = compiled(["conv1d:1x8x16:o16:k1:g16:NWC:int8"])
    x = np.tile(np.arange(-4, 4, dtype=np.int8)[None, :, None], (1, 1, 16))
    y = function(x, np.ones((1, 1, 16), np.int8), None, 0.5, 0, 1.0, 0, 1.0, 0)
    np.testing.assert_array_equal(y[0, :, 0], [-2, -2, -1, 0, 0, 0, 1, 2])
    y = function(x, np.ones((1, 1, 16), np.int8), None, 100.0, 0, 1.0, 0, 1.0, 5)
    np.testing.assert_array_equal(y[0, :, 0], [-128, -128, -128, -95, 5, 105, 127, 127])
    # A multiplier beyond float32: zero sums stay defined.
    y = function(x, np.ones((1, 1, 16), np.int8), None, 3e38, 0, 3e38, 0, 1e-30, 0)
    assert (y[0, 5:, 0] == 127).all() and (y[0, :4, 0] == -128).all()


OPERATORS = ("ConvInteger", "QLinearConv")


def test_onnx_cases():
    cases = onnx_cases.in_memory(*OPERATORS)
    assert len(cases) == 3
    for case in cases.values():
        onnx_cases.run_in_memory(case)
    for folder, _ in onnx_cases.on_disk(*OPERATORS):  # not every version of onnx has any
        onnx_cases.run_on_disk(folder, OPERATORS)


@pytest.mark.parametrize("group, channels, out", [(1, 16, 8), (4, 8, 12), (8, 8, 8)])
@pytest.mark.parametrize("kinds", [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
@pytest.mark.parametrize("per_channel", [False, True])
def test_qlinear_conv_against_onnxruntime(group, channels, out, kinds, per_channel):
    rng = np.random.default_rng(3)

    def draw(kind, shape, halved=1):
        limits = np.iinfo(kind)
        return rng.integers(limits.min // halved, limits.max // halved + 1, shape).astype(kind)

    # onnxruntime's sums of uint8 by int8 saturate on CPUs without VNNI, unless weights are of 7 bits.
    halved = 2 if kinds == ("uint8", "int8") else 1
    shape = (out,) if per_channel else ()
    w_zero = np.zeros(shape, kinds[1]) if kinds[1] == "int8" else np.full(shape, 120, kinds[1])
    feeds = {
        "x": draw(kinds[0], (2, channels, 9, 10)), "xs": np.float32(0.02), "xz": np.asarray(7, kinds[0]),
        "w": draw(kinds[1], (out, channels // group, 3, 3), halved),
        "ws": rng.uniform(0.01, 0.03, shape).astype(np.float32), "wz": w_zero,
        "ys": np.float32(0.9 / halved), "yz": np.asarray(3, kinds[0]),
        "b": rng.integers(-500, 500, out).astype(np.int32),
    }  # fmt: skip
    feeds = {name: np.asarray(value) for name, value in feeds.items()}
    node = helper.make_node("QLinearConv", list(feeds), ["y"], pads=[1, 0, 1, 2], strides=[2, 1], group=group)
    (y,) = tvmconv.onnx.run_node(node, feeds)
    expected = onnxruntime_output(node, feeds)
    assert y.dtype == expected.dtype and len(np.unique(y)) > 30
    # It multiplies by a scale that it rounds in another order: a result halfway may differ by one.
    off = np.abs(y.astype(int) - expected.astype(int))
    assert off.max() <= 1 and np.count_nonzero(off) <= off.size // 1000


@pytest.mark.parametrize("kinds", [("uint8", "uint8"), ("uint8", "int8")])
@pytest.mark.parametrize("group", [1, 3])
def test_conv_integer_against_onnxruntime(kinds, group):
    rng = np.random.default_rng(5)
    x = rng.integers(0, 256, (1, 9, 11, 8)).astype(kinds[0])
    limits = np.iinfo(kinds[1])
    w = rng.integers(limits.min, limits.max + 1, (6, 9 // group, 3, 2)).astype(kinds[1])
    feeds = {"x": x, "w": w, "xz": np.asarray(130, kinds[0]), "wz": np.asarray(9, kinds[1])}
    geometry = {"pads": [1, 1, 1, 0], "dilations": [2, 1], "group": group}
    node = helper.make_node("ConvInteger", list(feeds), ["y"], **geometry)
    (y,) = tvmconv.onnx.run_node(node, feeds)
    np.testing.assert_array_equal(y, onnxruntime_output(node, feeds))


@pytest.fixture(scope="module")
def quantised():
    _, [(spec, function)] = compiled(["conv2d:1x6x6x8:o5:k3x3:NHWC:uint8:bias"])
    return function, random_arrays(spec, arguments_of(function), "normal", 0)


@pytest.mark.parametrize("name, value, message", [
    ("x_zero_point", 256, "x_zero_point: 256, expected integers from 0 to 255"),
    ("x_zero_point", -1, "x_zero_point: -1, expected integers from 0 to 255"),
    ("x_zero_point", 1.5, "x_zero_point: 1.5, expected integers"),
    ("w_zero_point", np.full(5, 128), "w_zero_point: int64 values, expected integers from -128 to 127"),
    ("w_zero_point", np.zeros(4, np.int8), "w_zero_point: shape (4,), expected one number or 5"),
    ("y_zero_point", 300, "y_zero_point: 300, expected integers from 0 to 255"),
    ("x_scale", 0, "x_scale: 0, expected positive finite numbers"),
    ("x_scale", -0.5, "x_scale: -0.5, expected positive finite numbers"),
    ("y_scale", float("nan"), "y_scale: nan, expected positive finite numbers"),
    ("y_scale", float("inf"), "y_scale: inf, expected positive finite numbers"),
    ("y_scale", 1e-60, "y_scale: 1e-60, expected positive finite numbers"),
    ("w_scale", np.array([1, 1, 0, 1, 1], np.float32), "w_scale: 0.0, expected positive finite numbers"),
    ("w_scale", np.ones(3, np.float32), "w_scale: shape (3,), expected one number or 5"),
    ("w_scale", None, "w_scale: None, expected"),
    ("bias", np.zeros(5, np.float32), "bias: dtype float32, expected int32"),
    ("w", np.zeros((3, 3, 8, 5), np.uint8), "w: dtype uint8, expected int8"),
])  # fmt: skip
def test_bad_quantisation(quantised, name, value, message):
    function, arrays = quantised
    with pytest.raises(SpecError, match=re.escape(message)) as caught:
        function(*operands_of({**arrays, name: value}))
    assert "\n" not in str(caught.value)


def test_one_number_stands_for_every_channel(quantised):
    function, arrays = quantised
    each = {**arrays, "w_scale": np.full(5, 0.25, np.float32), "w_zero_point": np.full(5, 3, np.int8)}
    one = {**arrays, "w_scale": 0.25, "w_zero_point": np.int8(3)}
    expected = function(*operands_of(each))
    np.testing.assert_array_equal(function(*operands_of(one)), expected)
    bound = function.bind(*operands_of(one)[1:])
    np.testing.assert_array_equal(bound(arrays["x"]), expected)


@pytest.mark.parametrize("text, message", [
    ("conv2d:1x6x6x8:o5:k3x3:NHWC:uint8/float32", "out_dtype: 'float32'"),
    ("conv2d:1x6x6x8:o5:k3x3:NHWC:uint8:prelu", "activation: 'prelu'"),
    ("conv2d:1x6x6x8:o5:k3x3:NHWC:uint8/int32:sigmoid", "relu, relu6 or a clip to integers"),
    ("conv2d:1x6x6x8:o5:k3x3:NHWC:uint8/int32:clip=0.5,2", "relu, relu6 or a clip to integers"),
    ("conv2d:1x6x6x8:o5:k3x3:NHWC:float32:wuint8", "weight_dtype: 'uint8', expected one of float32"),
    ("conv2d:1x6x6x8:o5:k3x3:NHWC:float32/int8", "out_dtype: 'int8'"),
])  # fmt: skip
def test_types_that_do_not_go_together(text, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        tvmconv.compile(text)


def test_descriptors():
    for text in (filled(shape, types) for shape in SHAPES for types in TYPES):
        spec = ConvSpec.parse(text)
        assert ConvSpec.parse(str(spec)) == spec
    assert ConvSpec.parse("conv1d:1x8x4:o4:k1:int8:wint8").weight_dtype == "int8"


_LAST = ["conv2d:1x28x28x64:o128:k3x3:p1:NHWC:int8:bias:relu", "conv2d:1x7x7x512:o96:k1x1:NHWC:uint8/int8"]
_FIRST = ["conv2d:1x64x30x35:o64:k3x3:p1:NCHW:uint8/int32"]
_PHASES = ["tconv2d:1x14x14x64:o64:k4x4:s2:p1:NHWC:uint8/int8:bias"]


@pytest.mark.parametrize("target, instruction, stack, text", [
    *(("x86-64-v3", "vpmaddubsw", "rsp", text) for text in _LAST + _FIRST),
    *((target, "vpmaddwd", "rsp", text) for target in ("x86-64-v3", "x86-64-v4") for text in _PHASES),
    *(("x86-64-v4-vnni", "vpdpbusd", "rsp", text) for text in _LAST + _FIRST),
    *(("neoverse-n1", "sdot", "[sp", text) for text in _LAST),
])  # fmt: skip
def test_machine_code_of_the_sums(target, instruction, stack, text):
    """The innermost loop is made of the target's instruction, and has no sum on the stack."""
    machine, spec = resolve(target), ConvSpec.parse(text)
    module = kernel.module_of("sums", kernel.scheduled(spec, machine))
    lines = lower_cpu(module, llvm_target(machine)).inspect_source("s").splitlines()
    labels = {line.partition(":")[0]: at for at, line in enumerate(lines) if re.match(r"\.L\w+:", line)}
    loops = []
    for at, line in enumerate(lines):
        jump = re.match(r"\s+(?:j|b\.|cb)\S*\s.*?(\.L\w+)$", line)
        if jump and labels.get(jump[1], at) < at:
            body = lines[labels[jump[1]] : at]
            if sum(line.startswith(".L") for line in body) == 1:  # it holds no other loop or branch
                loops.append((sum(f"\t{instruction}" in line for line in body), body))
    count, body = max((loop for loop in loops if loop[0] >= 4), key=lambda loop: loop[0] / len(loop[1]))
    assert count >= 0.2 * len(body), body
    assert not any(stack in line and re.search(r"mm\d|\bq\d", line) for line in body), body
