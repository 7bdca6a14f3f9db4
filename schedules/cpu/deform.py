"""Deformable convolution: x once channels-last with zeros around it, so that a tap reads four vectors of
channels with no condition; then, for some tiles of pixels at a time, what the taps read, and its product with
the packed weights in a register tile of pixels by output channels.
"""

from __future__ import annotations

from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.deform import BEFORE, DeformProblem
from tvmconv.formats.choice import Choice
from tvmconv.schedules.cpu.tiles import peel_at, peel_tail, run_parallel, vector_run, vector_tile
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Space,
    at_most,
    require,
    require_block,
    require_registers,
    require_within,
    settled,
)
from tvmconv.specs.deformable import DeformSpec

STRATEGY = "deform_columns"
_FEWEST_TASKS = 4  # each of them reads all the weights


def space(spec: DeformSpec, machine: Machine) -> Space:
    p, point = plan_of(spec, machine)
    _, lanes, channels = _vectors(spec, machine)
    return {
        "width": list(range(1, min(prod(spec.out_spatial), machine.vector_registers - 2) + 1)),
        "block": sorted({min(v * lanes, channels) for v in range(1, 5)}),
        "tiles": at_most(p.tiles, point["tiles"]),
    }


def plan_of(
    spec: DeformSpec, machine: Machine, choice: Choice | None = None
) -> tuple[DeformProblem, dict[str, Any]]:
    """The problem cut into register tiles, and its point: pixels and output channels of such a tile, tiles
    of pixels a task. Raises ValueError where ``choice`` does not fit."""
    across, lanes, channels = _vectors(spec, machine)
    if choice is None:
        width, block = tile_of(spec, machine)
        p = DeformProblem(spec, width, block, across)
        return p, {"width": width, "block": block, "tiles": tiles_of(p, machine)}
    require(choice.strategy == STRATEGY, {"strategy": choice.strategy}, "strategy", STRATEGY)
    _, default = plan_of(spec, machine)
    point = settled(choice.point, default)
    require_within(point, width=prod(spec.out_spatial))
    require_block(point, lanes, channels)
    sums = point["width"] * -(-point["block"] // lanes)
    require_registers(point, "width", sums, machine.vector_registers)
    p = DeformProblem(spec, point["width"], point["block"], across)
    require_within(point, tiles=p.tiles)
    return p, point


def _vectors(spec: DeformSpec, machine: Machine) -> tuple[bool, int, int]:
    """(whether a vector holds channels of several groups, its lanes, the channels that are cut into them)."""
    lanes, out_group = machine.lanes(), spec.out_channels // spec.groups
    if spec.groups > 1 and 2 * out_group <= lanes:
        return True, lanes // out_group * out_group, spec.out_channels
    return False, lanes, out_group


def tile_of(spec: DeformSpec, machine: Machine) -> tuple[int, int]:
    """The register tile, (pixels, output channels), that wastes least on ``machine``."""
    (_, lanes, channels), pixels = _vectors(spec, machine), prod(spec.out_spatial)
    have = -(-channels // lanes)
    best, best_score = (1, 1), 0.0
    for vectors in range(1, min(have, 4) + 1):
        for width in range(1, min(pixels, (machine.vector_registers - vectors - 1) // vectors) + 1):
            tiles, blocks = -(-pixels // width), -(-have // vectors)
            filled = pixels / (tiles * width) * have / (blocks * vectors)
            hidden = min(1.0, width * vectors / (machine.fma_latency * machine.fma_ports))
            score = filled * hidden * min(1.0, 0.6 + 0.1 * width * vectors / (width + vectors))
            if score > best_score * 1.001:
                best, best_score = (width, vectors), score
    return best[0], min(best[1] * lanes, channels)


def tiles_of(p: DeformProblem, machine: Machine) -> int:
    """Tiles of pixels a task: their columns stay in half the second cache, and tasks enough are left."""
    size = 4 * p.width * p.spec.taps * p.spec.in_channels
    return max(1, min(machine.l2 // 2 // size, p.tiles * p.batch // _FEWEST_TASKS, p.tiles))


def schedule(sch: Schedule, p: DeformProblem, machine: Machine, point: dict[str, Any]) -> None:
    lanes, tiles = machine.lanes(), point["tiles"]
    image, columns, sums, y = map(sch.get_sblock, ("image", "columns", "sums", "y"))
    _image(sch, p, image, lanes)

    n, g, o, pixel = sch.get_loops(y)
    tile, inner = sch.split(pixel, [None, p.width], preserve_unit_iters=True)
    task, tile = sch.split(tile, [None, tiles], preserve_unit_iters=True)
    across, wide, _ = _vectors(p.spec, machine)
    blocks = [] if across else [g]
    oo, oi = sch.split(sch.fuse(g, o) if across else o, [None, p.block], preserve_unit_iters=True)
    sch.reorder(n, task, *blocks, oo, tile, oi, inner)
    peel_tail(sch, task, p.tiles, tiles)
    last = (p.tiles - 1) % tiles  # of the last task: the tile that may not be whole
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
