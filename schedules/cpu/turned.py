"""Channels-first convolution as ``crossed``, over a channels-last copy of x (``ops.turned``): made once, by
tiles that are transposed in registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.problem import Problem
from tvmconv.compiler.ops.turned import ALGORITHM, TurnedPacking
from tvmconv.schedules.cpu import crossed, panels, pixel_tiles, planes
from tvmconv.schedules.cpu.tiles import (
    FEWEST_TASKS,
    evenly,
    image_bytes,
    peel_at,
    peel_tail,
    run_parallel,
)
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan, Space, require

STRATEGY = "turned"
# Of x, in times a core's cache; taps that use an element, and products of one, that pay for copying it.
_MIDDLING, _LARGE = 2, 16
_PRODUCTS, _OFTEN = 300, 9
_COPIED = 150  # likewise, products of an element that a core's cache holds
_PLANES, _BLOCKS, _TAPS = 12, 32, 9  # vectors of input and of output channels, taps of a small kernel
_FEW = 4  # planes, a line of each of which is near anyway
_DEEP = 8  # vectors of input channels of one of several groups
_MANY = 256  # products of an output
_SIDES = 2  # tiles
_PART = 4  # parts of a core's cache, of which the copy of a strip's rows takes one at most
_REST = 8  # parts of a core's cache, of which whatever else there is takes one
_MOST_VECTORS = 4  # of a register tile
_LOADS = 2  # per cycle
_LOADED = 0.05  # cycles that each takes besides
_SECOND = 1.4  # cycles, likewise, that a vector of weights takes from a core's second cache
_WAITING = 1.2  # times the latency that sums which wait for one another take
_FULL = 1.1  # times as long if a tile takes all registers: whatever else there is spills


def fits(p: Problem, machine: Machine) -> bool:
    return crossed.fits(p, machine) and p.in_group > 1 and p.taps > 1


def pays(p: Problem, machine: Machine) -> bool:
    """If output channels are whole vectors, there are many sums for each that is transposed as well, and the
    copy is small, or each of its elements is used often; or taps that see padding are worth skipping, but x
    is widened, which ``crossed`` does by a copy with its zeros. Measured with AVX2 and AVX-512 only."""
    lanes = machine.lanes(p.acc_bytes)
    if machine.avx512 and p.widened and p.in_group > _FEW and crossed.skips(p, machine):
        return True
    if not (machine.avx2 or machine.avx512) or p.in_group <= _FEW or p.out_group < 2 * lanes:
        return False
    if machine.avx512:
        return p.groups == 1 < prod(p.out_spatial) and _pays_in_long_vectors(p, machine)
    if (p.groups > 1 and p.in_group < _DEEP * lanes) or prod(p.out_spatial) == 1:
        return False
    size, used = p.acc_bytes * prod(p.x_shape()), _used(p)
    if size > _LARGE * machine.l2 and used < _OFTEN:
        return False
    if size > _MIDDLING * machine.l2 and used * p.out_group < _PRODUCTS:
        return False
    if crossed.skips(p, machine):
        return True
    few = p.in_group * p.taps < _MANY and panels.pays(p, machine)
    return not few and not planes.suits(p, machine)


def _pays_in_long_vectors(p: Problem, machine: Machine) -> bool:
    """If planes are small; or x is, each of whose elements is used often, and the shared cache is far; or in
    one dim, if a stride would otherwise have columns copied element by element."""
    if crossed.small_planes(p, machine):
        return True
    if _strides_over_small_planes(p, machine):
        return True
    used = _used(p)
    near = machine.far_l3 and p.acc_bytes * prod(p.x_shape()) <= _MIDDLING * machine.l2
    if near and not planes.suits(p, machine) and used * p.out_group >= _COPIED:
        return True
    row = len(p.spatial) == 1 and p.kernel[-1] > p.stride[-1] > 1 and used * p.out_group >= _PRODUCTS
    return row and panels.pays(p, machine)


def _strides_over_small_planes(p: Problem, machine: Machine) -> bool:
    """Whether a 3x3 kernel, or smaller, has strides over many planes that a core's cache holds beside a copy.
    Measured on a Zen 5, where fewer planes, more output channels or larger kernels took longer so."""
    lanes = machine.lanes(p.acc_bytes)
    if not machine.full_near_avx512 or min(p.stride) == 1 or len(p.spatial) != 2:
        return False
    some = p.in_group >= _PLANES * lanes and p.out_group <= _BLOCKS * lanes and 1 < p.taps <= _TAPS
    return some and 2 * image_bytes(p) <= machine.l2


def _used(p: Problem) -> float:
    """How many taps use an element of x, in the mean."""
    return p.taps * prod(p.out_spatial) / prod(p.spatial)


def tile_of(p: Problem, machine: Machine) -> tuple[int, int]:
    """(pixels, vectors of output channels) of the register tile: the pair with the fewest cycles, and of
    those the one with the most pixels, which loads weights least often. With dilation, tiles as narrow as
    ``crossed`` has them: all pixels of more of them see only padding."""
    if max(p.dilation) > 1:
        return crossed.tile_of(p, machine, copied=True)
    have = -(-p.out_group // machine.lanes(p.acc_bytes))
    lanes, held = machine.lanes(p.acc_bytes), _held(p, machine)
    able = [
        (wide, vectors)
        for vectors in range(1, min(have, _MOST_VECTORS) + 1)
        for wide in range(1, min(p.out_spatial[-1], (machine.vector_registers - 1) // vectors - 1) + 1)
        if vectors <= held or not (machine.far_l3 and crossed.asks(p, machine, wide, vectors * lanes))
    ]
    return min(able, key=lambda tile: (_cycles(p, machine, *tile), -tile[0]), default=(1, 1))


def _held(p: Problem, machine: Machine) -> int:
    """Vectors of output channels of a tile, so that a core's cache holds their weights, those that are asked
    for meanwhile, and x: best where the shared cache is far away."""
    weights = machine.vector_bits // 8 * p.in_group * p.taps
    return max(1, (machine.l2 - machine.l2 // _REST - image_bytes(p)) // (2 * weights))


def _cycles(p: Problem, machine: Machine, width: int, vectors: int) -> float:
    """What all tiles of a row take for an input channel."""

    def tile(wide: int, vectors: int) -> float:
        sums = wide * vectors / machine.fma_ports
        full = wide * vectors + vectors + 1 >= machine.vector_registers
        busy = max(sums * (_FULL if full else 1), machine.fma_latency * _WAITING)
        loads = wide + vectors
        return max(busy, loads / _LOADS) + loads * _LOADED + _waits(p, machine, loads, vectors)

    have = -(-p.out_group // machine.lanes(p.acc_bytes))
    return sum(
        tile(wide, deep) * tiles * blocks
        for wide, tiles in _parts(p.out_spatial[-1], width)
        for deep, blocks in _parts(have, vectors)
    )


def _waits(p: Problem, machine: Machine, loads: int, vectors: int) -> float:
    """Cycles that a tile's loads take besides if its weights come from a core's second cache, which holds x
    as well: else few blocks of channels, each of which reads x anew, matter more. Measured where the shared
    cache is far."""
    size, weights = image_bytes(p), p.in_group * p.taps * machine.vector_bits // 8
    second = machine.far_l3 and weights > machine.l1 and 2 * size <= machine.l2
    return vectors * _SECOND + loads * _LOADED if second else 0.0


def _parts(extent: int, size: int) -> list[tuple[int, int]]:
    """The sizes of the tiles of ``extent``, and how many there are of each."""
    return [(part, count) for part, count in ((size, extent // size), (extent % size, 1)) if part and count]


def space(p: Problem, machine: Machine) -> Space:
    heights = {0, strip_of(p, machine), 1, 2, 4} if len(p.spatial) > 1 else {0}
    return {**crossed.space(p, machine), "strip": sorted(n for n in heights if n < p.out_spatial[0])}


def strip_of(p: Problem, machine: Machine) -> int:
    """Rows of the output to compute from one copy, where a core's cache would not hold x and all of it, and
    holds all weights, which every strip goes through; 0 elsewhere. Measured where the shared cache is far."""
    rows = p.batch * p.out_spatial[0]
    if not machine.far_l3 or len(p.spatial) == 1 or rows < FEWEST_TASKS:
        return 0
    if p.groups > 1 or max(p.dilation) > 1:
        return 0
    weights, x = p.acc_bytes * p.taps * p.in_group * p.out_group, p.batch * image_bytes(p)
    if 2 * weights > machine.l2 or 2 * x <= machine.l2:
        return 0
    row = p.acc_bytes * p.in_group * prod(p.spatial[1:])
    held = (machine.l2 // _PART // row - p.extent(0)) // p.stride[0] + 1
    strip = evenly(p.out_spatial[0], max(1, min(held, rows // FEWEST_TASKS)))
    return strip if strip < p.out_spatial[0] else 0


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: see ``crossed.plan_of``; and rows of the output that are computed from one copy
    of what they read of x (0: all, from one of x)."""
    lanes, tile, given = machine.lanes(p.acc_bytes), tile_of(p, machine), dict(point or {})
    taps = pixel_tiles.taps_of(p, machine, prod(tile)) if max(p.dilation) > 1 else 0
    strip = given.pop("strip", None)
    point = crossed.point_of(p, machine, given, tile, taps)
    strip = point["strip"] = strip_of(p, machine) if strip is None else strip
    most = p.out_spatial[0] - 1 if len(p.spatial) > 1 else 0
    require(0 <= strip <= most, point, "strip", f"0 to {most}")

    def apply(sch: Schedule) -> None:
        place = crossed.schedule(sch, p, machine, **point)
        _turn(sch, p, lanes, place)

    return Plan(STRATEGY, ALGORITHM, TurnedPacking(point["block"], strip=strip), apply, point)


def _turn(sch: Schedule, p: Problem, lanes: int, place: Any) -> None:
    """Copy x by tiles of as many pixels as channels, each of a vector; two side by side read whole lines of a
    plane, of which caches may not hold as many as there are planes. The rows of a strip in ``place``, or all
    of x before."""
    turned, plane = sch.get_sblock("turned"), p.spatial
    if place is not None:
        sch.compute_at(turned, place, preserve_unit_loops=True)
        plane = plane[1:]
    *before, g, i = sch.get_loops(turned)
    pixel, pixels = sch.fuse(*before[-len(plane) :]), prod(plane)
    high, wide = min(lanes, pixels), min(lanes, p.in_group)
    po, side, pi = sch.split(pixel, [None, _SIDES, high], preserve_unit_iters=True)
    io, ii = sch.split(i, [None, wide], preserve_unit_iters=True)
    sch.reorder(g, po, io, side, pi, ii)
    peel_tail(sch, po, pixels, _SIDES * high)
    peel_at(sch, side, _SIDES, [pixels % (_SIDES * high) // high])
    peel_tail(sch, io, p.in_group, wide)
    sch.unroll(pi)
    sch.vectorize(ii)
    if place is None:
        run_parallel(sch, p, [before[0], g, po])
