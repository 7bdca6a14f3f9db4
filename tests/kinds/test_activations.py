"""Activations in kernels: their errors over all of float32, vectors throughout, the same fused as apart."""

import math
from io import BytesIO

import numpy as np
import pytest
from checking import extra_arrays, random_arrays
from elftools.elf.elffile import ELFFile
from strategies import ACTIVATIONS, WITH_SLOPES

import tvmconv
from tvmconv.compiler.codegen import build_kernel
from tvmconv.schedules import machines
from tvmconv.specs.activations import activate
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.reference.floats import conv_reference
from tvmconv.specs.shorthand import depthwise, pointwise

SMALLEST = 2.0**-126  # the smallest normal number; below it an ulp is that of this one
# Ulps of the result, where it is at least SMALLEST; and what any result may err by, over max(1, |x|).
ULPS = {
    "sigmoid": 2.5, "silu": 3, "tanh": 3, "hard_sigmoid": 2, "hard_swish": 3, "relu": 0, "relu6": 0,
    "mish": 4, "clip=-0.5,0.75": 0, "leaky_relu=0.2": 0.5001,
}  # fmt: skip
ABSOLUTE = 1.5e-7
# Where a function's tail falls to 0 like exp(-v * v), its exponent's rounding shows.
TAIL_ULPS = {"gelu": lambda v: 4 + v * v / 2, "gelu_tanh": lambda v: 6 + np.abs(v) ** 3 / 2}

COUNT = 2**19


def every_so_many(step=8191):
    """float32 numbers of all exponents and both signs, infinities and NaN among them."""
    bits = np.arange(COUNT, dtype=np.uint64) * step % 2**32
    ends = [0.0, -0.0, math.inf, -math.inf, math.nan, 3.4e38, -3.4e38, 1e-45, -1e-45, 1e-39, -104, 89, -89]
    values = bits.astype(np.uint32).view(np.float32)
    values[: len(ends)] = ends
    near = np.linspace(-12, 12, COUNT // 4, dtype=np.float32)  # where they bend
    values[-len(near) :] = near
    return values


@pytest.fixture(scope="module")
def apart():
    """Each activation alone: a convolution with one weight, which is 1."""
    names = ACTIVATIONS
    shape = (1, 1, COUNT)
    specs = {f"f{i}": ConvSpec(shape, 1, 1, activation=name) for i, name in enumerate(names)}
    module = tvmconv.compile(specs).load()
    one = np.ones((1, 1, 1), np.float32)
    return {name: module[f"f{i}"].bind(one) for i, name in enumerate(names)}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_errors_over_all_floats(name, apart):
    x = every_so_many()
    y = apart[name](x.reshape(1, 1, -1)).reshape(-1)
    with np.errstate(all="ignore"):
        expected = activate(name, x.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    infinite = np.isinf(expected.astype(np.float32)) | np.isnan(expected)
    np.testing.assert_array_equal(y[infinite], expected.astype(np.float32)[infinite])
    x, y, expected = (v[~infinite].astype(np.float64) for v in (x, y, expected))
    error = np.abs(y - expected)
    assert (error <= ABSOLUTE * np.maximum(np.abs(x), 1)).all()
    if name in ULPS or name in TAIL_ULPS:
        normal = np.abs(expected) >= SMALLEST
        allowed = TAIL_ULPS[name](x) if name in TAIL_ULPS else np.full_like(x, ULPS[name])
        if name in ("silu", "mish"):  # x times a denormal
            normal &= np.abs(expected) >= 128 * SMALLEST
        if "clip" not in name:  # its bounds are not floats
            ulps = error / np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
            worst = np.argmax(np.where(normal, ulps / np.maximum(allowed, 1e-9), -1))
            assert ulps[worst] <= allowed[worst] + 0.5, f"{ulps[worst]} ulp at {x[worst]}: {y[worst]}"
        assert (error[~normal] <= 1e-36).all()


def undefined_symbols(kernel):
    table = ELFFile(BytesIO(kernel.object)).get_section_by_name(".symtab")
    return {s.name for s in table.iter_symbols() if s["st_shndx"] == "SHN_UNDEF" and s.name}


@pytest.mark.parametrize("target", [machine.name for machine in machines.presets()])
def test_no_mathematical_library(target):
    """The presets of an architecture share out the activations."""
    machine = machines.resolve(target)
    alike = [preset.name for preset in machines.presets() if preset.arch == machine.arch]
    plain = undefined_symbols(build_kernel(ConvSpec((1, 5, 6, 19), 19, 1, layout="NHWC"), machine))
    for name in WITH_SLOPES[alike.index(target) :: len(alike)]:
        spec = ConvSpec((1, 5, 6, 19), 19, 1, layout="NHWC", bias=True, residual=True, activation=name)
        assert undefined_symbols(build_kernel(spec, machine)) <= plain | {"memcpy", "memset"}, name


KINDS = {
    "pointwise": lambda **options: pointwise((2, 19, 3, 7), 5, **options),
    "pointwise-last": lambda **options: pointwise((2, 3, 7, 9), 19, layout="NHWC", **options),
    "depthwise": lambda **options: depthwise((1, 7, 4, 17), 3, padding=1, **options),
    "depthwise-last": lambda **options: depthwise((1, 4, 5, 19), 3, padding=1, layout="NHWC", **options),
    "dense": lambda **options: ConvSpec((1, 3, 5, 9), 5, 3, stride=2, padding=1, **options),
    "dense-last": lambda **options: ConvSpec((1, 5, 5, 3), 19, 3, padding=1, layout="NHWC", **options),
}


@pytest.mark.parametrize("kind", KINDS)
def test_fused_is_as_apart(kind):
    """Every activation in two of the kinds."""
    plain, first = KINDS[kind](bias=True), [*KINDS].index(kind) % 3
    fused = {
        f"f{i}": KINDS[kind](bias=True, residual=i % 2 == 0, activation=name)
        for i, name in enumerate(WITH_SLOPES) if i % 3 == first
    }
    module = tvmconv.compile({"plain": plain, **fused}).load()
    x, w, bias = random_arrays(plain)
    sums = module["plain"](x, w, bias).astype(np.float64)
    for name, spec in fused.items():
        extra = extra_arrays(spec)
        v = sums + extra.get("residual", 0)
        if spec.slopes:
            slopes = extra["slopes"].reshape(-1, *(() if spec.channels_last else (1, 1)))
            expected = np.where(v < 0, v * slopes, v)
        else:
            expected = activate(spec.activation, v)
        y = module[name](x, w, bias, *extra.values())
        np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-5, err_msg=str(spec))


SPEC = ConvSpec.parse("conv2d:1x6x7x5:o9:k3x3:p1:NHWC:float32:bias:residual:prelu")


def test_one_call_with_residual_and_slopes():
    spec = SPEC
    arrays, extra = random_arrays(spec), extra_arrays(spec)
    expected = conv_reference(spec, *arrays, **extra)
    options = {"padding": 1, "layout": "NHWC", **extra}
    np.testing.assert_allclose(tvmconv.conv(*arrays, **options), expected, atol=1e-5)
    np.testing.assert_allclose(tvmconv.conv(*arrays, activation="prelu", **options), expected, atol=1e-5)
    alone = conv_reference(ConvSpec.parse(str(spec).replace(":residual:prelu", ":residual")), *arrays,
                           residual=extra["residual"])  # fmt: skip
    y = tvmconv.conv(*arrays, padding=1, layout="NHWC", residual=extra["residual"])
    np.testing.assert_allclose(y, alone, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"residual": np.ones((1, 6, 7, 8), np.float32)}, r"residual: .*expected \(1, 6, 7, 9\)"),
        ({"residual": np.ones((1, 6, 7, 9))}, "residual: .*float64, expected float32"),
        ({"slopes": np.ones(8, np.float32)}, r"slopes: .*expected \(9,\)"),
        ({"activation": "relu"}, "arguments: |slopes: "),
        ({"slopes": None, "activation": "prelu"}, r"slopes: None, expected an array of shape \(9,\)"),
    ],
)
def test_arrays_that_do_not_fit(change, message):
    options = {"padding": 1, "layout": "NHWC", **extra_arrays(SPEC), **change}
    with pytest.raises(tvmconv.SpecError, match=message) as caught:
        tvmconv.conv(*random_arrays(SPEC), **options)
    assert "\n" not in str(caught.value)


def test_call_order_and_header(tmp_path):
    spec = ConvSpec((1, 6, 7, 5), 9, 3, layout="NHWC", residual=True, activation="prelu")
    library = tvmconv.compile({"f": spec})
    header = library.export(tmp_path / "lib.so").with_suffix(".h").read_text()
    assert "int f_prepack(const float *w, const void *bias, const float *slopes, void *packed);" in header
    assert "int f(const float *x, const void *packed, const float *residual, float *y);" in header
    function = tvmconv.load(tmp_path / "lib.so")["f"]
    assert [a.name for a in function.arguments] == ["x", "w", "residual", "slopes", "y"]
    x, w, _ = random_arrays(spec)
    extra = extra_arrays(spec)
    bound = function.bind(w, None, extra["slopes"])
    y = bound(x, extra["residual"])
    np.testing.assert_array_equal(y, function(x, w, None, *extra.values()))
    with pytest.raises(tvmconv.SpecError, match="residual"):
        bound(x, y, out=y)
    with pytest.raises(tvmconv.SpecError, match="inputs: 1, expected 2: x, residual"):
        bound(x)
