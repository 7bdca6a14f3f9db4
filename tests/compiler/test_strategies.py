"""The tables of strategies: each keeps its contract, and a backend's compile needs that backend's alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from places import ROOT

from tvmconv.compiler import codegen
from tvmconv.formats.choice import META, Choice
from tvmconv.schedules import cpu, cuda
from tvmconv.schedules.machines import resolve
from tvmconv.schedules.plan import strategies
from tvmconv.specs.kinds import parse_spec

SPECS = (
    "conv2d:1x14x13x16:o20:k3x3:p1:NHWC:float32:bias:relu", "conv2d:1x16x14x13:o20:k3x3:p1:NCHW:float16",
    "conv2d:1x15x17x24:o24:k3x3:p1:g24:NHWC:float32", "conv2d:1x32x14x14:o32:k1x1:NCHW:uint8/int8:bias",
    "conv2d:1x14x14x16:o20:k3x3:p1:NHWC:int8/int32", "tconv2d:1x7x7x16:o20:k4x4:s2:p1:NHWC:float32",
    "tconv2d:1x16x7x7:o20:k3x3:p1:NCHW:float32", "tconv2d:1x7x7x16:o20:k4x4:s2:p1:NHWC:uint8/int8",
    "deform2d:1x16x9x9:o20:k3x3:p1:og2:mask:bias:NCHW:float32",
    "maxpool2d:1x13x13x24:k3x3:s2:p1:NHWC:float32", "avgpool2d:1x7x7x40:k7x7:NHWC:float32",
)  # fmt: skip


@pytest.mark.parametrize("target", ["x86-64-v3", "cortex-a72", "cuda-sm_90"])
def test_every_strategy_that_is_worth_trying_schedules(target: str) -> None:
    """By its default point, under its own name, with an algorithm whose definition it knows."""
    machine = resolve(target)
    for text in SPECS:
        spec = parse_spec(text)
        names = list(codegen.spaces(spec, machine))
        assert codegen.scheduled(spec, machine).schedule["strategy"] == names[0]
        for name in names:
            made = codegen.scheduled(spec, machine, Choice(name, {}))
            assert made.schedule["strategy"] == name
            assert len(made.kernel.params) == len(made.inputs) + len(made.packed) + 1


@pytest.mark.parametrize("backend", [cpu, cuda])
def test_names_are_unique(backend) -> None:
    """A log names a strategy by a layer and a word; a transposed layer may also be an ordinary one."""
    for families in (("conv", "transposed"), ("integer",), ("integer_transposed",), ("deform",), ("pool",)):
        found = {id(row.strategy): row.strategy.STRATEGY
                 for (family, _), rows in backend.TABLE.items() if family in families for row in rows}
        assert found and len(set(found.values())) == len(found), families


def test_an_algorithm_that_is_asked_for_is_taken_where_nothing_fits() -> None:
    """The columns of a pointwise convolution are x itself: the tuner had no space for it."""
    spec, machine = parse_spec("conv2d:1x8x8x16:o8:k1x1:NHWC:float32:im2col"), resolve("x86-64-v3")
    assert codegen.scheduled(spec, machine).schedule["algorithm"] == "im2col"
    assert list(codegen.spaces(spec, machine)) == ["im2col"]


def test_points_of_no_knobs_are_no_space() -> None:
    spec, machine = parse_spec(SPECS[0]), resolve("x86-64-v3")
    assert META not in codegen.spaces(spec, machine)
    from tvmconv.compiler.ops.problem import problem_of

    assert META in [strategy.STRATEGY for strategy in strategies(problem_of(spec), machine)]


@pytest.mark.parametrize(("target", "other"), [("cuda-sm_90", "cpu"), ("x86-64-v3", "cuda")])
def test_a_compile_needs_one_backend(target: str, other: str) -> None:
    """Of every family; in a process of its own, which has imported nothing before."""
    program = (
        "import sys\n"
        "from tvmconv.compiler.codegen import build_kernel, scheduled, spaces\n"
        "from tvmconv.schedules.machines import resolve\n"
        "from tvmconv.specs.kinds import parse_spec\n"
        f"machine = resolve({target!r})\n"
        f"for text in {SPECS!r}:\n"
        "    spaces(parse_spec(text), machine), scheduled(parse_spec(text), machine)\n"
        "build_kernel(parse_spec(text), machine)\n"
        f"assert 'tvmconv.schedules.{other}' not in sys.modules\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TVMCONV_NVCC": "none"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
