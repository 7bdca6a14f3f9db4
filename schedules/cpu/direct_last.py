"""Channels-last convolution with several input channels a group: a register tile of pixels by channels.

Weights are packed so that one load brings those of a vector of output channels; each input value is
broadcast against them. Taps above and below the image are skipped as rows, left and right borders are tiles
of their own, so there is no padded copy of x.
"""

from __future__ import annotations

from tvm.s_tir import Schedule

from tvmconv.ops.packing import Packing
from tvmconv.ops.problem import Problem
from tvmconv.schedules.cpu.tiles import peel_borders, peel_tail, run_parallel, vector_tile, widen
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan


def rule(p: Problem, machine: Machine) -> Plan | None:
    if not p.channels_last:
        return None
    lanes = machine.lanes(p.acc_bytes)
    width, vectors = tile_of(p, machine)
    block = min(vectors * lanes, p.out_group)
    return Plan("direct_last", Packing(block),
                lambda sch: schedule(sch, p, lanes, width, block),
                {"width": width, "block": block})


def tile_of(p: Problem, machine: Machine) -> tuple[int, int]:
    """(pixels, vectors of output channels) of the register tile: the pair that wastes least."""
    lanes = machine.lanes(p.acc_bytes)
    have = -(-p.out_group // lanes)
    width = p.out_spatial[-1]
    # AVX-512 broadcasts an operand from memory; elsewhere that takes a register.
    registers = machine.vector_registers - (machine.vector_bits < 512)
    best, best_score = (1, 1), 0.0
    for vectors in range(1, min(have, 4) + 1):
        # A register for the weights of each vector; with several taps, room for what is loaded ahead.
        sums = registers - vectors if p.taps == 1 else registers * 5 // 8
        for pixels in range(1, min(width, sums // vectors) + 1):
            tiles, blocks = -(-width // pixels), -(-have // vectors)
            filled = width / (tiles * pixels) * have / (blocks * vectors)
            per_load = pixels * vectors / (pixels + vectors)
            hidden = min(1.0, pixels * vectors / (machine.fma_latency * machine.fma_ports))
            score = filled * hidden * min(1.0, 0.6 + 0.1 * per_load)
            if score > best_score * 1.001:
                best, best_score = (pixels, vectors), score
    return best


def schedule(sch: Schedule, p: Problem, lanes: int, width: int, block: int) -> None:
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    copy = sch.get_sblock("pad") if p.widened else None
    if p.padded and copy is None:
        sch.compute_inline(sch.get_sblock("pad"))
    n, *outer, x, g, o = sch.get_loops(y)
    xo, xi = sch.split(x, [None, width], preserve_unit_iters=True)
    oo, oi = sch.split(o, [None, block], preserve_unit_iters=True)
    sch.reorder(n, *outer, g, oo, xo, xi, oi)
    if copy is None:
        peel_borders(sch, xo, p, len(p.spatial) - 1, width)
    else:
        peel_tail(sch, xo, p.out_spatial[-1], width)
        widen(sch, p, copy, lanes)
    peel_tail(sch, oo, p.out_group, block)
    vector_tile(sch, oi, lanes, block)
    sch.unroll(xi)
    run_parallel(sch, p, [n, *outer, g, oo] if outer else [n, g, oo, xo])
    sch.compute_at(conv, xo, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    loops = sch.get_loops(conv)
    rank = len(p.spatial)
    own = loops[-(2 * rank + 4):]
    pixel, channel = own[rank], own[rank + 2]
    taps, i = own[rank + 3 : -1], own[-1]
    vec, lane = vector_tile(sch, channel, lanes, block)
    sch.reorder(*taps, i, pixel, vec, lane)
    sch.unroll(pixel)
    sch.unroll(taps[-1])
    sch.decompose_reduction(conv, taps[0])
