"""Channels-last depthwise convolution: vectors of channels, a register tile of pixels along the row."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvmconv.schedules.cpu.tiles import peel_borders, peel_tail, run_parallel, vector_tile
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan

from tvmconv.ops.packing import Packing
from tvmconv.ops.problem import Problem


def rule(p: Problem, machine: Machine) -> Plan | None:
    if not (p.channels_last and p.is_depthwise and p.out_group == 1):
        return None
    lanes = machine.lanes()
    width, block = 7, min(2*lanes, p.groups)
    width = min(width, p.out_spatial[-1])
    return Plan("depthwise_last", Packing("by_tap"),
                lambda sch: schedule(sch, p, lanes, width, block),
                {"width": width, "block": block})


def schedule(sch: Schedule, p: Problem, lanes: int, width: int, block: int) -> None:
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    if p.padded:
        sch.compute_inline(sch.get_sblock("pad"))
    n, *outer, x, g, o = sch.get_loops(y)
    xo, xi = sch.split(x, [None, width], preserve_unit_iters=True)
    go, gi = sch.split(g, [None, block], preserve_unit_iters=True)
    sch.reorder(n, *outer, go, xo, xi, gi, o)
    peel_borders(sch, xo, p, len(p.spatial) - 1, width)
    peel_tail(sch, go, p.groups, block)
    vector_tile(sch, gi, lanes, block)
    sch.unroll(xi)
    run_parallel(sch, p, [n, *outer, go])
    sch.compute_at(conv, xo, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    rank = len(p.spatial)
    own = sch.get_loops(conv)[-(2 * rank + 4):]
    pixel, channel = own[rank], own[rank + 1]
    taps = own[rank + 3 : -1]
    vec, lane = vector_tile(sch, channel, lanes, block)
    sch.reorder(*taps, pixel, vec, lane)
    sch.unroll(pixel)
    sch.unroll(taps[-1])
    sch.decompose_reduction(conv, taps[0])
