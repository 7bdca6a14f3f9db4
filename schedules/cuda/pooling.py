"""Pooling: a thread for each vector of channels, or for each element of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.pool_problem import PoolProblem
from tvmconv.compiler.ops.pooling import Pooling, windows_func
from tvmconv.schedules.cuda.tiles import VECTOR_BYTES, divisor, divisors, inline_pad, spread
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.plan import Plan, Space, require_divides, require_within, settled

STRATEGY = "pool"


def fits(p: PoolProblem, machine: GpuMachine) -> bool:
    """Whether the strategy takes ``p``: it takes everything."""
    return True


def space(p: PoolProblem, machine: GpuMachine) -> Space:
    """Channels that a thread computes."""
    return {"channels": divisors(p.channels, 4)}


def plan_of(p: PoolProblem, machine: GpuMachine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for the default point, or for ``point``; ValueError if that does not fit."""
    point = settled(point, {"channels": divisor(p.channels, VECTOR_BYTES // max(p.acc_bytes, 4))})
    require_divides(point, channels=p.channels)
    require_within(point, channels=4)
    return Plan(STRATEGY, Pooling(windows_func), None, lambda sch: schedule(sch, p, **point), point)


def schedule(sch: Schedule, p: PoolProblem, channels: int) -> None:
    y, found = sch.get_sblock("y"), sch.get_sblock("pool")
    inline_pad(sch)
    *outer, c = sch.get_loops(y)
    co, ci = sch.split(c, [None, channels], preserve_unit_iters=True)
    sch.unroll(ci)
    sch.compute_at(found, co, preserve_unit_loops=True)
    sch.set_scope(found, 0, "local")
    own = sch.get_loops(found)[-(2 * len(p.spatial) + 1):]
    channel, taps = own[-1 - len(p.spatial)], own[-len(p.spatial) :]
    sch.reorder(*taps, channel)
    sch.unroll(channel)
    sch.decompose_reduction(found, taps[0])
    spread(sch, [*outer, co])
