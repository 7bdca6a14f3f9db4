"""The copy of x with its borders (``ops.border``): vectors of channels, or along the rows."""

from __future__ import annotations

from tvm.s_tir import Schedule

from tvmconv.compiler.lower.loops import VECTORS
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cpu.tiles import peel_at, run_parallel, vector_tile
from tvmconv.schedules.machines import Machine


def schedule(sch: Schedule, p: Problem, machine: Machine, row: tuple[int, int]) -> None:
    """``p``: of the convolution that reads the copy. ``row``: where x begins and ends in one of its rows."""
    lanes = machine.lanes(p.acc_bytes)
    loops = sch.get_loops(sch.get_sblock("border"))
    if p.channels_last:
        *outer, group, channel = loops
        extent = p.groups * p.in_group
        vector_tile(sch, sch.fuse(group, channel), lanes, extent)
    else:
        *outer, place = loops
        if row[1] <= int(sch.get(place).extent):  # not where several dims are seen as one
            peel_at(sch, place, int(sch.get(place).extent), list(row))
            sch.annotate(place, VECTORS, lanes)
    run_parallel(sch, p, outer)
