"""Blocks in tiles of the result, a block of threads each: a tile expands what it reads, with its halo, into
shared memory, a chunk of channels at a time, filters it there and adds its products to sums in registers
(``codegen.halo_tiles``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

from tvmconv.base.errors import TargetError
from tvmconv.compiler.ops.algorithm import LoopNest
from tvmconv.compiler.ops.block_packing import BlockPacking, BlockProblem
from tvmconv.schedules.cuda.tiles import SHARED, WARP
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.plan import Plan, Space, require, require_divides, require_within, settled
from tvmconv.specs.block import BlockSpec

STRATEGY = "halo_tiles"
VECTOR = 4  # channels that are loaded at a time
_REGISTERS = 96  # for sums and what they are made of, of 128
_THREADS = [64, 128, 256, 512]
_SIDES = (1, 2, 4, 7, 8, 14, 16)  # of a tile
_LEAST = 16  # pixels of a tile, and channels of a panel
_CHUNKS = (4, 8, 12, 16, 24, 32, 48, 64)
_DEPTHS = (16, 8, 4)
_MOST_WARPS = 16  # of a multiprocessor, with 128 registers a thread
_ENOUGH_WARPS = 8
_LOAD = 4  # a vector from shared memory, in multiply-adds
_BARRIER = 100  # in multiply-adds


def fits(p: BlockProblem, machine: GpuMachine) -> bool:
    return True


def space(p: BlockProblem, machine: GpuMachine) -> Space:
    """Rows and columns of a tile; channels of a chunk, of a slice of x, of a panel of the result, and of a
    thread's sums; pixels that a thread filters; threads."""
    default = plan_of(p, machine).point
    values = {
        "rows": _sides(p.spec.out_spatial[0]), "columns": _sides(p.spec.out_spatial[1]),
        "chunk": _up_to(_CHUNKS, p.spec.channels),
        "depth": _up_to(_DEPTHS, p.spec.in_channels) if p.spec.expand else [VECTOR],
        "outputs": _panels(p.spec, 2 * VECTOR), "lanes": [VECTOR, 2 * VECTOR],
        "width": [1, 2, 4], "threads": _THREADS,
    }  # fmt: skip
    return {name: sorted({*found, default[name]}) for name, found in values.items()}


def plan_of(p: BlockProblem, machine: GpuMachine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for the default point, or for ``point``. Raises ValueError if that does not fit, TargetError
    where none does."""
    default = _default(p.spec, machine)
    if default is None:
        seen = " x ".join(map(str, halo(p.spec, 1, 1)))
        expected = f"expected some that fit {SHARED} bytes of shared memory"
        raise TargetError(f"{p.spec}: windows of {seen} pixels for {machine.name}, {expected}")
    point = settled(point, default)
    spec, (high, wide) = p.spec, p.spec.out_spatial
    require_within(point, rows=high, columns=wide, chunk=_whole(spec.channels),
                   depth=_whole(spec.in_channels) if spec.expand else VECTOR,
                   outputs=_whole(spec.out_channels, point["lanes"]))  # fmt: skip
    for name in ("chunk", "depth"):
        require(point[name] % VECTOR == 0, point, name, f"a multiple of {VECTOR}")
    require(point["lanes"] in (VECTOR, 2 * VECTOR), point, "lanes", f"{VECTOR} or {2 * VECTOR}")
    require_divides(point, lanes=point["outputs"], width=point["columns"])
    require(point["threads"] in _THREADS, point, "threads", f"one of {_THREADS}")
    for name, lanes in (("chunk", VECTOR), ("outputs", point["lanes"])):
        require(point[name] <= point["threads"] * lanes, point, name, f"at most {lanes} a thread")
    require(_bytes(spec, point) <= SHARED, point, "chunk", f"{SHARED} bytes of shared memory to hold tiles")
    require(_registers(spec, point) <= _REGISTERS, point, "rows", f"{_REGISTERS} registers to hold the sums")
    packing = BlockPacking(point["chunk"], point["outputs"])
    return Plan(STRATEGY, LoopNest(STRATEGY), packing, lambda sch: None, point, spec.is_exact)


def halo(spec: BlockSpec, rows: int, columns: int) -> tuple[int, int]:
    """The pixels that a tile of so many of the result reads, down and across."""
    return spec.reach(0, rows), spec.reach(1, columns)


def _seen(spec: BlockSpec, point: Mapping[str, int]) -> int:
    down, across = halo(spec, point["rows"], point["columns"])
    return down * across


def _bytes(spec: BlockSpec, point: Mapping[str, int]) -> int:
    """Of shared memory."""
    seen, tile = _seen(spec, point), point["rows"] * point["columns"]
    return 4 * (seen * (point["chunk"] + point["depth"] * bool(spec.expand)) + tile * point["chunk"])


def _pixels(size: int, point: Mapping[str, int], channels: str, lanes: int) -> int:
    """Of so many, those of a thread that has ``lanes`` channels."""
    return -(-size // (point["threads"] // -(-point[channels] // lanes)))


def _own(spec: BlockSpec, point: Mapping[str, int]) -> tuple[int, int]:
    """Pixels that a thread expands, and those that it projects."""
    expanded = _pixels(_seen(spec, point), point, "chunk", VECTOR) if spec.expand else 0
    return expanded, _pixels(point["rows"] * point["columns"], point, "outputs", point["lanes"])


def _registers(spec: BlockSpec, point: Mapping[str, int]) -> int:
    """For the result's sums, and for those of the other parts with what they are made of."""
    expanded, projected = _own(spec, point)
    sums, lanes = projected * point["lanes"], point["lanes"]
    return sums + max(2 * VECTOR * expanded, VECTOR * point["width"], VECTOR * projected + lanes) + VECTOR


@lru_cache(maxsize=64)  # a tuner asks for it for each of its candidates
def _default(spec: BlockSpec, machine: GpuMachine) -> dict[str, int] | None:
    """The point with which the multiprocessors finish first, of those that leave shared memory for another
    block of threads, in tiles that are not all halo; if there is none, of all that fit; None if none does."""
    able = [point for point in _points(spec) if _registers(spec, point) <= _REGISTERS]
    for least, most in ((_LEAST, min(SHARED, machine.shared // 2)), (1, SHARED)):
        fitting = [point for point in able if _bytes(spec, point) <= most
                   and point["rows"] * point["columns"] >= min(least, prod(spec.out_spatial))]  # fmt: skip
        if fitting:
            return min(fitting, key=lambda point: _time(spec, machine, point))
    return None


def _points(spec: BlockSpec) -> Iterator[dict[str, int]]:
    """Those that the default is chosen from."""
    rows, columns = (_sides(size) for size in spec.out_spatial)
    chunks = _up_to(_CHUNKS, spec.channels)
    depths = _up_to(_DEPTHS, spec.in_channels) if spec.expand else [VECTOR]
    for lanes in (VECTOR, 2 * VECTOR):
        knobs = rows, columns, chunks, depths, _panels(spec, lanes), (128, 256)
        for down, across, chunk, depth, outputs, threads in product(*knobs):
            if outputs <= threads * lanes:
                yield {"rows": down, "columns": across, "chunk": chunk, "depth": depth, "outputs": outputs,
                       "lanes": lanes, "width": max(w for w in (1, 2, 4) if across % w == 0),
                       "threads": threads}  # fmt: skip


def _time(spec: BlockSpec, machine: GpuMachine, point: Mapping[str, int]) -> float:
    """Of all tiles, in rounds of a tile a multiprocessor: their warps' instructions, in multiply-adds, and as
    much longer as there are too few warps at a time to hide what each waits for."""
    (high, wide), chunk, inputs = spec.out_spatial, point["chunk"], spec.in_channels
    expanded, projected = _own(spec, point)
    tile, seen, lanes = point["rows"] * point["columns"], _seen(spec, point), point["lanes"]
    loaded = seen * (inputs if spec.expand else chunk) / point["threads"] * _LOAD
    expands = inputs * ((VECTOR + 1) * expanded + _LOAD) if spec.expand else 0
    tasks = -(-tile * chunk // (point["width"] * VECTOR * point["threads"]))
    filters = tasks * spec.taps * ((VECTOR + _LOAD) * point["width"] + _LOAD)
    projects = chunk * ((lanes + 1) * projected + lanes)
    barriers = _BARRIER * (2 + 2 * -(-inputs // point["depth"]) * bool(spec.expand))
    chunks = -(-spec.channels // chunk)
    tiles = max(spec.batch, 1) * -(-high // point["rows"]) * -(-wide // point["columns"])
    rounds = -(-tiles * -(-spec.out_channels // point["outputs"]) // machine.multiprocessors)
    warps, room = point["threads"] // WARP, machine.shared // _bytes(spec, point)
    at_once = warps * max(1, min(rounds, room, _MOST_WARPS // warps))
    waits = max(1, _ENOUGH_WARPS / at_once)
    return rounds * chunks * waits * (warps * (loaded + expands + filters + projects) + barriers)


def _whole(channels: int, lanes: int = VECTOR) -> int:
    return -(-channels // lanes) * lanes


def _up_to(values: Iterable[int], channels: int) -> list[int]:
    """Of these numbers of channels, those that are not more than there are."""
    return sorted({min(value, _whole(channels)) for value in values})


def _sides(size: int) -> list[int]:
    return sorted({min(side, size) for side in _SIDES})


def _panels(spec: BlockSpec, lanes: int) -> list[int]:
    """Channels of a panel: all of the result's, or a half, a quarter, ..., not too few."""
    parts = [1, *(n for n in (2, 4, 8, 16, 32) if spec.out_channels >= n * _LEAST)]
    return sorted({_whole(-(-spec.out_channels // n), lanes) for n in parts})
