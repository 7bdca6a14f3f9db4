"""Deformable convolution: x is copied once, channels-last with zeros around it, so that a tap reads four
vectors of channels unconditionally; then, for a few tiles of pixels at a time, the samples of the taps, and
their product with the packed weights in a register tile of pixels by output channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.deform import BEFORE, Columns, DeformProblem
from tvmconv.compiler.ops.packing import Packing
from tvmconv.schedules.cpu.tiles import (
    peel_at,
    peel_tail,
    register_tile,
    run_parallel,
    vector_run,
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

STRATEGY = "deform_columns"
_FEWEST_TASKS = 4  # each of them reads all the weights


def fits(p: DeformProblem, machine: Machine) -> bool:
    return True


def space(p: DeformProblem, machine: Machine) -> Space:
    default = plan_of(p, machine).point
    _, lanes, channels = _vectors(p, machine)
    return {
        "width": list(range(1, min(p.pixels, machine.vector_registers - 2) + 1)),
        "block": sorted({min(v * lanes, channels) for v in range(1, 5)}),
        "tiles": at_most(-(-p.pixels // default["width"]), default["tiles"]),
    }


def plan_of(p: DeformProblem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: pixels and output channels of the register tile, tiles of pixels per task.
    Raises ValueError where it does not fit."""
    across, lanes, channels = _vectors(p, machine)
    width, block = tile_of(p, machine)
    default = replace(p, width=width, block=block, across_groups=across)
    point = settled(point, {"width": width, "block": block, "tiles": tiles_of(default, machine)})
    require_within(point, width=p.pixels)
    require_block(point, lanes, channels)
    sums = point["width"] * -(-point["block"] // lanes)
    require_registers(point, "width", sums, machine.vector_registers)
    algorithm, packing = Columns(point["width"]), Packing(point["block"], across)
    tiled = algorithm.tiled(p, packing)
    require_within(point, tiles=tiled.tiles)
    return Plan(STRATEGY, algorithm, packing,
                lambda sch: schedule(sch, tiled, machine, point["tiles"]), point)


def _vectors(p: DeformProblem, machine: Machine) -> tuple[bool, int, int]:
    """(whether a vector holds channels of several groups, its lanes, the channels that are cut into them)."""
    lanes, groups = machine.lanes(), p.spec.groups
    if groups > 1 and 2 * p.out_group <= lanes:
        return True, lanes // p.out_group * p.out_group, p.spec.out_channels
    return False, lanes, p.out_group


def tile_of(p: DeformProblem, machine: Machine) -> tuple[int, int]:
    """The register tile, (pixels, output channels), that wastes least on ``machine``."""
    _, lanes, channels = _vectors(p, machine)
    registers, have = machine.vector_registers, -(-channels // lanes)
    width, vectors = register_tile(machine, p.pixels, have, lambda v: (registers - v - 1) // v)
    return width, min(vectors * lanes, channels)


def tiles_of(p: DeformProblem, machine: Machine) -> int:
    """Tiles of pixels per task: their columns fit in half the L2 cache, and enough tasks are left."""
    size = 4 * p.width * p.spec.taps * p.spec.in_channels
    return max(1, min(machine.l2 // 2 // size, p.tiles * p.batch // _FEWEST_TASKS, p.tiles))


def schedule(sch: Schedule, p: DeformProblem, machine: Machine, tiles: int) -> None:
    lanes = machine.lanes()
    image, columns, sums, y = map(sch.get_sblock, ("image", "columns", "sums", "y"))
    _image(sch, p, image, lanes)

    n, g, o, pixel = sch.get_loops(y)
    tile, inner = sch.split(pixel, [None, p.width], preserve_unit_iters=True)
    task, tile = sch.split(tile, [None, tiles], preserve_unit_iters=True)
    across, wide, _ = _vectors(p, machine)
    blocks = [] if across else [g]
    oo, oi = sch.split(sch.fuse(g, o) if across else o, [None, p.block], preserve_unit_iters=True)
    sch.reorder(n, task, *blocks, oo, tile, oi, inner)
    peel_tail(sch, task, p.tiles, tiles)
    last = (p.tiles - 1) % tiles  # of the last task: the tile that may be partial
    peel_at(sch, tile, tiles, [last, last + 1])
    peel_tail(sch, oo, p.row, p.block)
    run_parallel(sch, p, [n, task])
    if p.width > 1:
        sch.vectorize(inner)

    sch.compute_at(sums, tile, preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    pixel, g, channel, t, i = sch.get_loops(sums)[-5:]
    vec, lane = vector_tile(sch, sch.fuse(g, channel) if across else channel, wide, p.block)
    sch.reorder(t, i, pixel, vec, lane)
    sch.unroll(pixel)
    sch.decompose_reduction(sums, t)

    sch.compute_at(columns, task, preserve_unit_loops=True)
    an_offset_group = p.spec.in_channels // p.spec.offset_groups
    t, channel = sch.get_loops(columns)[-2:]
    part, channel = sch.split(channel, [None, an_offset_group], preserve_unit_iters=True)
    vector_run(sch, channel, lanes, an_offset_group)
    for block in map(sch.get_sblock, ("past1", "past0", "place1", "place0")):
        sch.compute_at(block, part, preserve_unit_loops=True)
        sch.set_scope(block, 0, "local")


def _image(sch: Schedule, p: DeformProblem, image, lanes: int) -> None:
    n, row, column, c = sch.get_loops(image)
    height, width = p.spec.in_spatial
    co, ci = sch.split(c, [None, min(lanes, p.spec.in_channels)], preserve_unit_iters=True)
    sch.reorder(n, row, co, column, ci)
    peel_tail(sch, co, p.spec.in_channels, lanes)
    for loop, size in ((row, height), (column, width)):
        peel_at(sch, loop, int(sch.get(loop).extent), [BEFORE, BEFORE + size])
    if p.spec.in_channels > 1:
        sch.vectorize(ci)
    run_parallel(sch, p, [n, row])
