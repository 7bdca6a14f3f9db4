"""Channels-last pointwise convolution by Strassen's product (``ops.strassen``).

A task takes a strip of pixels, in the sets that the product combines: it makes their sums, and for each block
of output channels multiplies them in register tiles, then adds up the products and applies the epilogue;
everything stays in the core's own cache. There are several times as many weights as in the layer; they are
asked for ahead of their use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops import strassen
from tvmconv.compiler.ops.problem import Problem
from tvmconv.compiler.ops.strassen import LEVELS, StrassenPacking
from tvmconv.schedules.cpu.asking import ask_ahead
from tvmconv.schedules.cpu.tiles import (
    image_bytes,
    peel_at,
    peel_tail,
    run_parallel,
    vector_run,
    vector_tile,
)
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Plan,
    Space,
    at_most,
    require,
    require_block,
    require_registers,
    require_within,
    settled,
)

STRATEGY = "strassen"
# By level, in multiply-adds of a vector of output channels: the additions, loads and stores that it takes,
# and those that a vector of x takes. Measured with AVX-512, and with AVX2, on a Zen 4.
_OF_Y = {1: 6.0, 2: 11.0}
_OF_X = {1: 4.0, 2: 11.0}
_SLOW = 2.0  # times as much where no operand comes from memory
_LEAST_GAIN = 1.05  # over the direct convolution, by these costs
_STREAMED, _NEAR = 0.9, 0.2  # multiply-adds that a vector of weights costs a strip, and a register tile
_LONGEST = 28  # sets of pixels of a strip
_FEWEST = 24  # such sets in all: with fewer, threads would each read all weights for few pixels
_LARGE, _MANY = 2, 32  # x, in times a core's cache; vectors of output channels
_THREADS = (2, 4)  # among which strips should divide evenly


def fits(p: Problem, machine: Machine) -> bool:
    return p.channels_last and strassen.fits(p)


def pays(p: Problem, machine: Machine) -> bool:
    """If it costs less than the direct convolution. Not with AVX2: a Zen 3 takes 1.05 to 1.25 times as long,
    for its core's cache and 16 registers hold fewer pixels for which weights are read. Nor where additions
    take the ports of AVX-512's multiply-adds: a Granite Rapids takes 1.05 to 1.45 times as long, for it also
    reads from further away the weights that its core's cache does not hold. Nor on a Zen 5 where the sums of
    a large x, from beyond that cache, are for few output channels: up to 1.4 times as long."""
    if machine.avx2 or (machine.avx512 and not machine.adds_apart):
        return False
    large = p.batch * p.groups * image_bytes(p) > _LARGE * machine.l2
    if machine.full_avx512 and large and p.out_group < _MANY * machine.lanes():
        return False
    return _gain(p, machine, _levels(p, machine)) >= _LEAST_GAIN


def worth_trying(p: Problem, machine: Machine) -> bool:
    """If the products alone might cost less."""
    return min(p.in_group, p.out_group) >= 2 * machine.lanes() and p.out_spatial[0] >= _FEWEST


def _levels(p: Problem, machine: Machine) -> int:
    return max(_able(p), key=lambda levels: _gain(p, machine, levels))


def _able(p: Problem) -> list[int]:
    return [levels for levels in LEVELS if strassen.fits(p, levels)]


def _gain(p: Problem, machine: Machine, levels: int) -> float:
    """How many times as fast as the direct convolution it may be; 0 with too few pixels to tell."""
    packing = StrassenPacking(1, levels)
    tiles, lanes, wide = packing.tiles(p), machine.lanes(), p.out_group // packing.parts
    if tiles < _FEWEST:
        return 0.0
    strip, _ = _strip(p, machine, packing)
    filled = p.out_spatial[0] / (tiles * packing.parts) * wide / (-(-wide // lanes) * lanes)
    vectors = p.in_group * (7 / 8) ** levels / filled / _efficiency(tiles, strip)
    added = _OF_Y[levels] + _OF_X[levels] * p.in_group / p.out_group
    direct = p.in_group * (-(-p.out_group // lanes) * lanes) / p.out_group
    return direct / (vectors + added * (1.0 if machine.memory_operands else _SLOW))


def _strip(p: Problem, machine: Machine, packing: StrassenPacking) -> tuple[int, int]:
    """Sets of pixels of a strip, and of the register tile: of those whose sums leave room for weights in the
    core's cache, those that are best divided among threads, and for which weights are read least often."""
    tiles = packing.tiles(p)
    held = machine.l2 // 2 // (7**packing.levels * p.in_group // packing.parts * p.acc_bytes)
    most = max(1, min(tiles, held, _LONGEST))
    vectors = _vectors(p, machine, packing)
    high = (machine.vector_registers - vectors - (not machine.avx512 or vectors > 1)) // vectors
    busy = machine.fma_latency * machine.fma_ports / vectors

    def worth(sizes: tuple[int, int]) -> float:
        strip, step = sizes
        return _efficiency(tiles, strip) * min(1.0, step / busy) * step / (step + _NEAR)

    pairs = ((strip, step) for step in range(1, high + 1) for strip in range(step, most + 1, step))
    return max(pairs, key=worth)


def _vectors(p: Problem, machine: Machine, packing: StrassenPacking) -> int:
    """Of output channels, in the register tile: two, or one where multiply-adds take x from memory and a
    second would be partial."""
    lanes, wide = machine.lanes(), p.out_group // packing.parts
    return 2 if wide % (2 * lanes) == 0 or (not machine.avx512 and wide > lanes) else 1


def _efficiency(tiles: int, strip: int) -> float:
    """The part of the time for which threads multiply."""
    strips = -(-tiles // strip)
    shares = [tiles / (threads * min(-(-strips // threads) * strip, tiles)) for threads in _THREADS]
    return sum(shares) / len(shares) * strip / (strip + _STREAMED)


def space(p: Problem, machine: Machine) -> Space:
    lanes, least = machine.lanes(), StrassenPacking(1)
    tiles, wide = least.tiles(p), p.out_group // least.parts
    return {
        "levels": _able(p),
        "steps": at_most(min(tiles, _LONGEST)),
        "step": list(range(1, min(tiles, machine.vector_registers - 2) + 1)),
        "block": sorted({min(v * lanes, wide) for v in range(1, 5)}),
    }


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for any problem that the algorithm fits, whether or not it pays. ``point``: levels of halves;
    sets of pixels and channels of the register tile; how many such steps a strip has. Raises ValueError if it
    does not fit."""
    lanes = machine.lanes()
    chosen = {"levels": _levels(p, machine), **(point or {})}
    able = _able(p)
    require(chosen["levels"] in able, chosen, "levels", " or ".join(map(str, able)))
    packing = StrassenPacking(1, chosen["levels"])
    tiles, wide = packing.tiles(p), p.out_group // packing.parts
    strip, step = _strip(p, machine, packing)
    vectors = _vectors(p, machine, packing)
    default = {"levels": packing.levels, "steps": -(-strip // step), "step": step,
               "block": min(vectors * lanes, wide)}
    point = settled(point, default)
    block, step = point["block"], point["step"]
    require_within(point, step=tiles, steps=-(-tiles // step) if step else 0)
    require_block(point, lanes, wide)
    require_registers(point, "step", step * -(-block // lanes), machine.vector_registers)
    packing = StrassenPacking(block, packing.levels)
    return Plan(
        STRATEGY, strassen.ALGORITHM, packing, lambda sch: schedule(sch, p, packing, lanes, point), point,
        pack=lambda sch: pack_schedule(sch, lanes, block),
    )  # fmt: skip


def schedule(
    sch: Schedule, p: Problem, packing: StrassenPacking, lanes: int, point: Mapping[str, Any]
) -> None:
    step, size, block = point["step"], point["steps"] * point["step"], packing.block
    y, conv, products, sides = (sch.get_sblock(name) for name in ("y", "conv", "products", "sides"))
    sch.compute_inline(conv)
    n, t, k, g, o = sch.get_loops(y)
    task, t = sch.split(t, [None, size], preserve_unit_iters=True)
    move, tile = sch.split(t, [None, step], preserve_unit_iters=True)
    oo, oi = sch.split(o, [None, block], preserve_unit_iters=True)
    sch.reorder(n, g, task, oo, move, tile, k, oi)
    vec, lane = sch.split(oi, [None, min(lanes, block)], preserve_unit_iters=True)
    peel_tail(sch, vec, block, min(lanes, block))
    sch.reorder(vec, k, lane)
    sch.vectorize(lane)
    sch.unroll(k)
    tiles, whole = packing.tiles(p), p.out_spatial[0] // packing.parts
    peel_tail(sch, oo, p.out_group // packing.parts, block)
    if whole % size or whole < tiles:
        peel_at(sch, task, -(-tiles // size), [whole // size])
        peel_at(sch, move, size // step, [whole % size // step])
    run_parallel(sch, p, [n, g, task])
    sch.compute_at(products, move, preserve_unit_loops=True)
    sch.compute_at(sides, task, preserve_unit_loops=True)
    s, *at, i = sch.get_loops(sides)[-5:]
    across, lane = vector_run(sch, i, lanes, p.in_group // packing.parts)
    sch.reorder(*at, across, s, lane)
    sch.unroll(s)
    _products(sch, products, lanes, block)


def _products(sch: Schedule, products, lanes: int, block: int) -> None:
    """The matrix products of sums, their own sums in registers until complete."""
    s, n, tile, g, o, i = sch.get_loops(products)[-6:]
    vec, lane = vector_tile(sch, o, lanes, block)
    sch.reorder(s, n, g, i, tile, vec, lane)
    store = sch.cache_write(products, 0, "local")
    sch.reverse_compute_at(store, s, preserve_unit_loops=True)
    *_, to_tile, _, to_o = sch.get_loops(store)
    vector_tile(sch, to_o, lanes, block)
    for loop in (tile, to_tile):
        sch.unroll(loop)
    ask_ahead(sch, i, block * 4)
    sch.decompose_reduction(products, i)


def pack_schedule(sch: Schedule, lanes: int, block: int) -> None:
    """Sum weights a vector at a time."""
    g, oo, s, i, lane = sch.get_loops(sch.get_sblock("transformed"))
    vec, lane = vector_run(sch, lane, lanes, block)
    sch.reorder(g, oo, i, vec, s, lane)
    sch.unroll(s)
