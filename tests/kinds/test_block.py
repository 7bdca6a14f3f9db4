"""Blocks of pointwise, depthwise and pointwise convolutions: onnxruntime's as second opinions, random specs
between guard pages, threads, every knob, bad input."""

import os
import re
from dataclasses import replace

import guard
import numpy as np
import pytest
from guarded_libraries import verify_guarded
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from strategies import block_specs

import tvmconv
from tvmconv.base.errors import SpecError, TargetError
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.codegen.kernel import build_kernel, spaces
from tvmconv.formats.choice import Choice
from tvmconv.formats.order import bind_order
from tvmconv.frontends.verify import verify
from tvmconv.schedules.machines import resolve
from tvmconv.specs.block import BlockSpec
from tvmconv.specs.kinds import parse_spec

CORNERS = [
    "block2d:1x1x1x1:k1x1:o1:NHWC:float32",
    "block2d:1x1x1x3:e5:k3x3:p1:o2:NHWC:float32:bias:residual:expand=relu6:depthwise=relu6",
    "block2d:2x1x13x17:e33:k1x5:p0x2:o7:NHWC:float32:bias:expand=hard_swish:depthwise=silu:relu",
    "block2d:1x13x1x16:e16:k7x1:p3x0:o40:NHWC:float32:bias",
    "block2d:2x15x14x9:e37:k5x5:s2:p2:o19:NHWC:float32:bias:expand=relu:depthwise=relu",
    "block2d:1x17x19x24:e72:k3x3:p1:d2:o24:NHWC:float32:bias:residual:expand=relu6:depthwise=relu6",
    "block2d:1x11x12x33:k3x3:s2x3:p0+2x3+0:o50:NHWC:float32:depthwise=leaky_relu",
    "block2d:3x9x9x32:k7x7:s5:p3:o16:NHWC:float32:bias:depthwise=relu:relu",
    "block2d:1x12x10x64:k2x2:s3:o65:NHWC:float32:bias:residual:gelu",
    "block2d:1x28x28x32:e192:k3x3:p1:o32:NHWC:float32:bias:residual:expand=relu6:depthwise=relu6",
    "block2d:2x30x29x33:k1x1:o19:NHWC:float32:bias:residual:scale",
    "block2d:2x11x9x32:k3x3:p1:o19:NHWC:float32:scale:depthwise=relu",
    "block2d:1x5x4x6:e10:k3x3:p4:o11:NHWC:float32:bias:expand=relu",  # rows and columns of padding alone
]


def arrays_of(spec, seed=0):
    rng = np.random.default_rng(seed)
    return {o.name: rng.standard_normal(o.shape).astype(np.float32) for o in spec.signature()[:-1]}


def call(function, spec, arrays):
    bound = function.bind(*bind_order({o.name: arrays[o.name] for o in spec.weights}))
    return bound(*(arrays[o.name] for o in spec.inputs))


def theirs(spec, arrays):
    """The parts by onnxruntime, each a Conv."""
    runtime = pytest.importorskip("onnxruntime")
    y = np.moveaxis(arrays["x"], -1, 1)
    prefixes = {"expand": "expand_", "depthwise": "", "project": "project_"}
    for name, part in spec.parts().items():
        prefix = prefixes[name]
        if name == "project" and spec.scale:
            y = y * np.moveaxis(arrays["scale"], -1, 1)
        feeds = {"x": y, "w": np.moveaxis(arrays[f"{prefix}w"], (-1, -2), (0, 1))}
        if spec.bias:
            feeds["b"] = arrays[f"{prefix}bias"]
        feeds = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        pads = [lo for lo, _ in part.padding] + [hi for _, hi in part.padding]
        node = helper.make_node("Conv", [*feeds], ["y"], strides=part.stride, dilations=part.dilation,
                                pads=pads, group=part.groups)  # fmt: skip
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            [node], "part", [info(n, TensorProto.FLOAT, a.shape) for n, a in feeds.items()],
            [info("y", TensorProto.FLOAT, None)])  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (y,) = session.run(None, feeds)
        if part.residual:
            y = y + np.moveaxis(arrays["residual"], -1, 1)
        if part.activation is not None:
            y = tvmconv.specs.activations.activate(part.activation, y.astype(np.float64)).astype(np.float32)
    return np.moveaxis(y, 1, -1)


@pytest.fixture(scope="module")
def corners():
    return tvmconv.compile({f"f{i}": text for i, text in enumerate(CORNERS)}).load()


@pytest.mark.parametrize("number", range(len(CORNERS)))
def test_against_the_reference_and_onnxruntime(corners, number):
    spec = BlockSpec.parse(CORNERS[number])
    arrays = arrays_of(spec)
    found = call(corners[f"f{number}"], spec, arrays)
    expected = spec.reference(arrays)
    size = max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6 * size)
    np.testing.assert_allclose(theirs(spec, arrays), expected, rtol=0, atol=2e-5 * size)


def test_corners_between_guard_pages(corners):
    guard.in_child(verify_guarded, str(corners.path))


@given(st.lists(block_specs(), min_size=8, max_size=8, unique=True))
@settings(max_examples=2, phases=[Phase.explicit, Phase.generate])
def test_random_specs_between_guard_pages(specs):
    for spec in specs:
        assert parse_spec(str(spec)) == spec
        assert replace(BlockSpec.of(**spec.parts()), scale=spec.scale) == spec
    module = tvmconv.compile({f"f{i}": spec for i, spec in enumerate(specs)}).load()
    guard.in_child(verify_guarded, str(module.path))


def test_any_number_of_threads_and_tasks_gives_the_same(corners):
    spec = BlockSpec.parse("block2d:3x30x28x32:e48:k3x3:s2x1:p1:o32:NHWC:float32:bias:expand=relu6")
    machine = resolve("native")
    points = [{"tasks": tasks, "rows": rows} for tasks, rows in ((1, 15), (2, 1), (7, 2), (15, 1), (4, 3))]
    kernels = {f"f{i}": build_kernel(spec, machine, Choice("bands", point), symbol=f"k_{i:016x}")
               for i, point in enumerate(points)}  # fmt: skip
    module, arrays, seen = Library(kernels, machine).load(), arrays_of(spec), []
    try:
        for threads in (1, 2, 3, 5):
            tvmconv.set_num_threads(threads)
            seen += [call(module[name], spec, arrays) for name in kernels for _ in range(3)]
    finally:
        tvmconv.set_num_threads(len(os.sched_getaffinity(0)))
    for other in seen:
        np.testing.assert_array_equal(other, seen[0])


@pytest.mark.parametrize("text", [CORNERS[4], CORNERS[6]])
def test_every_knob_alone_is_right(text):
    spec, machine = BlockSpec.parse(text), resolve("native")
    ((strategy, space),) = spaces(spec, machine).items()
    kernels = {}
    for knob, values in space.items():
        for value in {values[0], values[len(values) // 2], values[-1]}:
            try:
                made = build_kernel(spec, machine, Choice(strategy, {knob: value}), f"k_{len(kernels):016x}")
            except ValueError:
                continue
            kernels[f"f{len(kernels)}"] = made
    assert len(kernels) > len(space)
    for found in verify(Library(kernels, machine).load(), fills=["normal"]):
        assert found.ok, found


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_types(dtype):
    texts = [text.replace("float32", dtype) for text in CORNERS[1:7]]
    module = tvmconv.compile({f"f{i}": text for i, text in enumerate(texts)}).load()
    for found in verify(module):
        assert found.ok, found


def test_other_cpus_compile():
    spec = CORNERS[5]
    for target in ("x86-64-v3", "aarch64-generic", "armv7-neon", "riscv64"):
        kernel = build_kernel(parse_spec(spec), resolve(target))
        assert kernel.workspace[1] > 0


def test_the_workspace_is_a_few_rows():
    """Not what lies between the parts: 56 x 56 x 144 floats are 1764 KiB."""
    text = "block2d:1x56x56x24:e144:k3x3:p1:o24:NHWC:float32:bias:residual:expand=relu6:depthwise=relu6"
    kernel = build_kernel(parse_spec(text), resolve("x86-64-v3"))
    assert kernel.workspace[0] == 0 and 0 < kernel.workspace[1] < 300 * 1024


PARTS = BlockSpec.parse(CORNERS[5]).parts()
WRONG = {
    "input_shape": (lambda: BlockSpec((1, 8, 8), 4, 3), r"input_shape: \(1, 8, 8\), expected 4 dims"),
    "layout": (lambda: BlockSpec((1, 8, 8, 8), 4, 3, layout="NCHW"), "layout: 'NCHW', expected NHWC"),
    "dtype": (lambda: BlockSpec((1, 8, 8, 8), 4, 3, dtype="int32"), "dtype: 'int32', expected one of"),
    "kernel": (lambda: BlockSpec((1, 2, 8, 8), 4, 3), "kernel: 3 in spatial dim 0, expected at most"),
    "slopes": (lambda: BlockSpec((1, 8, 8, 8), 4, 3, depthwise_activation="prelu"),
               "depthwise_activation: 'prelu', expected one without slopes"),
    "scale": (lambda: BlockSpec((1, 8, 8, 8), 4, 3, dtype="uint8", scale=True),
              "scale: True, expected False in a block of uint8"),
    "no expand": (lambda: BlockSpec((1, 8, 8, 8), 4, 3, expand_activation="relu"),
                  "expand_activation: 'relu', expected None where expand is 0"),
    "negative": (lambda: BlockSpec((1, 8, 8, 8), 4, 3, expand=-1), "expand: -1, expected"),
    "channels": (lambda: BlockSpec.of(PARTS["depthwise"],
                                      replace(PARTS["project"], input_shape=(1, 15, 17, 71))),
                 r"project: an input \(1, 15, 17, 71\) float32, expected \(1, 15, 17, 72\) float32"),
    "sizes": (lambda: BlockSpec.of(PARTS["depthwise"], replace(PARTS["project"], input_shape=(1, 9, 9, 72))),
              r"project: an input \(1, 9, 9, 72\)"),
    "kind": (lambda: BlockSpec.of(PARTS["project"], PARTS["project"]), "depthwise: .* one channel each"),
    "residual": (lambda: BlockSpec.of(replace(PARTS["depthwise"], residual=True), PARTS["project"]),
                 "depthwise: a residual in"),
    "strided": (lambda: BlockSpec.of(PARTS["depthwise"], replace(PARTS["project"], stride=2)),
                "project: .*stride 1"),
    "token": (lambda: parse_spec("block2d:1x8x8x8:k3x3:o4:NHWC:float32:expand=rilu"), "expand=rilu"),
    "needed": (lambda: parse_spec("block2d:1x8x8x8:k3x3:NHWC:float32"), "expected out_channels in it"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_in_one_line(what):
    make, said = WRONG[what]
    with pytest.raises(SpecError, match=said) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_arrays_that_do_not_fit(corners):
    spec = BlockSpec.parse(CORNERS[1])
    arrays = arrays_of(spec)
    arrays["residual"] = np.zeros((1, 1, 1, 3), np.float32)
    with pytest.raises(SpecError, match=re.escape("residual: shape (1, 1, 1, 3)")):
        call(corners["f1"], spec, arrays)


NOT_ON_A_GPU = {
    "integers": (CORNERS[4].replace("float32", "uint8"), "a block of uint8 for cuda-sm_80, expected floats"),
    "window": ("block2d:1x99x99x4:k4x4:d32:o8:NHWC:float32",
               "windows of 97 x 97 pixels for cuda-sm_80, expected some that fit 49152 bytes of shared mem"),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_ON_A_GPU)
def test_what_a_gpu_has_not_is_said_in_one_line(what):
    text, said = NOT_ON_A_GPU[what]
    with pytest.raises(TargetError, match=said) as raised:
        tvmconv.compile(text, target="cuda-sm_80")
    assert "\n" not in str(raised.value)


def test_an_empty_batch():
    spec = parse_spec("block2d:0x8x8x8:e16:k3x3:p1:o8:NHWC:float32:bias")
    module = tvmconv.compile({"f": spec}).load()
    assert call(module["f"], spec, arrays_of(spec)).shape == (0, 8, 8, 8)
