"""Channels-first convolution over columns in strips (``ops.panels``): a register tile of output channels by
vectors of pixels, over columns that the core has just copied and that are still in its cache.

If there are too few strips to distribute among threads, all columns are copied first, and threads divide the
blocks of output channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.lower.loops import VECTORS
from tvmconv.compiler.ops.panels import ALGORITHM, PanelsPacking
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cpu import crossed, planes
from tvmconv.schedules.cpu.tiles import (
    FEWEST_TASKS,
    border_tiles,
    divisor,
    evenly,
    image_bytes,
    lends,
    peel_at,
    peel_tail,
    rows_are_far,
    run_parallel,
    vector_tile,
    write_out,
)
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Plan,
    Space,
    at_most,
    require,
    require_divides,
    require_registers,
    require_within,
    settled,
)

STRATEGY = "panels"
_ORDERS = ("pixels", "channels")  # which of them the tiles of a strip go through last
_LONGEST = 32  # vectors of a strip's pixels
_ENOUGH = 8  # vectors of pixels
_FEW = 4  # planes
_STREAMS = 64  # rows of x
_PAIR = 2  # vectors of a tile
_TOGETHER = 4  # input channels
_SHARED = 3  # parts of a core's cache, of which columns take one
_REREAD = 4  # likewise, if the next strip's columns are partly made of the same rows of x
_COPIED = 4  # multiply-adds that a piece of a row costs to copy
_LONG = 1.1  # times as long as it might a multiply-add of AVX-512 takes, measured on a Zen 4
_WEIGHTS = 0.25  # cycles to load a weight from a core's cache


def fits(p: Problem, machine: Machine) -> bool:
    return not p.channels_last and p.out_group > 1 and not p.is_depthwise


def pays(p: Problem, machine: Machine) -> bool:
    """If planes are large or their rows poor vectors, and a strip has enough pixels to justify going through
    all weights. A few planes are better read in place, and with many groups each has few weights."""
    if p.groups > 1 or prod(p.out_spatial) == 1:
        return False
    if planes.suits(p, machine) and not crossed.skips(p, machine):
        return False
    lanes = machine.lanes(p.acc_bytes)
    if p.taps == 1:
        if crossed.reads_in_place(p, machine) or crossed.reads_strides(p, machine):
            return False
        return planes.tiles_are_near(p, machine) and planes.fills(prod(p.out_spatial), p, lanes)
    enough = min(prod(p.out_spatial), _ENOUGH * lanes)
    few = p.in_group <= _FEW and not lends(p, machine)
    if few or most_pixels(p, machine) < enough:
        return False
    if machine.avx512:
        far = _is_far(p, machine)
    else:
        far = not crossed.reads_near(p, machine)
    return far or crossed.cost(p, machine) >= cost(p, machine)


def _is_far(p: Problem, machine: Machine) -> bool:
    """Whether x comes from beyond a core's cache, in rows alone, that no other row of the output reads again:
    more of them than the CPU follows at a time, to fetch them ahead."""
    alone = len(p.spatial) == 1 and p.in_group >= _STREAMS
    return alone and p.batch * image_bytes(p) > machine.l2


def cost(p: Problem, machine: Machine) -> float:
    """Cost of a vector multiply-add, copying included: a row that is short, or has a border, is copied in
    several pieces, and so are strided elements. More if the last vector of all pixels is partly empty."""
    lanes, width = machine.lanes(p.acc_bytes), p.out_spatial[-1]
    first, last = border_tiles(p, len(p.spatial) - 1, 1)
    parts = sum(-(-part // lanes) for part in (first, last - first, width - last))
    copied = _COPIED * parts * p.stride[-1] * lanes / width / p.out_group
    if not machine.avx512:
        return 1 / planes.filled(prod(p.out_spatial), lanes) + copied
    far = image_bytes(p) > machine.l2
    return _LONG / planes.filled(prod(p.out_spatial), lanes) + copied + far * lanes / p.out_group


def space(p: Problem, machine: Machine) -> Space:
    default, lanes = plan_of(p, machine).point, machine.lanes(p.acc_bytes)
    parts, width = default["long"] < p.out_spatial[-1], p.out_spatial[-1]
    lengths = {v * lanes for v in (3, 4, 6, 8, 12, 16, 24, 32) if v * lanes < width}
    vectors = -(-default["tall"] * default["long"] // lanes)
    return {
        "tall": [1] if parts else at_most(min(_rows(p), max(_LONGEST * lanes // width, 1)), default["tall"]),
        "long": sorted({*lengths, default["long"]}) if parts else [width],
        "channels": sorted({*range(1, min(p.out_group, machine.vector_registers - 2) + 1)}),
        "vectors": list(range(1, min(vectors, 4) + 1)),
        "order": list(_ORDERS),
        "deep": [n for n in (1, 2, 4) if p.in_group % n == 0],
    }


def _rows(p: Problem) -> int:
    return prod(p.out_spatial[:-1])


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: rows of a strip, and pixels of a row in it; output channels and vectors of the
    register tile; which of these a strip goes through last; input channels unrolled. Raises ValueError if it
    does not fit."""
    lanes = machine.lanes(p.acc_bytes)
    (tall, long), width = strip_of(p, machine), p.out_spatial[-1]
    size = {"tall": tall, "long": long}
    chosen = settled({k: v for k, v in (point or {}).items() if k in size}, size)
    require_within(chosen, tall=_rows(p), long=width)
    require(chosen["tall"] == 1 or chosen["long"] == width, chosen, "tall", "1 where rows have parts")
    pixels = chosen["tall"] * chosen["long"]
    channels, vectors = tile_of(p, machine, pixels)
    default = {"tall": tall, "long": long, "channels": channels, "vectors": vectors, "order": _ORDERS[0],
               "deep": _inputs(p, machine)}
    point = settled(point, default)
    require_divides(point, deep=p.in_group)
    require_within(point, channels=p.out_group, vectors=-(-pixels // lanes))
    require_registers(point, "channels", point["channels"] * point["vectors"], machine.vector_registers)
    require(point["order"] in _ORDERS, point, "order", " or ".join(_ORDERS))
    packing = PanelsPacking(point["channels"], tall=point["tall"], long=point["long"])
    shared = shares_columns(p, machine, packing)
    return Plan(STRATEGY, ALGORITHM, packing,
                lambda sch: schedule(sch, p, machine, packing, shared, **point), point)


def _inputs(p: Problem, machine: Machine) -> int:
    """Input channels to write out: of many a few, for their loads begin earlier. Measured on a Zen 5."""
    many = machine.full_near_avx512 and p.in_group >= _STREAMS
    return divisor(p.in_group, _TOGETHER) if many else 1


def strip_of(p: Problem, machine: Machine) -> tuple[int, int]:
    """(rows, pixels of each) of a strip whose columns fit a core's cache, with the fewest vectors and few
    passes over the weights."""
    lanes, width, rows = machine.lanes(p.acc_bytes), p.out_spatial[-1], _rows(p)
    most = min(most_pixels(p, machine), _LONGEST * lanes)
    step = planes.VECTORS * lanes
    if _rereads(p, machine):  # what is read of x for a row stays in the cache until the next one
        most = min(most, max(most_pixels(p, machine) // _REREAD, _ENOUGH * lanes))
    if _shares(p, machine):
        step = _PAIR * lanes
        most = min(most, max(most_pixels(p, machine) // _SHARED, _ENOUGH * lanes))
    if width > most or rows == 1:
        tasks = max(1, FEWEST_TASKS // (p.batch * p.groups * rows))
        long = min(most, max(-(-width // tasks), step))
        return 1, min(width, long // step * step or long)

    def cost(tall: int) -> float:
        strips, left = divmod(rows, tall)
        vectors = strips * -(-tall * width // lanes) + -(-left * width // lanes)
        return vectors / machine.fma_ports + (strips + (left > 0)) * _WEIGHTS

    return min(range(1, min(rows, most // width) + 1), key=lambda tall: (cost(tall), tall)), width


def _rereads(p: Problem, machine: Machine) -> bool:
    """Whether all rows of a strip are computed before the next one. Measured with AVX-512 only."""
    return machine.avx512 and rows_are_far(p, machine)


def _shares(p: Problem, machine: Machine) -> bool:
    """Whether columns leave room in a core's cache for weights, and a tile some registers, but keeps the
    others busy. Measured with AVX2 and several taps only."""
    return machine.avx2 and p.taps > 1


def most_pixels(p: Problem, machine: Machine) -> int:
    """Of a strip: as many as have their columns fit in a core's cache."""
    return max(machine.l2 // (p.in_group * p.taps * p.acc_bytes), 1)


def shares_columns(p: Problem, machine: Machine, packing: PanelsPacking) -> bool:
    """Whether threads share all columns, if there are too few strips to balance."""
    tasks = p.batch * p.groups * prod(packing.strips(p))
    size = p.batch * prod(p.out_spatial) * p.groups * p.in_group * p.taps * p.acc_bytes
    return tasks < FEWEST_TASKS and (size <= machine.l2 or 2 * tasks < FEWEST_TASKS)


def tile_of(p: Problem, machine: Machine, pixels: int) -> tuple[int, int]:
    """(output channels, vectors of pixels) of the register tile."""
    if _shares(p, machine):
        vectors = min(_PAIR, -(-pixels // machine.lanes(p.acc_bytes)))
        return evenly(p.out_group, (machine.vector_registers - vectors - 2) // vectors), vectors
    channels, _, vectors = planes.tile_of(replace(p, out_spatial=(pixels,)), machine)
    return channels, vectors


def schedule(
    sch: Schedule, p: Problem, machine: Machine, packing: PanelsPacking, shared: bool, *, tall: int,
    long: int, channels: int, vectors: int, order: str, deep: int,
) -> None:
    lanes = machine.lanes(p.acc_bytes)
    y, conv, columns = (sch.get_sblock(name) for name in ("y", "conv", "columns"))
    down, along = packing.strips(p)
    pixels = tall * long
    span = min(lanes * vectors, pixels)
    n, g, o, high, wide, x = sch.get_loops(y)
    oo, oi = sch.split(o, [None, channels], preserve_unit_iters=True)
    xo, xi = sch.split(x, [None, span], preserve_unit_iters=True)
    inner = [oo, xo] if order == "pixels" else [xo, oo]
    strips = [wide, high] if _rereads(p, machine) else [high, wide]
    sch.reorder(n, g, *strips, *inner, oi, xi)
    last = _rows(p) % tall * long if long == p.out_spatial[-1] else p.out_spatial[-1] % long
    if last:
        peel_at(sch, high if down > 1 else wide, down if down > 1 else along, [max(down, along) - 1])
    cuts = [pixels // span, last // span, -(-last // span)]
    peel_at(sch, xo, -(-pixels // span), cuts)
    peel_tail(sch, oo, p.out_group, channels)
    vector_tile(sch, xi, lanes, span)
    sch.unroll(oi)
    sch.compute_at(conv, inner[-1], preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    _copy(sch, p, columns, tall, long, lanes, strips[-1] if not shared else None)
    run_parallel(sch, p, [n, g, *strips, *(inner if shared else [])])
    rank = len(p.spatial)
    own = sch.get_loops(conv)[-(rank + 7):]
    channel, pixel = own[2], own[5]
    taps, i = own[6:-1], own[-1]
    vec, lane = vector_tile(sch, pixel, lanes, span)
    sch.reorder(*taps, *write_out(sch, i, deep), channel, vec, lane)
    sch.unroll(channel)
    sch.decompose_reduction(conv, taps[0])


def _copy(sch: Schedule, p: Problem, columns, tall: int, long: int, lanes: int, place) -> None:
    """Copy the columns of a strip in ``place``, or all of them before."""
    rank = len(p.spatial)
    if place is not None:
        sch.compute_at(columns, place, preserve_unit_loops=True)
    *before, i, row, at = sch.get_loops(columns)
    taps = before[-rank:]
    sch.reorder(i, *taps, row, at)
    if place is None:
        run_parallel(sch, p, [*before[:-rank], i])
    sch.annotate(at, VECTORS, lanes)
    if long == p.out_spatial[-1]:
        first, last = border_tiles(p, rank - 1, 1)
        peel_at(sch, at, long, [first, last])
