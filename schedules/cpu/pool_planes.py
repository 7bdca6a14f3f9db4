"""Pooling of planes: windows first along columns, in vectors along the row of x, then along the results for a
strip of rows."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.lower.loops import VECTORS
from tvmconv.compiler.ops.pool_problem import PoolProblem
from tvmconv.compiler.ops.pooling import Pooling, planes_func
from tvmconv.schedules.cpu.tiles import (
    FEWEST_TASKS,
    border_tiles,
    divisor,
    height,
    peel_at,
    peel_borders,
    peel_tail,
    run_parallel,
    unroll_taps,
    vector_tile,
)
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Plan,
    Space,
    at_most,
    require_divides,
    require_within,
    settled,
)

STRATEGY = "pool_planes"
_LONGEST_UNROLLED = 16  # taps


def fits(p: PoolProblem, machine: Machine) -> bool:
    return not p.whole and p.channels == 1


def space(p: PoolProblem, machine: Machine) -> Space:
    default, width = plan_of(p, machine).point, -(-p.out_spatial[-1] // machine.lanes(p.acc_bytes))
    return {
        "rows": [n for n in at_most(height(p), default["rows"]) if height(p) % n == 0],
        "vectors": list(range(1, min(width, 4) + 1)),
    }


def plan_of(p: PoolProblem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: rows of a strip, vectors of the register tile. Raises ValueError where it does
    not fit."""
    lanes = machine.lanes(p.acc_bytes)
    width = -(-p.out_spatial[-1] // lanes)
    # Columns are written some time before they are read: a load that spans fresh stores waits for them.
    size = p.acc_bytes * (p.spatial[-1] + sum(p.pad[-1]))
    most = height(p) * p.batch // FEWEST_TASKS
    rows = divisor(height(p), min(most, machine.l1 // 2 // size))
    if rows < 4:
        rows = divisor(height(p), min(most, machine.l2 // 2 // size))
    point = settled(point, {"rows": rows, "vectors": min(width, 2)})
    require_divides(point, rows=height(p))
    require_within(point, vectors=min(width, machine.vector_registers - 2))
    algorithm = Pooling(planes_func)
    return Plan(STRATEGY, algorithm, None, lambda sch: schedule(sch, p, lanes, **point), point)


def schedule(sch: Schedule, p: PoolProblem, lanes: int, rows: int, vectors: int) -> None:
    y, sums, column = (sch.get_sblock(name) for name in ("y", "pool", "column"))
    rank, width = len(p.spatial), p.out_spatial[-1]
    n, *outer, x, c = sch.get_loops(y)
    strip = []
    if outer:
        ro, ri = sch.split(outer[-1], [None, rows], preserve_unit_iters=True)
        peel_borders(sch, ro, p, rank - 2, rows)
        outer, strip = [*outer[:-1], ro], [ri]
    span = min(lanes * vectors, width)
    xo, xi = sch.split(x, [None, span], preserve_unit_iters=True)
    sch.reorder(n, *outer, *strip, xo, c, xi)
    peel_tail(sch, xo, width, span)
    vector_tile(sch, xi, lanes, span)
    run_parallel(sch, p, [n, *outer])
    sch.compute_at(sums, xo, preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    own = sch.get_loops(sums)[-(rank + 3):]
    vec, lane = vector_tile(sch, own[rank], lanes, span)
    sch.reorder(own[-1], own[rank + 1], vec, lane)
    if p.kernel[-1] <= _LONGEST_UNROLLED:
        sch.unroll(own[-1])
    sch.decompose_reduction(sums, own[-1])
    if prod(p.kernel[:-1]) == 1 and not p.padded and not p.widened:
        sch.compute_inline(column)
    else:
        _columns(sch, p, column, [n, *outer][-1], lanes, rows)


def _columns(sch: Schedule, p: PoolProblem, column, at, lanes: int, rows: int) -> None:
    """The columns of a strip: rows that see no padding separate from the others, with vectors along them."""
    rank, taps = len(p.spatial), [k for k in p.kernel[:-1] if k > 1]
    sch.compute_at(column, at, preserve_unit_loops=True)
    own = sch.get_loops(column)[-(rank + 1 + len(taps)):]
    place, reduced = own[rank - 1], own[rank + 1 :]
    lo = p.pad[-1][0]
    peel_at(sch, place, int(sch.get(place).extent), [lo, lo + p.spatial[-1]])
    sch.annotate(place, VECTORS, lanes)
    if rank > 1:
        first, last = border_tiles(p, rank - 2, 1)
        peel_at(sch, own[rank - 2], rows, [first % rows, last % rows])
    unroll_taps(sch, taps, reduced)
    if reduced:
        sch.decompose_reduction(column, reduced[0])
