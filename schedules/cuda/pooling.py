"""Pooling: a thread for each vector of channels, or for each element of a row."""

from __future__ import annotations

from tvm.s_tir import Schedule

from tvmconv.compiler.ops import pooling as pool
from tvmconv.compiler.ops.pooling import PoolProblem
from tvmconv.formats.choice import Choice
from tvmconv.schedules.cpu.pooling import PoolPlan
from tvmconv.schedules.cuda.tiles import VECTOR_BYTES, divisor, divisors, inline_pad, spread
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.plan import Space, require, require_divides, require_within, settled

STRATEGY = "pool"


def spaces(p: PoolProblem, machine: GpuMachine) -> dict[str, Space]:
    """The space of the strategy for ``p``, by its name: channels that a thread computes."""
    return {STRATEGY: {"channels": divisors(p.channels, 4)}}


def plan(p: PoolProblem, machine: GpuMachine, choice: Choice | None = None) -> PoolPlan:
    """The plan for ``p``; every pooling has one. Raises ValueError where ``choice`` does not fit."""
    if choice is not None:
        require(choice.strategy == STRATEGY, {"strategy": choice.strategy}, "strategy", STRATEGY)
    default = {"channels": divisor(p.channels, VECTOR_BYTES // max(p.acc_bytes, 4))}
    point = settled(None if choice is None else choice.point, default)
    require_divides(point, channels=p.channels)
    require_within(point, channels=4)
    sch = Schedule(pool.windows_func(p))
    schedule(sch, p, **point)
    return PoolPlan(sch.mod["main"], STRATEGY, point)


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
