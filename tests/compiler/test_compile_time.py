"""CPU seconds that compiling a kernel takes: no spec takes much more than others. Those named here once took
up to five minutes."""

import os
import resource

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machine import slowness
from strategies import specs

from tvmconv.base.errors import SpecError
from tvmconv.compiler.codegen.kernel import build_kernel
from tvmconv.formats.choice import Choice
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import parse_spec

MOST = 20.0  # four times what any should take where nothing else runs
EXAMPLES = int(os.environ.get("TVMCONV_COMPILE_EXAMPLES", "5"))

DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint8")
TARGETS = st.sampled_from(["x86-64-v3", "armv7-neon", "riscv64"])

SLOW = [
    ("conv2d:1x1x33x33:o64:k9x9:p4:NCHW:float32:gelu_tanh", "x86-64-v4", None),
    ("tconv1d:1x32x24:o7:k6:s3:NCHW:int8:gelu:residual", "x86-64-v3", None),
    ("conv2d:1x32x28x28:o7:k3x3:NCHW:int8:gelu_tanh:residual", "x86-64-v3", None),
    ("conv2d:1x28x28x32:o32:k3x3:p1:NHWC:int8:gelu:residual", "x86-64-v3", None),
    ("conv2d:1x64x64x64:o64:g64:k63x63:p31:NCHW:float32", "x86-64-v3", None),
    ("conv1d:1x4000x32:o32:g32:k1024:NHWC:float32", "x86-64-v3", None),
    ("conv2d:1x28x28x32:o32:k3x3:p1:NHWC:float32:gelu", "armv7-neon", None),
    ("conv2d:1x28x28x32:o32:k3x3:p1:NHWC:float32:direct", "armv7-neon", None),
    ("conv2d:1x33x33x2048:o256:k3x3:p6:d6:NHWC:float32", "x86-64-v3",
     Choice("winograd_tiles", {"block": 24, "lines": 1, "step": 3, "steps": 1, "tall": 2, "wide": 2})),
]  # fmt: skip
KINDS = st.sampled_from([
    "deform2d:1x{c}x{n}x{n}:o{o}:k3x3:p1:mask:bias:NCHW:float32",
    "maxpool2d:1x{c}x{n}x{n}:k{k}x{k}:s2:NCHW:int8",
    "avgpool2d:2x{n}x{n}x{c}:k{k}x{k}:s1:NHWC:bfloat16", "avgpool1d:1x{c}x{n}:k{k}:s1:NCHW:float32",
    "conv2d:1x{n}x{n}x{c}:o{o}:k{k}x{k}:NHWC:uint8:silu:residual",
    "tconv2d:1x{c}x{n}x{n}:o{o}:k{k}x{k}:s2:NCHW:int8:tanh",
    "conv2d:1x{c}x{n}x{n}:o{c}:g{c}:k{k}x{k}:NCHW:int8:gelu",
    "conv2d:1x{c}x{n}x{n}:o{o}:k3x3:p1:NCHW:float32:gelu:winograd",
    "conv2d:1x{n}x{n}x{c}:o{o}:k5x3:d1x6:NHWC:float32:silu:winograd",
    "conv2d:1x{n}x{n}x{c}:o{o}:k7x7:s2:NHWC:float32:winograd",
])  # fmt: skip


def _busy() -> float:
    """Seconds of CPU that this process and its children have used."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


def _used(spec, target: str, choice: Choice | None = None) -> float:
    before = _busy()
    kernel = build_kernel(spec, resolve(target), choice)
    assert choice is None or kernel.schedule["strategy"] == choice.strategy
    return _busy() - before


def _check(spec, target: str, choice: Choice | None = None) -> None:
    try:
        spec.check_supported()
    except SpecError:
        return
    used = _used(spec, target, choice)
    assert used < MOST or used < MOST * slowness(), f"{spec} for {target}: {used:.1f} s"


@pytest.mark.parametrize(("text", "target", "choice"), SLOW)
def test_slow_ones(text: str, target: str, choice: Choice | None) -> None:
    _check(parse_spec(text), target, choice)


def test_an_activation_after_tiles_that_are_crossed() -> None:
    """Written out for each channel of a tile it took five times as long as the rest of the kernel."""
    text = "conv2d:1x1x33x33:o64:k9x9:p4:NCHW:float32:"
    crossed = Choice("crossed", {"width": 5, "block": 64})
    plain, long = (_used(parse_spec(text + act), "x86-64-v4", crossed) for act in ("relu", "gelu_tanh"))
    assert long < 3.5 * plain, f"{long:.1f} s, and {plain:.1f} s with relu"


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(specs(dtypes=DTYPES, max_elements=10**6), TARGETS)
def test_convolutions(spec, target) -> None:
    _check(spec, target)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(KINDS, TARGETS, *[st.integers(least, most) for least, most in ((1, 70), (1, 70), (13, 80), (1, 13))])
def test_other_kinds(kind, target, c, o, n, k) -> None:
    _check(parse_spec(kind.format(c=c, o=o, n=n, k=k)), target)
