"""Blocks of 8-bit integers: exact on every x86 preset and between guard pages, and bit for bit what
onnxruntime's QLinearConvs give one after the other."""

import dataclasses

import guard
import numpy as np
import pytest
import tvm
from guarded_libraries import verify_guarded
from onnx import helper
from runtime_node import onnxruntime_output
from test_dtypes import PRESETS

import tvmconv
from tvmconv.base.errors import SpecError
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.baking import packed_weights
from tvmconv.compiler.codegen.family import family_of
from tvmconv.compiler.codegen.kernel import named
from tvmconv.compiler.lower import lower_cpu
from tvmconv.formats.order import bind_order
from tvmconv.frontends.verify import random_arrays, verify
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import native, resolve
from tvmconv.specs.block import BlockSpec
from tvmconv.specs.kinds import parse_spec

TYPES = ("uint8", "int8", "uint8:wuint8", "int8:wuint8")
SHAPES = [
    "block2d:1x1x1x3:e5:k3x3:p1:o2:NHWC:{}:bias:residual:expand=relu6:depthwise=relu6",
    "block2d:2x1x13x17:e33:k1x5:p0x2:o7:NHWC:{}:expand=clip=0.5,9:depthwise=relu",
    "block2d:2x15x14x9:e37:k5x5:s2:p2:o19:NHWC:{}:bias:expand=relu:relu6",
    "block2d:1x17x19x24:e72:k3x3:p1:d2:o24:NHWC:{}:bias:residual:expand=relu6:depthwise=relu6",
    "block2d:1x11x12x33:k3x3:s2x3:p0+2x3+0:o50:NHWC:{}",
    "block2d:3x9x9x32:k7x7:s5:p3:o16:NHWC:{}:bias:depthwise=relu:relu",
    "block2d:1x28x28x29:e61:k3x3:p1:o31:NHWC:{}:bias",
    "block2d:3x18x1x32:e17:k7x1:s3x6:p1+2x1+0:d3x1:o33:NHWC:{}:residual:relu",  # columns of padding alone
]


def compiled(shift, target="native", most=4):
    """A library of half of the shapes, each of another type than with another ``shift``."""
    texts = [shape.format(TYPES[(i + shift) // 2 % 4]) for i, shape in enumerate(SHAPES) if (i + shift) % 2]
    return tvmconv.compile({f"f{i}": text for i, text in enumerate(texts[:most])}, target)


@pytest.mark.parametrize("target", [*PRESETS, "native"])
def test_exact_on_every_preset(target):
    found = list(verify(compiled(len(target), target).load()))
    assert all(one.ok and one.tolerance == 0 for one in found), found


@pytest.mark.parametrize("shift, dots", [(0, ("vpdpbusd",)), (3, ("sdot",)), (1, ())])
def test_words_of_any_machine(shift, dots):
    """Layout and corrections of what has an instruction elsewhere, between guard pages."""
    machine = dataclasses.replace(resolve("x86-64-v2"), name="dots written out", int8_dots=dots)
    module = compiled(shift, machine, most=2).load()
    guard.in_child(verify_guarded, str(module.path))


def test_activations_act_on_real_numbers():
    curved = ["expand=hard_swish:depthwise=silu", "depthwise=hard_swish:gelu", "expand=leaky_relu:tanh"]
    texts = [f"block2d:1x9x8x20:e24:k3x3:p1:o19:NHWC:{dtype}:bias:residual:{rest}".replace("o19", "o20")
             for dtype, rest in zip(("uint8", "int8", "int8:wuint8"), curved, strict=True)]  # fmt: skip
    for found in verify(tvmconv.compile({f"f{i}": text for i, text in enumerate(texts)}).load()):
        assert found.ok, found


def by_onnxruntime(spec, arrays):
    """The parts, each a QLinearConv."""
    y, names = np.moveaxis(arrays["x"], -1, 1), spec.arguments()
    for name, part in spec.parts().items():
        own = {mine: arrays[theirs] for mine, theirs in names[name].items()}
        own["w"] = np.moveaxis(own["w"], (-1, -2), (0, 1))
        order = ["x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point", "bias"]
        single = {key for key in order if key[:2] in ("x_", "y_")}
        feeds = {"x": y} | {key: own[key].reshape(()) if key in single else own[key] for key in order}
        feeds = {key: np.ascontiguousarray(array) for key, array in feeds.items()}
        feeds |= {key: feeds[key].reshape(()) for key in single}
        pads = [lo for lo, _ in part.padding] + [hi for _, hi in part.padding]
        node = helper.make_node("QLinearConv", [*feeds], ["y"], strides=part.stride, pads=pads,
                                dilations=part.dilation, group=part.groups)  # fmt: skip
        y = onnxruntime_output(node, feeds)
    return np.moveaxis(y, 1, -1)


@pytest.mark.parametrize("types", TYPES[:3])  # onnxruntime has no others
def test_bit_for_bit_what_qlinear_convs_give(types):
    """With scales that are powers of two, whose products are exact in any order; ends of every type are
    reached, and halves rounded to even."""
    spec = parse_spec(f"block2d:2x13x14x20:e44:k3x5:s1x2:p1x2:o27:NHWC:{types}:bias")
    assert isinstance(spec, BlockSpec)
    function = tvmconv.compile({"f": spec}).load()["f"]
    arrays = random_arrays(spec, [a._asdict() for a in function.arguments], "normal", 5)
    if types == "uint8":  # onnxruntime's sums of uint8 by int8 saturate on CPUs without VNNI
        arrays |= {name: array // 2 for name, array in arrays.items() if name.endswith("w")}
    zero = 0 if spec.weight_dtype == "int8" else 127  # onnxruntime has one for all channels
    arrays |= {name: 0 * array + zero for name, array in arrays.items() if name.endswith("w_zero_point")}
    for name in [name for name in arrays if name.endswith("_scale")]:
        finer = 8 if name.endswith("y_scale") else 1  # results beyond the ends
        arrays[name] = np.exp2(np.round(np.log2(arrays[name] / finer))).astype(np.float32)
    weights = {operand.name: arrays[operand.name] for operand in spec.weights}
    found = function.bind(*bind_order(weights))(arrays["x"])
    expected = by_onnxruntime(spec, arrays)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, spec.reference(arrays))
    limits = np.iinfo(spec.dtype)
    assert found.min() == limits.min and found.max() == limits.max and len(np.unique(found)) > 200


def test_the_definition_and_packing_ahead_of_time():
    """The TE definition computes the reference, and packing while compiling is prepack."""
    spec = parse_spec(SHAPES[3].format("int8:wuint8"))
    func = lower_cpu(named({"whole": family_of(spec).definition(spec)}), llvm_target(native()))
    library = tvmconv.compile({"f": spec})
    module = library.load()
    arrays = random_arrays(spec, [a._asdict() for a in module["f"].arguments], "normal", 3)
    y = tvm.runtime.empty(spec.output_shape, spec.dtype)
    func["whole"](*(tvm.runtime.tensor(arrays[o.name]) for o in spec.signature()[:-1]), y)
    expected = spec.reference(arrays)
    np.testing.assert_array_equal(y.numpy(), expected)
    weights = {operand.name: arrays[operand.name] for operand in spec.weights}
    functions = dict(library.functions)
    baked = Library(functions, library.machine, baked={"f": packed_weights(functions["f"], weights)})
    again = baked.load()["f"].bind()(*(arrays[operand.name] for operand in spec.inputs))
    np.testing.assert_array_equal(again, expected)


PARTS = parse_spec(SHAPES[3].format("int8")).parts()


@pytest.mark.parametrize("make, said", [
    (lambda: BlockSpec((1, 40, 40, 8), 8, 17, dtype="int8"), "kernel: 289 taps, expected at most 256 with"),
    (lambda: BlockSpec((1, 8, 8, 8), 8, 3, dtype="int8", weight_dtype="float32"), "weight_dtype: 'float32'"),
    (lambda: BlockSpec.of(PARTS["depthwise"], dataclasses.replace(PARTS["project"], weight_dtype="uint8")),
     "project: weights of uint8, expected int8"),
    (lambda: BlockSpec.of(dataclasses.replace(PARTS["depthwise"], out_dtype="int32"), PARTS["project"]),
     "depthwise: .* expected one of"),
])  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(make, said):
    with pytest.raises(SpecError, match=said) as raised:
        make()
    assert "\n" not in str(raised.value)
