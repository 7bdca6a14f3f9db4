"""Channels-first convolution: vectors along the row of a plane, a register tile of output channels (or, for a
depthwise convolution, of rows) by vectors.

A vector across the border of the image would mix zeros with pixels lane by lane, so here the padding is a
copy: of one plane in cache for a depthwise convolution, of x otherwise.
"""

from __future__ import annotations

from math import prod

from tvm.s_tir import Schedule

from tvmconv.ops.packing import Packing
from tvmconv.ops.problem import Problem
from tvmconv.schedules.cpu.tiles import FEWEST_TASKS, peel_at, peel_tail, run_parallel, vector_tile
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan


def rule(p: Problem, machine: Machine) -> Plan | None:
    if p.channels_last:
        return None
    lanes = machine.lanes(p.acc_bytes)
    channels, rows, vectors = tile_of(p, machine)
    planes = planes_of(p, machine)
    return Plan("planes", Packing(channels),
                lambda sch: schedule(sch, p, lanes, planes, channels, rows, vectors),
                {"planes": planes, "channels": channels, "rows": rows, "vectors": vectors})


def planes_of(p: Problem, machine: Machine) -> int:
    """Planes of a depthwise convolution to pad at a time: what half the nearest cache holds, if that leaves
    tasks enough; the largest such divisor of their number."""
    if not (p.is_depthwise and (p.padded or p.widened)):
        return 1
    size = p.acc_bytes * prod(s + lo + hi for s, (lo, hi) in zip(p.spatial, p.pad, strict=True))
    most = min(machine.l1 // 2 // size, p.batch * p.groups // FEWEST_TASKS)
    return max(d for d in range(1, max(most, 1) + 1) if p.groups % d == 0)


def tile_of(p: Problem, machine: Machine) -> tuple[int, int, int]:
    """(output channels, rows, vectors along the row) of the register tile."""
    width = -(-p.out_spatial[-1] // machine.lanes(p.acc_bytes))
    if p.out_group == 1:
        rows = min(p.out_spatial[-2], 4) if len(p.spatial) > 1 else 1
        return 1, rows, min(width, 2)
    best, best_score = (1, 1, 1), 0.0
    for vectors in range(1, min(width, 4) + 1):
        for channels in range(1, min(p.out_group, (machine.vector_registers - vectors - 1) // vectors) + 1):
            blocks, tiles = -(-p.out_group // channels), -(-width // vectors)
            filled = p.out_group / (blocks * channels) * width / (tiles * vectors)
            hidden = min(1.0, channels * vectors / (machine.fma_latency * machine.fma_ports))
            per_load = channels * vectors / (channels + vectors)
            score = filled * hidden * min(1.0, 0.6 + 0.1 * per_load)
            if score > best_score * 1.001:
                best, best_score = (channels, 1, vectors), score
    return best


def schedule(
    sch: Schedule, p: Problem, lanes: int, planes: int, channels: int, rows: int, vectors: int
) -> None:
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    copy = sch.get_sblock("pad") if p.padded or p.widened else None
    n, g, o, *outer, x = sch.get_loops(y)
    # Planes are padded some time before they are read: a vector load that spans fresh stores waits for them.
    go, gi = sch.split(g, [None, planes], preserve_unit_iters=True)
    width = p.out_spatial[-1]
    span = min(lanes * vectors, width)
    oo, oi = sch.split(o, [None, channels], preserve_unit_iters=True)
    xo, xi = sch.split(x, [None, span], preserve_unit_iters=True)
    row_tile = []
    if outer:
        ro, ri = sch.split(outer[-1], [None, rows], preserve_unit_iters=True)
        peel_tail(sch, ro, p.out_spatial[-2], rows)
        sch.unroll(ri)
        outer, row_tile = [*outer[:-1], ro], [ri]
    sch.reorder(n, go, gi, oo, *outer, xo, oi, *row_tile, xi)
    peel_tail(sch, oo, p.out_group, channels)
    peel_tail(sch, xo, width, span)
    vector_tile(sch, xi, lanes, span)
    sch.unroll(oi)
    sch.compute_at(conv, xo, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    if copy is not None and p.is_depthwise:
        sch.compute_at(copy, go, preserve_unit_loops=True)
        run_parallel(sch, p, [n, go])
    else:
        run_parallel(sch, p, [n, go, gi, oo, *outer])
        if copy is not None:
            run_parallel(sch, p, sch.get_loops(copy)[:3])
    rank = len(p.spatial)
    own = sch.get_loops(conv)[-(2 * rank + 4):]
    channel, row, pixel = own[2], own[3 : rank + 2], own[rank + 2]
    taps, i = own[rank + 3 : -1], own[-1]
    vec, lane = vector_tile(sch, pixel, lanes, span)
    sch.reorder(*taps, i, channel, *row, vec, lane)
    for loop in (channel, *row):
        sch.unroll(loop)
    if p.is_depthwise:
        for tap in taps[-2:]:
            sch.unroll(tap)
    sch.decompose_reduction(conv, taps[0])
    if copy is not None:
        _peel_zeros(sch, p, copy)


def _peel_zeros(sch: Schedule, p: Problem, copy) -> None:
    """Write the zeros around a plane apart from its rows, which are then plain copies."""
    rank = len(p.spatial)
    for loop, size, (lo, _) in zip(sch.get_loops(copy)[-rank:], p.spatial, p.pad, strict=True):
        peel_at(sch, loop, int(sch.get(loop).extent), [lo, lo + size])
