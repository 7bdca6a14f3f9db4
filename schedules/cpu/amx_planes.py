"""Channels-first convolution of 8-bit integers by AMX: tiles of output channels by pixels along a row, of x
as ``planes`` copies it, or ``phases`` where there is a stride: words of neighbours are side by side. Sums are
then planes already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.lower.amx import COLUMNS, DEPTH, ROWS, TILE, TILES
from tvmconv.compiler.lower.chosen_once import ONCE
from tvmconv.compiler.ops import direct, phases
from tvmconv.compiler.ops.integer import over_words
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cpu import phases as by_phase
from tvmconv.schedules.cpu import planes
from tvmconv.schedules.cpu.amx_last import SIDE, SUMS, are_full, depth, dot_of, require_sums, strip_of
from tvmconv.schedules.cpu.tiles import (
    evenly,
    height,
    peel_strips,
    peel_tail,
    run_parallel,
    stage,
    vector_tile,
)
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan, Space, require_within, settled

STRATEGY = "amx_planes"
_WORTH, _FEWEST = 48, 8  # words in a tile of x, and in a sum: vectors are as fast with fewer


def fits(p: Problem, machine: Machine) -> bool:
    return machine.amx and not p.channels_last


def pays(p: Problem, machine: Machine) -> bool:
    """If there is enough to do for each tile of sums, beside storing it."""
    return are_full(p, _columns(p), _WORTH, _FEWEST)


def space(p: Problem, machine: Machine) -> Space:
    default = plan_of(p, machine).point
    return {
        "columns": sorted({evenly(p.out_spatial[-1], most) for most in (8, 12, 14, 16)}),
        "across": [1, 2, 4],
        "high": [1, 2, 4] if len(p.spatial) > 1 else [1],
        "block": sorted({min(n * SIDE, p.out_group) for n in range(1, 5)}),
        "strip": sorted({1, 2, 4, 8, default["strip"]}) if len(p.spatial) > 1 else [1],
    }


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: pixels of a tile; tiles side by side, and rows of the image, whose sums are
    made together for ``block`` channels; as many of those to a task. Raises ValueError where it does not
    fit."""
    dot, columns = dot_of(p), _columns(p)
    wide = min(2, -(-p.out_group // SIDE))
    across = min(SUMS // wide, -(-p.out_spatial[-1] // columns))
    high, block = min(SUMS // wide // across, height(p)), min(wide * SIDE, p.out_group)
    strip = strip_of(p, columns * across, high, block) if len(p.spatial) > 1 else 1
    default = {"columns": columns, "across": across, "high": high, "block": block, "strip": strip}
    point = settled(point, default)
    require_within(point, columns=min(SIDE, p.out_spatial[-1]), high=height(p), block=p.out_group,
                   strip=height(p))  # fmt: skip
    require_sums(p, point)
    packing = Packing(point["block"], deep=depth(p))
    of = phases.ALGORITHM if p.stride[-1] > 1 else direct.ALGORITHM
    algorithm = over_words(of, dot, chooses=True)
    return Plan(STRATEGY, algorithm, packing, lambda sch: schedule(sch, p, machine, **point), point)


def _columns(p: Problem) -> int:
    """Pixels of a tile."""
    return min(SIDE, p.out_spatial[-1])


def schedule(
    sch: Schedule, p: Problem, machine: Machine, columns: int, across: int, high: int, block: int, strip: int
) -> None:
    dot, rank, lanes = dot_of(p), len(p.spatial), machine.lanes()
    y, conv, copy = sch.get_sblock("y"), sch.get_sblock("conv"), stage(sch, "pad")
    n, g, o, *outer, x = sch.get_loops(y)
    span = min(columns * across, p.out_spatial[-1])
    oo, oi = sch.split(o, [None, block], preserve_unit_iters=True)
    xo, xi = sch.split(x, [None, span], preserve_unit_iters=True)
    peel_tail(sch, oo, p.out_group, block)
    peel_tail(sch, xo, p.out_spatial[-1], span)
    strips, rows = [], []
    if outer:
        ro, ri = sch.split(outer.pop(), [None, high], preserve_unit_iters=True)
        task, ro = sch.split(ro, [None, strip], preserve_unit_iters=True)
        peel_strips(sch, task, ro, p.out_spatial[-2], high, strip)
        outer, strips, rows = [*outer, task], [ro], [ri]
    tasks = [n, g, oo, *outer]
    sch.reorder(*tasks, *strips, xo, oi, *rows, xi)
    sch.annotate(oi, ONCE, 1)  # the loops over the outputs of a tile
    run_parallel(sch, p, tasks if outer else [*tasks, xo])
    planes.copy_padded(sch, p, copy, by_phase.sort_rows(lanes) if p.stride[-1] > 1 else None)
    sch.compute_at(conv, xo, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    vector_tile(sch, xi, lanes, span)  # not before, or sums are made for whole vectors
    own = sch.get_loops(conv)[-(2 * rank + 4) :]
    channel, pixel, offsets, i = own[2], own[rank + 2], own[rank + 3 : -1], own[-1]
    row = own[rank + 1] if rank > 1 else None
    part, column = sch.split(pixel, [None, columns], preserve_unit_iters=True)
    wide, one = sch.split(channel, [None, SIDE], preserve_unit_iters=True)
    io, word = sch.split(i, [None, depth(p)], preserve_unit_iters=True)
    sch.reorder(*offsets, io, *([row] if row else []), part, wide, one, column, word)
    sch.annotate(offsets[0], TILES, dot.turned)
    for loop, role in ((one, ROWS), (column, COLUMNS), (word, DEPTH)):
        sch.annotate(loop, TILE, role)
    sch.decompose_reduction(conv, offsets[0])
    planes.sum_windows(sch, p, sch.get_sblock("window"), xo, lanes, span)
