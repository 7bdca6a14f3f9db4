"""Channels-first pointwise convolution over tiles of pixels that are gathered from all planes
(``ops.gathered``) before the output channels go through them.

What a register tile reads is contiguous then, where planes are far apart: lines of these would evict one
another, or be read anew for each block of output channels, with few of their elements used. A strip of tiles
is gathered at a time, and stays in the core's cache; if there are too few strips to distribute among threads,
all of x is gathered first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.base.memory import PAGE
from tvmconv.compiler.lower.ahead import ROWS, STRIPS
from tvmconv.compiler.lower.loops import VECTORS
from tvmconv.compiler.ops.gathered import ALGORITHM, GatheredPacking
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cpu import crossed, planes
from tvmconv.schedules.cpu.asking import ask_for_next, asks
from tvmconv.schedules.cpu.tiles import (
    FEWEST_TASKS,
    evenly,
    image_bytes,
    inputs_of,
    peel_strips,
    peel_tail,
    register_tile,
    run_parallel,
    stage,
    vector_tile,
    write_out,
)
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Plan,
    Space,
    at_most,
    require,
    require_block,
    require_divides,
    require_registers,
    require_within,
    settled,
)

STRATEGY = "gathered"
_ALONG = ("channels", "pixels")  # which of them vectors go along
_LONGEST = 24  # vectors of a strip's pixels
_STREAMED = 32  # likewise, where the CPU alone has to fetch them ahead, which it begins anew for each plane
_FAR = 10  # times what reading x costs, reading weights does that no core's cache holds
_FEW, _PAGES = 4, 128  # planes; those that may lie whole pages apart
_SEVERAL, _MANY = 4, 16  # vectors of channels
_LARGE = 40  # vectors of pixels
_MUCH, _NEAR = 2, 12  # times a core's cache


def fits(p: Problem, machine: Machine) -> bool:
    if p.channels_last or p.taps > 1 or p.padded or p.widened:
        return False
    return p.out_group > 1 and not p.is_depthwise and prod(p.out_spatial) > 1


def pays(p: Problem, machine: Machine) -> bool:
    """Unless few channels, or a small x, are best read in place. Nobody has measured other machines."""
    if machine.avx512:
        return _pays_in_long_vectors(p, machine)
    if not machine.avx2 or p.groups > 1 or crossed.reads_in_place(p, machine):
        return False
    lanes = machine.lanes(p.acc_bytes)
    enough = p.out_group > lanes and p.in_group > _FEW and max(p.in_group, p.out_group) > 2 * lanes
    return enough and 2 * image_bytes(p) > machine.l1


def _pays_in_long_vectors(p: Problem, machine: Machine) -> bool:
    """If x is far larger than a core's cache, and its strips can be asked for or a tile of pixels reads lines
    of many planes; or has strides, and is read often from far away; or planes are small, and weights many, of
    channels enough to justify a copy that threads share."""
    lanes = machine.lanes(p.acc_bytes)
    if p.groups > 1 or p.out_group <= lanes:
        return False
    strided = max(p.stride) > 1 and p.in_group >= _MANY * lanes and p.out_group > _SEVERAL * lanes
    if machine.far_l3 and strided:  # or x is read for each block of output channels
        return True
    if _is_far(p, machine) and p.in_group >= _SEVERAL * lanes and p.out_group >= 2 * lanes:
        return not _in_place(p, machine)
    if machine.far_l3 and _is_reread(p, machine):
        return True
    if planes.suits(p, machine):
        return False
    many = p.acc_bytes * p.in_group * p.out_group >= _MUCH * machine.l2
    read = p.acc_bytes * p.in_group * prod(p.out_spatial)
    far = read > _MUCH * machine.l2 and not planes.tiles_are_near(p, machine)
    return far or (many and 2 * p.out_group >= p.in_group and crossed.small_planes(p, machine))


def _in_place(p: Problem, machine: Machine) -> bool:
    """Whether tiles of a large x that all output channels go through in turns had better read its planes, if
    the shared cache holds them. Not many that lie whole pages apart. Measured on a Zen 5; not on a Zen 4."""
    apart = p.acc_bytes * prod(p.spatial) % PAGE == 0 and p.in_group > _PAGES
    near = p.batch * image_bytes(p) <= _NEAR * machine.l2
    return machine.full_near_avx512 and near and not apart and planes.suits(p, machine)


def _is_reread(p: Problem, machine: Machine) -> bool:
    """Whether so many blocks of output channels read x that they had better find strips of it in a core's
    cache, which other work may share: of an image large enough for several strips, or if that cache has no
    room for the weights."""
    lanes, pixels = machine.lanes(p.acc_bytes), prod(p.out_spatial)
    if max(p.stride) > 1 or p.in_group < 2 * lanes or p.out_group < _SEVERAL * lanes:
        return False
    many = p.acc_bytes * p.in_group * p.out_group >= machine.l2
    return planes.fills(pixels, p, lanes) and (many or pixels >= _LARGE * lanes)


def space(p: Problem, machine: Machine) -> Space:
    lanes, pixels = machine.lanes(p.acc_bytes), prod(p.out_spatial)
    sizes = sorted({*range(1, machine.vector_registers - 1), *(v * lanes for v in range(1, 5))})
    return {
        "along": list(_ALONG),
        "width": [n for n in sizes if n <= pixels],
        "block": [n for n in sizes if n <= p.out_group],
        "strip": [0, *at_most(min(_LONGEST, pixels))],
        "deep": [n for n in (1, 2, 4) if p.in_group % n == 0],
    }


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: what vectors go along; pixels and output channels of the register tile; such
    tiles of a strip (0: all); input channels unrolled. Raises ValueError if it does not fit."""
    lanes, pixels = machine.lanes(p.acc_bytes), prod(p.out_spatial)
    default = {"along": along_of(p, machine)}
    chosen = settled({k: v for k, v in (point or {}).items() if k in default}, default)
    require(chosen["along"] in _ALONG, chosen, "along", " or ".join(_ALONG))
    along_pixels = chosen["along"] == "pixels"
    width, block = tile_of(p, machine, along_pixels)
    deep = inputs_of(p, machine, block, -(-width // lanes), along=pixels) if along_pixels else 1
    default = {**chosen, "width": width, "block": block, "strip": 0, "deep": deep}
    point, given = settled(point, default), point or {}
    width, block = point["width"], point["block"]
    require_within(point, width=pixels, block=p.out_group)
    if "strip" not in given:
        point["strip"] = strip_of(p, machine, width, block)
    require_divides(point, deep=p.in_group)
    if along_pixels:
        require_registers(point, "width", block * -(-width // lanes), machine.vector_registers)
    else:
        require_block(point, lanes, p.out_group)
        require_registers(point, "width", width * -(-block // lanes), machine.vector_registers)
    packing = GatheredPacking(block, width=width, along_pixels=along_pixels)
    strip = min(point["strip"], packing.tiles(p)) or packing.tiles(p)
    ask = (machine.far_l3 or not along_pixels) and asks(p, machine, strip)
    afar = _is_far(p, machine) and not machine.far_l3
    return Plan(STRATEGY, ALGORITHM, packing,
                lambda sch: schedule(sch, p, packing, lanes, strip, ask, afar, point["deep"]), point)


def _is_far(p: Problem, machine: Machine) -> bool:
    """Whether x comes from far away. Then a strip is asked for while computing with the one before, so that
    memory does not wait for the sums, nor they for memory; but not where the shared cache itself is far away:
    a core has too few places for what it asks for, and the CPU does better with long strips."""
    dense = max(p.stride) == 1 and machine.arch == "x86_64"
    x, weights = image_bytes(p), p.acc_bytes * p.in_group * p.out_group
    if machine.far_l3:
        return dense and 2 * x > machine.l2 and x + weights > machine.l2
    return dense and x > _MUCH * machine.l2


def along_of(p: Problem, machine: Machine) -> str:
    """What vectors go along: pixels, for which nothing has to be transposed, unless those of channels are
    fuller."""
    return _ALONG[planes.fills(prod(p.out_spatial), p, machine.lanes(p.acc_bytes))]


def tile_of(p: Problem, machine: Machine, along_pixels: bool) -> tuple[int, int]:
    """(pixels, output channels) of the register tile."""
    lanes, pixels, registers = machine.lanes(p.acc_bytes), prod(p.out_spatial), machine.vector_registers
    if along_pixels:
        even = -(-pixels // (2 * lanes)) * 2 * lanes  # a single vector would be loaded for few sums
        channels, _, vectors = planes.tile_of(replace(p, out_spatial=(even,)), machine)
        return min(vectors * lanes, pixels), channels
    width, vectors = register_tile(
        machine, pixels, -(-p.out_group // lanes), lambda vectors: (registers - vectors - 1) // vectors
    )
    return width, min(vectors * lanes, p.out_group)


def strip_of(p: Problem, machine: Machine, width: int, block: int) -> int:
    """Tiles of a strip: those whose x fits half a core's cache, and not many, if reading all weights for each
    strip costs less than reading all of x for each block of output channels; otherwise 0, for all."""
    pixels, lanes = prod(p.out_spatial), machine.lanes(p.acc_bytes)
    tiles, size = -(-pixels // width), p.acc_bytes * p.in_group
    held = max(1, machine.l2 // 2 // (size * width))
    if machine.far_l3 and _is_far(p, machine):
        held = max(1, min(held, _STREAMED * lanes // width))
    elif p.acc_bytes * prod(p.spatial) % PAGE or machine.full_avx512:
        # On others lines of planes whole pages apart evict one another: many in a row then.
        held = max(1, min(held, _LONGEST * lanes // width))
    if p.batch * p.groups * -(-tiles // held) < FEWEST_TASKS:
        held = max(1, p.batch * p.groups * tiles // FEWEST_TASKS)
    far = _FAR if 2 * size * p.out_group > machine.l2 else 1
    weights, inputs = -(-tiles // held) * size * p.out_group, -(-p.out_group // block) * size * pixels
    return evenly(tiles, held) if held < tiles and far * weights < inputs else 0


def schedule(
    sch: Schedule, p: Problem, packing: GatheredPacking, lanes: int, strip: int, ask: bool, afar: bool,
    deep: int,
) -> None:  # fmt: skip
    width, block, pixels = packing.width, packing.block, prod(p.out_spatial)
    y, conv, columns = (sch.get_sblock(name) for name in ("y", "conv", "columns"))
    n, g, o, tile, x = sch.get_loops(y)
    to, ti = sch.split(tile, [None, strip], preserve_unit_iters=True)
    oo, oi = sch.split(o, [None, block], preserve_unit_iters=True)
    sch.reorder(n, g, to, oo, ti, oi, x)
    peel_strips(sch, to, ti, pixels, width, strip)
    peel_tail(sch, oo, p.out_group, block)
    sch.unroll(oi)
    if packing.along_pixels:
        vector_tile(sch, x, lanes, width)
    elif width > 1:
        sch.vectorize(x)
    sch.compute_at(conv, ti, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    shared = p.batch * p.groups * -(-packing.tiles(p) // strip) < FEWEST_TASKS
    _gather(sch, p, columns, lanes, None if shared else to)
    run_parallel(sch, p, [n, g, to, oo, ti] if shared else [n, g, to])
    first, second, i = sch.get_loops(conv)[-3:]
    vec, lane = vector_tile(sch, second, lanes, width if packing.along_pixels else block)
    summed = write_out(sch, i, deep)
    sch.reorder(*summed, first, vec, lane)
    sch.unroll(first)
    if afar and not shared:
        sch.annotate(to, STRIPS, strip * width)
        sch.annotate(summed[0], ROWS, [pixels, deep])
    if ask:
        ask_for_next(sch, ti, summed[0], p.in_group * block)
    sch.decompose_reduction(conv, summed[0])


def _gather(sch: Schedule, p: Problem, columns, lanes: int, place) -> None:
    """Gather x in ``place``, or all of it before; of planes with a stride, first what is read of them."""
    dense = stage(sch, "planes")
    if dense is not None:
        run_parallel(sch, p, sch.get_loops(dense)[:3])
    if place is not None:
        sch.compute_at(columns, place, preserve_unit_loops=True)
    *before, tile, i, at = sch.get_loops(columns)
    sch.reorder(i, tile, at)
    if place is None:
        run_parallel(sch, p, [*before, i])
    sch.annotate(at, VECTORS, lanes)
