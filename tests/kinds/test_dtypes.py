"""float64, float16 and bfloat16 convolutions: right on every x86 preset, whichever library's arrays."""

from pathlib import Path

import guard
import numpy as np
import pytest
from checking import assert_right, random_arrays
from combined import on_preset
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kernel_checks import check_values_and_memory
from onnx import helper
from runtime_node import onnxruntime_output
from strategies import specs

import tvmconv
from tvmconv.base.dtypes import BFLOAT16, numpy_dtype, rounded, widened
from tvmconv.base.errors import SpecError
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.baking import packed_weights
from tvmconv.formats.cpu_features import host_features
from tvmconv.frontends.verify import verify
from tvmconv.schedules.machines import resolve
from tvmconv.specs.conv import ConvSpec

OTHERS = ("float64", "float16", "bfloat16")
HALVES = ("float16", "bfloat16")


def preset(name):
    """A target's name as a test parameter, skipped where this CPU lacks something."""
    able = host_features().issuperset(resolve(name).requires)
    return pytest.param(name, marks=pytest.mark.skipif(not able, reason=f"the CPU is not {name}"))


LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")
PRESETS = [preset(name) for name in LEVELS]

# Both layouts, both borders, odd channels, one spec a strategy; in every type and, in some, on every preset.
SHAPES = [
    "conv2d:1x13x15x37:o29:k3x3:p1:NHWC:{}:bias:relu",
    "conv2d:2x7x5x67:o33:k1x1:NHWC:{}:bias",
    "conv2d:1x14x9x35:o35:k3x3:s2:p0+1x0+1:g35:NHWC:{}:bias:relu6",
    "conv2d:1x8x9x24:o12:k3x3:p1:g4:NHWC:{}",
    "conv2d:1x9x14x21:o17:k3x3:p1:d2:NCHW:{}:bias:hard_swish",
    "conv2d:1x35x9x14:o35:k3x3:p1:g35:NCHW:{}:bias:clip=-0.5,0.75",
    "conv2d:2x19x5x7:o23:k1x1:NCHW:{}:bias:silu",
    "conv1d:1x70x5:o9:k5:s2:p2:NWC:{}:bias:gelu",
    "conv3d:1x4x5x6x3:o8:k2x3x3:p1:NDHWC:{}:tanh",
    "tconv2d:1x5x9x8:o37:k3x3:s2:p1:op1:NHWC:{}:bias:relu",
    "tconv2d:1x7x9x24:o36:k3x3:s2:g12:NHWC:{}:bias:residual",
    "tconv2d:1x8x5x41:o7:k3x3:s2:p1:op1:NCHW:{}:bias:prelu",
    "tconv2d:1x20x9x33:o20:k4x4:s2:p1:g20:NCHW:{}",
    "tconv1d:1x17x9:o21:k6:s5:NCHW:{}:silu",
    "tconv3d:1x3x4x5x8:o6:k3x2x3:s2x1x2:p1x0x1:NDHWC:{}",
]


def compiled(descriptors, target="native"):
    """A loaded library, and [(spec, function)]."""
    named = {f"f{i}": ConvSpec.parse(text) for i, text in enumerate(descriptors)}
    module = tvmconv.compile(named, target).load()
    return module, [(spec, module[name]) for name, spec in named.items()]


def check(module, pairs):
    descriptors = {function.name: function.descriptor for _, function in pairs}
    guard.in_child(check_values_and_memory, str(module.path), descriptors)


@pytest.mark.parametrize("target", PRESETS)
def test_strategies_on_every_preset(target):
    texts = [shape.format(dtype) for shape, dtype in on_preset(target, LEVELS, SHAPES, OTHERS)]
    module, pairs = compiled(texts, target)
    check(module, pairs)
    assert all(found.ok for found in verify(module))


@settings(max_examples=4, phases=[Phase.explicit, Phase.generate])
@given(st.lists(specs(dtypes=OTHERS).map(str), min_size=10, max_size=10, unique=True))
def test_random_specs(descriptors):
    check(*compiled(descriptors))


@pytest.mark.parametrize("target", PRESETS)
@pytest.mark.parametrize("dtype", HALVES)
def test_every_value(dtype, target):
    """All 65536 values go in and come out; scaled, they are rounded to the nearest, NaN stays NaN."""
    _, [(_, function)] = compiled([f"conv1d:1x64x1024:o1024:k1:g1024:NWC:{dtype}"], target)
    x = np.arange(65536, dtype=np.uint16).view(numpy_dtype(dtype)).reshape(1, 64, 1024)
    for factor in (1, 1.3671875):
        y = function(x, rounded(np.full((1, 1, 1024), factor), dtype))
        with np.errstate(over="ignore", invalid="ignore"):
            exact = widened(x).astype(np.float32) * np.float32(factor)
            expected = widened(rounded(exact, dtype))
        np.testing.assert_array_equal(widened(y), expected)


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_are_held_in_float32(dtype):
    """Thousands of small terms after a large one: a sum in the narrow type would lose them all."""
    x, w = np.ones((1, 4096, 1)), np.full((1, 4096, 1), 0.25)
    w[0, 0] = 1024
    y = tvmconv.conv(rounded(x, dtype), rounded(w, dtype))
    assert widened(y).item() == 2048  # 1024 + 4095 * 0.25 is rounded to it, at the end


def test_a_wider_result():
    _, [(spec, function)] = compiled(["conv2d:1x9x9x16:o16:k3x3:NHWC:float16/float32:bias"])
    arrays = random_arrays(spec)
    y = function(*arrays)
    assert y.dtype == np.float32
    assert_right(spec, y, *arrays)


@pytest.mark.parametrize("dtype", [*OTHERS, "float32"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_torch_tensors(dtype, layout):
    torch = pytest.importorskip("torch")
    kind = getattr(torch, dtype)
    x, w, b = torch.randn(2, 9, 9, 10).to(kind), torch.randn(6, 9, 3, 3).to(kind), torch.randn(6).to(kind)
    expected = torch.nn.functional.conv2d(x.double(), w.double(), b.double(), padding=1)
    before = x.clone()
    if layout == "NHWC":  # strided views
        y = tvmconv.conv(x.permute(0, 2, 3, 1), w.permute(2, 3, 1, 0), b, padding=1, layout=layout)
        y = y.permute(0, 3, 1, 2)
    else:
        y = tvmconv.conv(x, w, b, padding=1)
    assert isinstance(y, torch.Tensor) and y.dtype == kind
    assert torch.equal(x, before)
    eps = torch.finfo(kind).eps
    torch.testing.assert_close(y.double(), expected, rtol=eps, atol=200 * torch.finfo(torch.float32).eps)


def test_torch_out():
    torch = pytest.importorskip("torch")
    _, [(_, function)] = compiled(["conv2d:1x9x9x16:o16:k3x3:NHWC:bfloat16"])
    x, w = torch.randn(1, 9, 9, 16).bfloat16(), torch.randn(3, 3, 16, 16).bfloat16()
    out = torch.zeros(1, 7, 7, 16, dtype=torch.bfloat16)
    bound = function.bind(w)
    assert bound(x, out=out) is out
    assert torch.equal(out, bound(x)) and out.abs().sum() > 0
    _, [(_, same)] = compiled(["conv2d:1x9x9x16:o16:k1x1:NHWC:bfloat16"])
    with pytest.raises(SpecError, match="out: overlaps x"):
        same.bind(torch.zeros(1, 1, 16, 16).bfloat16())(x, out=x)


def test_ml_dtypes_arrays():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(ml_dtypes.bfloat16) for s in ((1, 8, 9, 9), (4, 8, 3, 3)))
    y = tvmconv.conv(x, w)
    assert y.dtype == ml_dtypes.bfloat16 and y.shape == (1, 4, 7, 7)
    spec = ConvSpec(x.shape, 4, 3, dtype="bfloat16")
    assert_right(spec, y.view(BFLOAT16), x.view(BFLOAT16), w.view(BFLOAT16), None)
    np.testing.assert_array_equal(tvmconv.conv(x[:, :, ::-1], w), tvmconv.conv(x[:, :, ::-1].copy(), w))


def test_against_onnxruntime():
    """It has no float64 or bfloat16 kernel."""
    dtype = "float16"
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1], strides=[2, 1])
    rng = np.random.default_rng(1)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((2, 7, 11, 12), (5, 7, 3, 3), (5,)))
    expected = onnxruntime_output(node, {"x": x, "w": w, "b": b})
    (y,) = tvmconv.onnx.run_node(node, [x, w, b])
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", OTHERS)
def test_baked_weights(dtype):
    spec = ConvSpec.parse(SHAPES[0].format(dtype))
    library = tvmconv.compile({"f": spec})
    x, w, bias = random_arrays(spec)
    expected = library.load()["f"](x, w, bias)
    blob = packed_weights(library.functions["f"], {"w": w} if bias is None else {"w": w, "bias": bias})
    baked = Library(library.functions, resolve("native"), baked={"f": blob})
    np.testing.assert_array_equal(baked.load()["f"](x), expected)


def test_sixteen_bit_floats_need_glibc_alone(tmp_path: Path):
    """Before F16C the conversions are functions, which are in the library itself."""
    elffile = pytest.importorskip("elftools.elf.elffile")
    library = tvmconv.compile([shape.format("float16") for shape in SHAPES], "x86-64-v2")
    path = library.export(tmp_path / "half.so")
    with open(path, "rb") as file:
        elf = elffile.ELFFile(file)
        needed = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
        undefined = {s.name for s in elf.get_section_by_name(".dynsym").iter_symbols()
                     if s["st_shndx"] == "SHN_UNDEF" and s["st_info"]["bind"] != "STB_WEAK"}  # fmt: skip
    # glibc's own parts: before 2.34 threads and dlopen had files of their own
    assert needed <= {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2"}
    assert not [name for name in undefined if "hf" in name and name.startswith("__")]


@pytest.mark.parametrize("dtype", OTHERS)
def test_arrays_of_another_type_raise(dtype):
    spec = ConvSpec.parse(SHAPES[0].format(dtype))
    _, [(_, function)] = compiled([str(spec)])
    arrays = random_arrays(spec)
    for i, name in enumerate(("x", "w", "bias")):
        changed = [*arrays]
        changed[i] = changed[i].view(np.uint16) if dtype == "bfloat16" else changed[i].astype(np.float32)
        with pytest.raises(SpecError, match=f"{name}: dtype (uint16|float32), expected {dtype}$"):
            function(*changed)
