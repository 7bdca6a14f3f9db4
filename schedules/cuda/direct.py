"""Any convolution: each thread keeps the sums of some output channels, or pixels by channels, in registers
and reads x and the weights through the caches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.direct import ALGORITHM
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cuda.tiles import (
    divisor,
    divisors,
    inline_pad,
    spread,
    vectorized,
    window_at,
    written_out,
)
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.plan import Plan, Space, at_most, require_divides, require_within, settled

STRATEGY = "direct"
_MOST_WRITTEN_OUT = 64  # multiply-adds


def fits(p: Problem, machine: GpuMachine) -> bool:
    """Whether the strategy takes ``p``: it takes everything."""
    return True


def space(p: Problem, machine: GpuMachine) -> Space:
    """Output channels, and pixels along a row, that a thread computes."""
    return {"channels": divisors(p.out_group, 4), "width": at_most(min(p.out_spatial[-1], 8))}


def plan_of(p: Problem, machine: GpuMachine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for the default point, or for ``point``; ValueError if that does not fit."""
    width = 4 if p.channels_last and p.out_spatial[-1] >= 16 else 1
    point = settled(point, {"channels": divisor(p.out_group, 4), "width": width})
    require_divides(point, channels=p.out_group)
    require_within(point, channels=4, width=p.out_spatial[-1])
    return Plan(STRATEGY, ALGORITHM, Packing(point["channels"]), lambda sch: schedule(sch, p, **point), point)


def schedule(sch: Schedule, p: Problem, channels: int, width: int) -> None:
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    inline_pad(sch)
    if p.channels_last:
        *outer, x, g, o = sch.get_loops(y)
    else:
        n, g, o, *outer, x = sch.get_loops(y)
    oo, oi = sch.split(o, [None, channels], preserve_unit_iters=True)
    xo, xi = sch.split(x, [None, width], preserve_unit_iters=True)
    order = [*outer, xo, g, oo] if p.channels_last else [n, g, oo, *outer, xo]
    sch.reorder(*order, xi, oi)
    written_out(sch, [xi])
    if p.channels_last:
        vectorized(sch, oi, channels)
    else:
        sch.unroll(oi)
    sch.compute_at(conv, order[-1], preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    rank = len(p.spatial)
    own = sch.get_loops(conv)[-(2 * rank + 4):]
    pixel, channel = (own[rank], own[rank + 2]) if p.channels_last else (own[rank + 2], own[2])
    taps, i = own[rank + 3 : -1], own[-1]
    sch.reorder(*taps, i, pixel, channel)
    sch.unroll(pixel)
    vectorized(sch, channel, channels)
    if p.taps * width <= _MOST_WRITTEN_OUT:
        written_out(sch, taps)
    window_at(sch, order[-1])
    sch.decompose_reduction(conv, taps[0])
    spread(sch, order)
