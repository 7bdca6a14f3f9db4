"""Pooling, channels last: vectors of channels, a register tile of pixels, no padded copy. Where windows
overlap, the columns that they share are pooled once, in registers."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.pool_problem import PoolProblem
from tvmconv.compiler.ops.pooling import Pooling, columns_func, has_columns, windows_func
from tvmconv.schedules.cpu.tiles import (
    FEWEST_TASKS,
    height,
    peel_borders,
    peel_tail,
    run_parallel,
    stage,
    unroll_taps,
    vector_tile,
)
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Plan,
    Space,
    at_most,
    require_block,
    require_registers,
    require_within,
    settled,
)

STRATEGY = "pool_last"


def fits(p: PoolProblem, machine: Machine) -> bool:
    return not p.whole and p.channels > 1


def space(p: PoolProblem, machine: Machine) -> Space:
    default, lanes = plan_of(p, machine).point, machine.lanes(p.acc_bytes)
    return {
        "rows": at_most(height(p), default["rows"]),
        "width": list(range(1, min(p.out_spatial[-1], 8) + 1)),
        "block": sorted({min(v * lanes, p.channels) for v in range(1, 9)}),
    }


def plan_of(p: PoolProblem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: rows of a strip, pixels and channels of the register tile. Raises ValueError
    where it does not fit."""
    lanes = machine.lanes(p.acc_bytes)
    have = -(-p.channels // lanes)
    vectors = min(4 if p.out_spatial[-1] <= 14 else 2, have)
    width = max(1, min(machine.vector_registers // 2 // vectors, 4, p.out_spatial[-1]))
    room = (machine.vector_registers - 2) // vectors  # for columns
    fit = [w for w in range(2, width + 1) if _shares_columns(p, w) and _columns(p, w) <= room]
    width = max(fit, default=width)
    block = min(vectors * lanes, p.channels)
    others = p.batch * prod(p.out_spatial[:-2]) * -(-p.channels // block)
    rows = -(-height(p) // min(height(p), -(-FEWEST_TASKS // others)))
    point = settled(point, {"rows": rows, "width": width, "block": block})
    require_within(point, rows=height(p), width=p.out_spatial[-1])
    require_block(point, lanes, p.channels)
    sums = point["width"] * -(-point["block"] // lanes)
    require_registers(point, "width", sums, machine.vector_registers)
    fits_registers = _columns(p, point["width"]) * sums // point["width"] < machine.vector_registers
    by_columns = _shares_columns(p, point["width"]) and fits_registers
    algorithm = Pooling(columns_func if by_columns else windows_func)
    return Plan(STRATEGY, algorithm, None, lambda sch: schedule(sch, p, lanes, **point), point)


def _columns(p: PoolProblem, width: int) -> int:
    """Columns that the windows of ``width`` neighbouring results cover."""
    return (width - 1) * p.stride[-1] + (p.kernel[-1] - 1) * p.dilation[-1] + 1


def _shares_columns(p: PoolProblem, width: int) -> bool:
    return has_columns(p) and _columns(p, width) < p.kernel[-1] * width


def schedule(sch: Schedule, p: PoolProblem, lanes: int, rows: int, width: int, block: int) -> None:
    y, column = sch.get_sblock("y"), stage(sch, "column")
    if column is None and (p.padded or p.widened):
        sch.compute_inline(sch.get_sblock("pad"))
    rank = len(p.spatial)
    n, *outer, x, c = sch.get_loops(y)
    xo, xi = sch.split(x, [None, width], preserve_unit_iters=True)
    co, ci = sch.split(c, [None, block], preserve_unit_iters=True)
    strip = []
    if outer:
        ro, ri = sch.split(outer[-1], [None, rows], preserve_unit_iters=True)
        outer, strip = [*outer[:-1], ro], [ri]
    sch.reorder(n, *outer, co, xo, *strip, xi, ci)
    peel_borders(sch, xo, p, rank - 1, width)
    peel_tail(sch, co, p.channels, block)
    vector_tile(sch, ci, lanes, block)
    sch.unroll(xi)
    run_parallel(sch, p, [n, *outer, co])
    at = strip[0] if strip else xo
    if column is not None:
        sch.compute_at(column, at, preserve_unit_loops=True)
        sch.set_scope(column, 0, "local")
        *_, place, channel = sch.get_loops(column)
        sch.unroll(place)
        vector_tile(sch, channel, lanes, block)
        return
    sums = sch.get_sblock("pool")
    sch.compute_at(sums, at, preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    own = sch.get_loops(sums)[-(2 * rank + 2):]
    pixels, channel, taps = own[1 : rank + 1], own[rank + 1], own[rank + 2 :]
    vec, lane = vector_tile(sch, channel, lanes, block)
    sch.reorder(*taps, *pixels, vec, lane)
    for loop in pixels:
        sch.unroll(loop)
    unroll_taps(sch, p.kernel, taps)
    sch.decompose_reduction(sums, taps[0])
