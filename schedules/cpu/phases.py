"""Channels-first convolution with a stride along rows: as ``planes``, over a copy of x (``ops.phases``) in
which what the lanes of a vector read is contiguous."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.lower.loops import VECTORS
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.phases import ALGORITHM
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cpu import planes
from tvmconv.schedules.cpu.tiles import FETCHED, copies_by_group, image_bytes, lends, peel_at
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan, Space

STRATEGY = "phases"
_COPIED = 2  # multiply-adds that an element costs to copy, per stride
_WRITTEN_OUT = 200  # multiply-adds of a depthwise tile
_NARROW = 1.15  # what a multiply-add of short vectors costs, for their tiles are small and load more
_MUCH = 4  # times a core's cache: x that is far away
_TRANSPOSED = 6  # that one of a tile costs to transpose
# Of a long vector's time, what half of one takes: where a long one is two, or as if it were; where it is one,
# whose stores alone are shorter; and there, beside tiles along rows of one vector with few taps, which load
# much.
_HALF, _SHORTER, _AGAINST_ONE = 0.5, 0.75, 0.6
_MANY_TAPS = 5  # of a row, likewise
_SMALL = 9  # taps by vectors of a tile
_OFTEN = 12  # multiply-adds for each element of a plane
_FEW = 200  # elements of a plane


def fits(p: Problem, machine: Machine) -> bool:
    return not p.channels_last and p.stride[-1] > 1


def pays(p: Problem, machine: Machine) -> bool:
    """If the copy is made anyway, of nothing that is never read, or read several times, and rows make better
    vectors than output channels."""
    often = p.kernel[-1] > p.stride[-1]
    if p.is_depthwise or p.out_group == 1:
        return often or (p.kernel[-1] == p.stride[-1] and (p.padded or p.widened))
    return often and cost(p, machine) < _crossed(p, machine) and not lends(p, machine)


def cost(p: Problem, machine: Machine) -> float:
    """Cost of a vector multiply-add, copying included, with vectors along rows."""
    copied = _COPIED * p.stride[-1] * prod(p.stride) / (p.taps * p.out_group)
    loads = _NARROW if not machine.avx512 else 1.0 + _fetched(p, machine)
    return (1 + copied) * loads / planes.filled(p.out_spatial[-1], machine.lanes(p.acc_bytes))


def _fetched(p: Problem, machine: Machine) -> float:
    """What a multiply-add waits for x that comes from far away for each block of output channels."""
    if image_bytes(p) <= _MUCH * machine.l2:
        return 0.0
    channels, _, _ = planes.tile_of(p, machine)
    return FETCHED * machine.vector_bits / 8 * prod(p.stride) / (p.taps * channels)


def _crossed(p: Problem, machine: Machine) -> float:
    """Likewise with vectors of output channels, and tiles that are transposed."""
    lanes = machine.lanes(p.acc_bytes)
    cost = (1 + _TRANSPOSED / (p.in_group * p.taps)) / planes.filled(p.out_group, lanes)
    if machine.avx512 and 2 * p.out_group <= lanes:
        cost *= _half(p, machine, lanes)
    return cost


def _half(p: Problem, machine: Machine, lanes: int) -> float:
    """Of the time of a long vector of output channels, what half of one takes. Two cores may share no cache
    that is near: of a copy made before all groups they read much that the other wrote."""
    if machine.halved or machine.far_l3 or not copies_by_group(p, machine):
        return _HALF
    return _AGAINST_ONE if p.out_spatial[-1] <= lanes and p.kernel[-1] < _MANY_TAPS else _SHORTER


def space(p: Problem, machine: Machine) -> Space:
    return planes.space_of(p, machine, copied=True)


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: see ``planes.plan_of``."""
    channels, rows, vectors = planes.tile_of(p, machine)
    if p.is_depthwise:  # or LLVM keeps what rows share, and spills
        rows = min(rows, max(1, _WRITTEN_OUT // (p.taps * channels * vectors)))
    chosen = {"rows": rows, **(point or {})}
    if p.is_depthwise and p.taps * vectors <= _SMALL and _one_by_one(p, machine):
        chosen = {"planes": 1, **chosen}
    point = planes.point_of(p, machine, chosen, copied=True)
    lanes = machine.lanes(p.acc_bytes)

    def schedule(sch: Schedule) -> None:
        planes.schedule(sch, p, machine, **point, in_rows=sort_rows(lanes), ask=_asks(p, machine))

    return Plan(STRATEGY, ALGORITHM, Packing(point["channels"]), schedule, point)


def _asks(p: Problem, machine: Machine) -> bool:
    """Whether to ask for the next planes while computing with a copy of some: they come from far away, and
    an element is used so often that there is time to."""
    far = machine.far_l3 and p.batch * p.groups * image_bytes(p) > machine.l2
    return far and p.is_depthwise and p.taps >= _OFTEN * prod(p.stride)


def _one_by_one(p: Problem, machine: Machine) -> bool:
    """Whether tiles of few taps are fastest where each plane is copied just before it is read. Measured with
    AVX2, and with AVX-512 where a plane is small, of more than a vector of outputs."""
    small = prod(p.spatial) <= _FEW and prod(p.out_spatial) > machine.lanes(p.acc_bytes)
    return machine.avx2 or (machine.avx512 and small)


def sort_rows(lanes: int) -> Callable[[Schedule, Problem, Any], None]:
    """For ``planes``: copies rows phase by phase, in vectors where all phases are inside x."""
    return lambda sch, p, copy: _sort(sch, p, copy, lanes)


def _sort(sch: Schedule, p: Problem, copy, lanes: int) -> None:
    rank, stride, (lo, _) = len(p.spatial), p.stride[-1], p.pad[-1]
    *rows, phase, at = sch.get_loops(copy)[-(rank + 1):]
    for d, loop in enumerate(rows):
        planes.peel_dim(sch, p, d, loop)
    peel_at(sch, phase, stride, [*range(1, stride)])
    peel_at(sch, at, int(sch.get(at).extent), [-(-lo // stride), (lo + p.spatial[-1]) // stride])
    sch.annotate(at, VECTORS, lanes)
