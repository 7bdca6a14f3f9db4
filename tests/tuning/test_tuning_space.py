"""Search spaces: the default point is in each, points replay, random ones compile to right kernels."""

from __future__ import annotations

import math
import random

import pytest

from tvmconv.compiler import codegen
from tvmconv.compiler.artifact.library import Library
from tvmconv.formats.choice import Choice
from tvmconv.formats.logs.traces import read
from tvmconv.frontends.verify import verify
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import parse_spec
from tvmconv.tuning.search.space import TuningSpace

SPECS = (
    "conv2d:1x15x17x24:o24:k3x3:p1:g24:NHWC:float32:bias:relu6", "conv2d:1x9x10x20:o40:k1x1:NHWC:float32",
    "conv2d:1x14x13x16:o20:k3x3:p1:NHWC:float32", "conv2d:1x16x14x13:o20:k3x3:p1:NCHW:float32",
    "conv2d:1x12x15x17:o12:k5x5:s2:p2:g12:NCHW:float32", "conv2d:1x20x9x10:o40:k1x1:NCHW:float32",
    "conv2d:1x14x14x16:o20:k3x3:p1:NHWC:int8/int32", "tconv2d:1x7x7x16:o20:k4x4:s2:p1:NHWC:float32",
    "tconv2d:1x16x7x7:o20:k4x4:s2:p1:NCHW:float32",
    "deform2d:1x16x9x9:o20:k3x3:p1:og2:mask:bias:NCHW:float32",
    "maxpool2d:1x13x13x24:k3x3:s2:p1:NHWC:float32", "avgpool2d:1x24x13x13:k3x3:s2:p1:NCHW:float32",
    "avgpool2d:1x7x7x40:k7x7:NHWC:float32", "conv3d:1x7x4x7x24:o20:k3x1x1:p1x0x0:NHWC:float32",
)  # fmt: skip


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4", "cortex-a72"])
def test_the_default_point_is_in_the_space_and_replays(target: str) -> None:
    machine = resolve(target)
    for descriptor in SPECS:
        spec = parse_spec(descriptor)
        made = codegen.scheduled(spec, machine).schedule
        space = codegen.spaces(spec, machine)[made["strategy"]]
        assert space.keys() == made["point"].keys()
        choice = Choice(made["strategy"], made["point"])
        assert codegen.scheduled(spec, machine, choice).schedule["point"] == made["point"]
        assert TuningSpace(spec, machine).holds(choice)


def test_spaces_have_points_enough() -> None:
    machine = resolve("x86-64-v4")
    for descriptor in SPECS[:5]:
        spaces = codegen.spaces(parse_spec(descriptor), machine)
        assert 50 < sum(math.prod(map(len, space.values())) for space in spaces.values()) < 20_000


@pytest.mark.parametrize("descriptor", SPECS)
def test_random_points_are_right(descriptor: str) -> None:
    spec, machine = parse_spec(descriptor), resolve("native")
    rng = random.Random(descriptor)
    kernels = {}
    for strategy, space in codegen.spaces(spec, machine).items():
        while sum(kernel.schedule["strategy"] == strategy for kernel in kernels.values()) < 2:
            choice = Choice(strategy, {knob: rng.choice(values) for knob, values in space.items()})
            name = f"p{len(kernels)}"
            try:
                kernels[name] = codegen.build_kernel(spec, machine, choice, f"k_{name}")
            except ValueError:
                continue
            assert kernels[name].schedule["point"] == choice.point
    for check in verify(Library(kernels, machine).load()):
        assert check.ok, (kernels[check.name].schedule, check)


@pytest.mark.parametrize(
    ("strategy", "point", "said"),
    [
        ("direct_last", {"width": 999}, "width: 999"), ("direct_last", {"block": 3}, "block: 3"),
        ("direct_last", {"order": "up"}, "order: 'up'"), ("direct_last", {"wide": 1}, "knob 'wide'"),
        ("direct_last", {"width": "4"}, "width: '4'"), ("im2row", {}, "strategy 'im2row'"),
    ],
)  # fmt: skip
def test_points_that_do_not_fit(strategy: str, point: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        codegen.scheduled(parse_spec(SPECS[1]), resolve("x86-64-v3"), Choice(strategy, point))


def test_a_point_goes_through_a_trace() -> None:
    """Out of meta_schedule's JSON comes what went in, words as well as numbers."""
    for descriptor in SPECS:
        spec = parse_spec(descriptor)
        space = TuningSpace(spec, resolve("x86-64-v3"))
        trace = space.schedule(space.default).trace
        assert read(trace.as_json()) == (str(spec), space.default, None)
        assert space.choice_of(trace) == space.default
