"""Transposed convolution: a thread for each position, phase and some output channels, sums in registers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.transposed import PhaseSums
from tvmconv.compiler.ops.transposed_problem import TransposedPacking, TransposedProblem
from tvmconv.schedules.cuda.tiles import divisor, divisors, inline_pad, spread, vectorized
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.plan import Plan, Space, require_divides, require_within, settled

STRATEGY = "transposed"


def fits(p: TransposedProblem, machine: GpuMachine) -> bool:
    """Whether the strategy takes ``p``: it takes everything."""
    return True


def space(p: TransposedProblem, machine: GpuMachine) -> Space:
    """Output channels that a thread computes."""
    return {"channels": divisors(p.out_group, 4)}


def plan_of(p: TransposedProblem, machine: GpuMachine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for the default point, or for ``point``; ValueError if that does not fit."""
    point = settled(point, {"channels": divisor(p.out_group, 4)})
    require_divides(point, channels=p.out_group)
    require_within(point, channels=4)
    packing = TransposedPacking(point["channels"])
    return Plan(STRATEGY, PhaseSums(), packing, lambda sch: schedule(sch, p, **point), point)


def schedule(sch: Schedule, p: TransposedProblem, channels: int) -> None:
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    sch.compute_inline(sch.get_sblock("phase"))
    inline_pad(sch)
    *outer, g, o = sch.get_loops(y)
    oo, oi = sch.split(o, [None, channels], preserve_unit_iters=True)
    if not p.channels_last:  # neighbours in a row of y belong to neighbouring threads
        rank = len(p.spatial)
        n, q, r = outer[0], outer[1 : rank + 1], outer[rank + 1 :]
        places = [loop for pair in zip(q, r, strict=True) for loop in pair]
        outer = [n, g, oo, *places]
        sch.reorder(*outer, oi)
        sch.unroll(oi)
    else:
        outer = [*outer, g, oo]
        vectorized(sch, oi, channels)
    sch.compute_at(conv, outer[-1], preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    rank = len(p.spatial)
    own = sch.get_loops(conv)[-(3 * rank + 4):]
    channel, taps, i = own[2 * rank + 2], own[2 * rank + 3 : -1], own[-1]
    sch.reorder(*taps, i, channel)
    vectorized(sch, channel, channels)
    sch.decompose_reduction(conv, taps[0])
    spread(sch, outer)
