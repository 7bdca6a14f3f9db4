"""Pooling of a whole plane: several independent partial results along it, combined at the end; parallel over
channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.pool_problem import PoolProblem
from tvmconv.compiler.ops.pooling import Pooling, whole_plane_func
from tvmconv.schedules.cpu.tiles import FEWEST_TASKS, divisor, peel_tail, run_parallel, vector_tile
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Plan,
    Space,
    at_most,
    require_divides,
    require_within,
    settled,
)

STRATEGY = "pool_whole_plane"


def fits(p: PoolProblem, machine: Machine) -> bool:
    return p.whole and p.channels == 1


def space(p: PoolProblem, machine: Machine) -> Space:
    default = plan_of(p, machine).point
    return {
        "strands": list(range(1, min(machine.vector_registers - 2, 8) + 1)),
        "planes": [n for n in at_most(p.batch, default["planes"]) if p.batch % n == 0],
    }


def plan_of(p: PoolProblem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: vectors of strands, planes of a task. Raises ValueError where it does not
    fit."""
    lanes, size = machine.lanes(p.acc_bytes), p.spatial[0]
    while lanes > size:
        lanes //= 2
    # Memory for the strands is allocated once per task, so a task has several planes.
    planes = divisor(p.batch, p.batch // (2 * FEWEST_TASKS))
    point = settled(point, {"strands": min(4, size // lanes), "planes": planes})
    require_divides(point, planes=p.batch)
    require_within(point, strands=size // lanes)
    algorithm = Pooling(whole_plane_func, (lanes * point["strands"], lanes))
    return Plan(STRATEGY, algorithm, None, lambda sch: schedule(sch, p, lanes, **point), point)


def schedule(sch: Schedule, p: PoolProblem, lanes: int, *, strands: int, planes: int) -> None:
    size, span = p.spatial[0], lanes * strands
    y = sch.get_sblock("y")
    no, n = sch.split(sch.get_loops(y)[0], [None, planes], preserve_unit_iters=True)
    run_parallel(sch, p, [no])
    names = [sch.get(b).name_hint for b in sch.get_child_blocks(sch.get_sblock("root"))]
    for name in reversed([name for name in names if name.startswith("half")]):
        block = sch.get_sblock(name)
        sch.compute_at(block, n, preserve_unit_loops=True)
        sch.set_scope(block, 0, "local")
        loop = sch.get_loops(block)[-1]
        if int(sch.get(loop).extent) > 1:
            sch.vectorize(loop)
    part = sch.get_sblock("part")
    sch.compute_at(part, n, preserve_unit_loops=True)
    sch.set_scope(part, 0, "local")
    strand, k = sch.get_loops(part)[-2:]
    peel_tail(sch, k, size, span)
    vec, lane = vector_tile(sch, strand, lanes, span)
    sch.reorder(k, vec, lane)
    sch.decompose_reduction(part, k)
