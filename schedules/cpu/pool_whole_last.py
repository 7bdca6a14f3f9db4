"""Pooling of a whole image, channels last: rows, then the sums of rows, in vectors of channels; parallel over
channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.base.dtypes import ITEMSIZE
from tvmconv.base.memory import LINE
from tvmconv.compiler.ops.pool_problem import PoolProblem
from tvmconv.compiler.ops.pooling import Pooling, whole_last_func
from tvmconv.schedules.cpu.tiles import FEWEST_TASKS, peel_tail, run_parallel, vector_tile
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Plan,
    Space,
    require_block,
    settled,
)

STRATEGY = "pool_whole_last"


def fits(p: PoolProblem, machine: Machine) -> bool:
    return p.whole and p.channels > 1


def space(p: PoolProblem, machine: Machine) -> Space:
    lanes = machine.lanes(p.acc_bytes)
    return {"block": sorted({min(v * lanes, p.channels) for v in range(1, 9)})}


def plan_of(p: PoolProblem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: channels of a task. Raises ValueError where it does not fit."""
    lanes = machine.lanes(p.acc_bytes)
    line = -(-LINE // (lanes * ITEMSIZE[p.dtype]))  # vectors; tasks that share it would each read it
    vectors = max(line, min(8, p.batch * -(-p.channels // lanes) // FEWEST_TASKS))
    point = settled(point, {"block": min(vectors * lanes, p.channels)})
    require_block(point, lanes, p.channels)
    algorithm = Pooling(whole_last_func)
    return Plan(STRATEGY, algorithm, None, lambda sch: schedule(sch, p, lanes, **point), point)


def schedule(sch: Schedule, p: PoolProblem, lanes: int, *, block: int) -> None:
    y, sums, row = (sch.get_sblock(name) for name in ("y", "pool", "row"))
    n, _, _, c = sch.get_loops(y)
    co, ci = sch.split(c, [None, block], preserve_unit_iters=True)
    sch.reorder(n, co, ci)
    peel_tail(sch, co, p.channels, block)
    vector_tile(sch, ci, lanes, block)
    run_parallel(sch, p, [n, co])
    sch.compute_at(sums, co, preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    channel, r = sch.get_loops(sums)[-2:]
    vec, lane = vector_tile(sch, channel, lanes, block)
    sch.reorder(r, vec, lane)
    sch.compute_at(row, r, preserve_unit_loops=True)
    sch.set_scope(row, 0, "local")
    channel, q = sch.get_loops(row)[-2:]
    vec, lane = vector_tile(sch, channel, lanes, block)
    sch.reorder(q, vec, lane)
    sch.decompose_reduction(row, q)
    sch.decompose_reduction(sums, r)
