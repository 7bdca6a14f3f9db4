"""Channels-first transposed convolution: vectors along the positions of a phase, a register tile of output
channels by vectors; then the phases along the row are interleaved in registers and stored as vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.transposed import PhaseSums
from tvmconv.compiler.ops.transposed_problem import TransposedPacking, TransposedProblem
from tvmconv.schedules.cpu import planes
from tvmconv.schedules.cpu.tiles import evenly, peel_at, peel_tail, planes_of, run_parallel, vector_tile
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

STRATEGY = "transposed_planes"
MOST_WRITTEN_OUT = 8  # phases, and taps, of a dim
_MOST_JOINED = 4  # phases; with more, most of what an interleaving vector loads is for other vectors

WIDE = 16  # lanes: more than one such vector of phases with unlike taps is often interleaved through memory
_TALL = 12  # channels of a tile then
_ALONE = 4  # vectors of a single channel


def fits(p: TransposedProblem, machine: Machine) -> bool:
    return not p.channels_last


def space(p: TransposedProblem, machine: Machine) -> Space:
    default, width = plan_of(p, machine).point, -(-p.positions[-1] // machine.lanes(p.acc_bytes))
    return {
        "planes": [d for d in at_most(p.groups, default["planes"]) if p.groups % d == 0],
        "channels": list(range(1, min(p.out_group, machine.vector_registers - 2) + 1)),
        "vectors": list(range(1, min(width, 4, _most_vectors(p)) + 1)),
        "phases": [n for n in (1, 2, 4, 8) if n == 1 or _alike(p, n)],
    }


def plan_of(p: TransposedProblem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: planes that are padded at a time; output channels, vectors and, for a single
    channel, phases of the register tile. Raises ValueError if it does not fit."""
    lanes = machine.lanes(p.acc_bytes)
    width = -(-p.positions[-1] // lanes)
    channels, _, vectors = planes.tile_of(p.phase(), machine)
    alone = p.out_group == 1 and (lanes < WIDE or p.is_depthwise)
    if alone and machine.memory_operands:
        vectors = evenly(width, min(width, _ALONE))  # there are no rows beside them, as planes have
    phases = 8 if p.out_group == 1 and _alike(p, 8) and machine.vector_registers >= 16 else 1
    vectors = min(vectors, _most_vectors(p))
    if joins(p) and lanes >= WIDE and unlike(p) and not alone:
        channels, vectors = evenly(p.out_group, _TALL), 1
    if phases > 1:
        vectors = evenly(width, min(4, width, max(1, (machine.vector_registers - 4) // phases)))
    point = settled(None if point is None else {"phases": 1, **point}, {
        "planes": planes_of(p.phase(), machine), "channels": channels, "vectors": vectors,
        "phases": phases,
    })  # fmt: skip
    channels, vectors = point["channels"], point["vectors"]
    require_divides(point, planes=p.groups)
    require_within(point, channels=p.out_group, vectors=min(-(-p.positions[-1] // lanes), _most_vectors(p)))
    phases = point["phases"]
    require(phases == 1 or (phases > 1 and _alike(p, phases) and channels == 1), point, "phases",
            "1 where phases see x at different places, or there are channels beside them")
    require_registers(point, "channels", channels * vectors * phases, machine.vector_registers)
    return Plan(STRATEGY, PhaseSums(planes=True), TransposedPacking(channels),
                lambda sch: schedule(sch, p, lanes, point["planes"], channels, vectors, phases), point)


def _alike(p: TransposedProblem, phases: int) -> bool:
    """Whether the given phases, of a single dim, have the same positions and taps, and see the same part of
    x."""
    if len(p.spatial) > 1 or p.stride[0] % phases or p.stride[0] <= _MOST_JOINED or p.dilation[0] > 1:
        return False
    return not (p.kernel[0] % p.stride[0] or p.out_spatial[0] % p.stride[0] or p.pad[0][0] % p.stride[0])


def joins(p: TransposedProblem) -> bool:
    """Whether a row's phases are interleaved in registers."""
    return 1 < p.stride[-1] <= _MOST_JOINED


def unlike(p: TransposedProblem) -> bool:
    """Whether a row's phases differ in the number of their taps."""
    return p.kernel[-1] % p.tap_step(len(p.kernel) - 1) > 0


def _most_vectors(p: TransposedProblem) -> int:
    return 7 // (p.stride[-1] - 1) if joins(p) else 7


def write_out_dilated(sch: Schedule, p: TransposedProblem, phases: list) -> None:
    """Unroll ``phases``, one loop per dim, for dilated dims: which taps a phase has there is better computed
    at compile time."""
    for loop, stride, dilation in zip(phases, p.stride, p.dilation, strict=False):
        if dilation > 1 and stride <= MOST_WRITTEN_OUT:
            peel_at(sch, loop, stride, list(range(1, stride)))


def schedule(
    sch: Schedule, p: TransposedProblem, lanes: int, ahead: int, channels: int, vectors: int, phases: int
) -> None:
    y, phase, conv = sch.get_sblock("y"), sch.get_sblock("phase"), sch.get_sblock("conv")
    copy = sch.get_sblock("pad") if p.phase().padded or p.widened else None
    joined = joins(p)
    if not joined:
        sch.compute_inline(phase)
    rank = len(p.spatial)
    n, g, o, *halves, last = sch.get_loops(y)
    q, r = [*halves[: rank - 1], last], halves[rank - 1 :]
    width = p.positions[-1]
    span = min(lanes * vectors, width)
    go, gi = sch.split(g, [None, ahead], preserve_unit_iters=True)
    oo, oi = sch.split(o, [None, channels], preserve_unit_iters=True)
    xo, xi = sch.split(q[-1], [None, span], preserve_unit_iters=True)
    rows = [*q[:-1], *r[:-1]]
    if joined:
        sch.reorder(n, go, gi, oo, *rows, xo, oi, xi, r[-1])
        vector_tile(sch, sch.fuse(xi, r[-1]), lanes, span * p.stride[-1])
    elif phases > 1:
        # Neighbours in y belong to different phases: a tile of phases is transposed as it is stored.
        ro, ri = sch.split(r[-1], [None, phases], preserve_unit_iters=True)
        sch.reorder(n, go, gi, oo, *rows, ro, xo, oi, xi, ri)
        sch.unroll(xi)
        sch.vectorize(ri)
    else:
        sch.reorder(n, go, gi, oo, *rows, r[-1], xo, oi, xi)
        vector_tile(sch, xi, lanes, span)
    write_out_dilated(sch, p, r[:-1] if joined or phases > 1 else r)
    peel_tail(sch, oo, p.out_group, channels)
    partial = width % span or p.out_spatial[-1] % p.stride[-1]
    peel_at(sch, xo, -(-width // span), [p.out_spatial[-1] // (span * p.stride[-1])] if partial else [])
    sch.unroll(oi)
    place = xo
    if joined:
        sch.compute_at(phase, xo, preserve_unit_loops=True)
        sch.set_scope(phase, 0, "local")
        own = sch.get_loops(phase)[-(2 * rank + 3):]
        channel, turn, pixel = own[2], own[2 * rank + 1], own[2 * rank + 2]
        sch.reorder(turn, channel, pixel)
        peel_at(sch, turn, p.stride[-1], list(range(1, p.stride[-1])))
        sch.unroll(channel)
        vector_tile(sch, pixel, lanes, span)
        place = turn
    sch.compute_at(conv, place, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    if copy is not None and p.is_depthwise:
        sch.compute_at(copy, go, preserve_unit_loops=True)
        run_parallel(sch, p, [n, go])
    else:
        run_parallel(sch, p, [n, go, gi, oo, *rows, *([ro] if phases > 1 else [])])
        if copy is not None:
            run_parallel(sch, p, sch.get_loops(copy)[:3])
    own = sch.get_loops(conv)[-(3 * rank + 4):]
    channel, turn, pixel = own[2], own[2 * rank + 1], own[2 * rank + 2]
    taps, i = own[2 * rank + 3 : -1], own[-1]
    vec, lane = vector_tile(sch, pixel, lanes, span)
    sch.reorder(*taps, i, *([turn] if phases > 1 else []), channel, vec, lane)
    sch.unroll(channel)
    if phases > 1:
        sch.unroll(turn)
    if p.is_depthwise and prod(p.steps) <= 16:
        for tap in taps[-2:]:
            sch.unroll(tap)
    sch.decompose_reduction(conv, taps[0])
    if copy is not None:
        for d, loop in enumerate(sch.get_loops(copy)[-rank:]):
            lo, _ = p.around(d)
            peel_at(sch, loop, int(sch.get(loop).extent), [lo, lo + p.spatial[d]])
