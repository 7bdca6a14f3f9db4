"""Deformable convolution: a thread for each pixel and some output channels; each thread samples what its taps
read, for each of its channels."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.deform import Columns, DeformProblem
from tvmconv.compiler.ops.packing import Packing
from tvmconv.schedules.cuda.tiles import divisor, divisors, spread
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.plan import Plan, Space, require_divides, require_within, settled

STRATEGY = "deform_sampled"
_CHANNELS = 8  # per thread: how often each of its samples is used


def fits(p: DeformProblem, machine: GpuMachine) -> bool:
    """Whether the strategy takes ``p``: it takes everything."""
    return True


def space(p: DeformProblem, machine: GpuMachine) -> Space:
    """Output channels that a thread computes."""
    return {"block": divisors(p.out_group, 4 * _CHANNELS)}


def plan_of(p: DeformProblem, machine: GpuMachine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for the default point, or for ``point``; ValueError if that does not fit. A thread computes
    one pixel and some output channels."""
    point = settled(point, {"block": divisor(p.out_group, _CHANNELS)})
    require_divides(point, block=p.out_group)
    require_within(point, block=4 * _CHANNELS)
    algorithm, packing = Columns(), Packing(point["block"])
    return Plan(STRATEGY, algorithm, packing, lambda sch: schedule(sch, algorithm.tiled(p, packing)), point)


def schedule(sch: Schedule, p: DeformProblem) -> None:
    sch.compute_inline(sch.get_sblock("image"))
    columns, sums, y = map(sch.get_sblock, ("columns", "sums", "y"))
    n, g, o, pixel = sch.get_loops(y)
    oo, oi = sch.split(o, [None, p.block], preserve_unit_iters=True)
    sch.reorder(n, g, oo, pixel, oi)
    sch.unroll(oi)
    sch.compute_at(sums, pixel, preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    channel, t, i = sch.get_loops(sums)[-3:]
    an_offset_group = p.spec.in_channels // p.spec.offset_groups
    part, i = sch.split(i, [None, gcd(p.in_group, an_offset_group)], preserve_unit_iters=True)
    sch.reorder(t, part, i, channel)
    sch.unroll(channel)
    sch.compute_at(columns, i, preserve_unit_loops=True)
    sch.set_scope(columns, 0, "local")
    for block in map(sch.get_sblock, ("past1", "past0", "place1", "place0")):
        sch.compute_at(block, part, preserve_unit_loops=True)
        sch.set_scope(block, 0, "local")
    sch.decompose_reduction(sums, t)
    spread(sch, [n, g, oo, pixel])
