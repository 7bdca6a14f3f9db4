"""Channels-last convolution in many groups, depthwise above all: vectors hold the output channels of several
groups, a register tile has pixels by vectors, and there is no padded copy.

Each input vector of the tile is loaded once for all the taps and pixels that use it. Tiles that meet a border
of the image are written out apart, so that the others have no condition in them.
"""

from __future__ import annotations

from math import prod

from tvm.s_tir import Schedule

from tvmconv.ops.packing import Packing
from tvmconv.ops.problem import Problem
from tvmconv.schedules.cpu.tiles import FEWEST_TASKS, peel_borders, peel_tail, run_parallel, vector_tile
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan


def rule(p: Problem, machine: Machine) -> Plan | None:
    if not (p.channels_last and p.groups > 1 and 2 * p.out_group <= machine.lanes(p.acc_bytes)):
        return None
    # Whole groups to a vector, so that each lane's input is at a fixed distance from the first one's.
    lanes = machine.lanes(p.acc_bytes) // p.out_group * p.out_group
    rows, width, vectors = tile_of(p, machine, lanes)
    block = min(vectors * lanes, p.groups * p.out_group)
    return Plan("groups_last", Packing(block, across_groups=True),
                lambda sch: schedule(sch, p, lanes, rows, width, block),
                {"rows": rows, "width": width, "block": block})


def tile_of(p: Problem, machine: Machine, lanes: int) -> tuple[int, int, int]:
    """(rows of a strip, pixels, vectors of channels).

    A strip of rows is walked downwards, so that each input row is in the nearest cache for all its taps.
    Half the registers hold sums: the others hold what is loaded ahead.
    """
    sums = machine.vector_registers // 2
    narrow = p.out_spatial[-1] <= 7 or (sums >= 16 and p.out_spatial[-1] <= 14)
    channels = p.groups * p.out_group
    vectors = min(4 if narrow else 2, -(-channels // lanes))
    width = min(sums // vectors, 4, p.out_spatial[-1])
    height = p.out_spatial[-2] if len(p.spatial) > 1 else 1
    others = p.batch * prod(p.out_spatial[:-2]) * -(-channels // (vectors * lanes))
    strips = min(height, -(-FEWEST_TASKS // others))
    return -(-height // strips), width, vectors


def schedule(sch: Schedule, p: Problem, lanes: int, rows: int, width: int, block: int) -> None:
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    if p.padded or p.widened:
        sch.compute_inline(sch.get_sblock("pad"))
    rank = len(p.spatial)
    n, *outer, x, g, o = sch.get_loops(y)
    xo, xi = sch.split(x, [None, width], preserve_unit_iters=True)
    co, ci = sch.split(sch.fuse(g, o), [None, block], preserve_unit_iters=True)
    row_tile = []
    if outer:
        ro, ri = sch.split(outer[-1], [None, rows], preserve_unit_iters=True)
        outer, row_tile = [*outer[:-1], ro], [ri]
    sch.reorder(n, *outer, co, xo, *row_tile, xi, ci)
    last = row_tile[0] if row_tile else xo
    peel_borders(sch, xo, p, rank - 1, width)
    peel_tail(sch, co, p.groups * p.out_group, block)
    vector_tile(sch, ci, lanes, block)
    sch.unroll(xi)
    run_parallel(sch, p, [n, *outer, co])
    sch.compute_at(conv, last, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    own = sch.get_loops(conv)[-(2 * rank + 4):]
    pixels, group, channel = own[1 : rank + 1], own[rank + 1], own[rank + 2]
    taps, i = own[rank + 3 : -1], own[-1]
    vec, lane = vector_tile(sch, sch.fuse(group, channel), lanes, block)
    summed = [*taps[:-1], i, taps[-1]]
    sch.reorder(*summed, *pixels, vec, lane)
    for loop in (*pixels, taps[-1]):
        sch.unroll(loop)
    sch.decompose_reduction(conv, summed[0])
