"""Blocks in bands of rows: a task expands the rows that its band needs into a ring, computes depthwise rows
from that and projects them (``codegen.bands``), with a register tile for each part.

Channels of the depthwise part go by in chunks, whose rows of the ring stay in the core's first cache between
the part that makes them and the one that reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvmconv.base.dtypes import ITEMSIZE
from tvmconv.compiler.ops.algorithm import LoopNest
from tvmconv.compiler.ops.block_packing import ACC, BlockPacking, BlockProblem, reads_in_place
from tvmconv.schedules.cpu.tiles import FEWEST_TASKS, PARALLEL_MACS, evenly, register_tile
from tvmconv.schedules.dots import DOTS, Dot
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan, Space, at_most, require, require_registers, require_within, settled
from tvmconv.specs.block import BlockSpec

STRATEGY = "bands"
_WIDEST = 4  # vectors of a register tile
_FEWEST_ROWS = 7  # of a task, for each row that it and the one before it both expand
_SPARING = (5, 2)  # pixels and vectors of a tile that leaves some of 16 registers for what is loaded ahead
_SPARED = 1.15  # what that is worth
_FEW_TAPS = 9  # of large tiles: code for more takes long to compile
_FEWEST_IN_PLACE = 4  # rows of a step, if they are filtered two at a time
_PIXELS = 96  # of a step: as many as make up for going through all weights


def fits(p: BlockProblem, machine: Machine) -> bool:
    return True


def space(p: BlockProblem, machine: Machine) -> Space:
    default, lanes = plan_of(p, machine).point, machine.lanes()
    (high, wide), vectors = p.spec.out_spatial, -(-p.spec.channels // lanes)
    most = machine.vector_registers - 2
    return {
        "tasks": at_most(min(high, 16), default["tasks"]),
        "rows": at_most(min(high, 16), default["rows"]),
        "vectors": [1] if reads_in_place(p.spec, lanes) else list(range(1, min(vectors, 5) + 1)),
        "expanded": list(range(1, min(p.spec.in_spatial[1], most) + 1)) if p.spec.expand else [1],
        "filtered": list(range(1, min(wide, 8) + 1)),
        "tall": [1, 2] if _shares_rows(p.spec) else [1],
        "outputs": list(range(1, min(-(-p.spec.out_channels // lanes), _WIDEST) + 1)),
        "projected": list(range(1, min(wide, most) + 1)),
    }


def plan_of(p: BlockProblem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: tasks an image is cut into; output rows of a step; vectors of a chunk, and the
    pixels of the tiles that expand and filter it, and the rows of the latter; vectors and pixels of the tile
    that projects. Raises ValueError if it does not fit."""
    spec, lanes, registers = p.spec, machine.lanes(), machine.vector_registers
    (high, wide), across = spec.out_spatial, spec.in_spatial[1]

    def most(vectors: int) -> int:
        return max((registers - 1 - vectors) // vectors, 1)  # beside weights, and what they are multiplied by

    few = registers < 32 and machine.memory_operands

    def balance(pixels: int, vectors: int) -> float:
        return _SPARED if few and (pixels, vectors) == _SPARING else 1.0

    chunk = 1 if reads_in_place(spec, lanes) else -(-spec.channels // lanes)
    expanded, vectors = 1, min(chunk, _WIDEST)
    if spec.expand:
        expanded, vectors = register_tile(machine, across, chunk, most, balance)
    projected, outputs = register_tile(machine, wide, -(-spec.out_channels // lanes), most, balance)
    tasks = _tasks(spec) if p.macs >= PARALLEL_MACS else 1
    most_rows = -(-_PIXELS // wide)
    if few and spec.expand:
        most_rows = min(most_rows, _rows_in_cache(spec, machine, vectors * lanes))
    elif few and _shares_rows(spec):
        most_rows = max(most_rows, _FEWEST_IN_PLACE)
    rows = evenly(-(-high // tasks), min(high, most_rows))
    tall = 2 if few and rows > 1 and _shares_rows(spec) else 1
    filtered = evenly(wide, 8 if registers >= 32 else 7 if tall == 1 and spec.taps <= _FEW_TAPS else 4)
    point = settled(point, {
        "tasks": tasks, "rows": rows, "vectors": vectors, "expanded": expanded, "filtered": filtered,
        "tall": tall, "outputs": outputs, "projected": projected,
    })  # fmt: skip
    require_within(point, tasks=high, rows=high, vectors=chunk, expanded=across if spec.expand else 1,
                   filtered=wide, outputs=-(-spec.out_channels // lanes), projected=wide)  # fmt: skip
    require_registers(point, "expanded", point["expanded"] * point["vectors"], registers)
    require_registers(point, "projected", point["projected"] * point["outputs"], registers)
    require_registers(point, "filtered", point["filtered"] * point["tall"], registers)
    require(point["tall"] == 1 or (point["tall"] == 2 and _shares_rows(spec)), point, "tall",
            "1, or 2 of rows that overlap")  # fmt: skip
    dot = dot_of(p, machine)
    name = None if dot is None else dot.name
    packing = BlockPacking(point["vectors"] * lanes, point["outputs"] * lanes, name)
    return Plan(STRATEGY, LoopNest(STRATEGY), packing, lambda sch: None, point, spec.is_exact)


def _shares_rows(spec: BlockSpec) -> bool:
    """Whether neighbouring rows see rows of the image that are the same, by taps that are written out."""
    overlap = spec.stride[0] == spec.dilation[0] == 1 < spec.kernel[0] and spec.out_spatial[0] > 1
    return overlap and spec.taps <= _FEW_TAPS


def _rows_in_cache(spec: BlockSpec, machine: Machine, chunk: int) -> int:
    """Output rows of a step whose ring, a chunk of channels wide, takes half of the near cache; or one."""
    rows = machine.l1 // 2 // (spec.reach(1, spec.out_spatial[1]) * chunk * ITEMSIZE[ACC])
    return max((rows - spec.extent(0)) // spec.stride[0] + 1, 1)


def dot_of(p: BlockProblem, machine: Machine) -> Dot | None:
    """Of 8-bit integers: the widest dot product of ``machine`` that suits all weights; None for floats, and
    where there is none."""
    able = [DOTS[name] for name in machine.int8_dots if p.spec.is_integer and not DOTS[name].checked]
    return max(able, key=lambda dot: dot.size, default=None)


def _tasks(spec: BlockSpec) -> int:
    """As many as threads may want, if together they expand few rows twice."""
    high, wide = spec.out_spatial
    shared = max(spec.extent(0) - spec.stride[0], 0) if spec.expand else 0
    able = high * spec.stride[0] // (_FEWEST_ROWS * shared) if shared else FEWEST_TASKS
    return min(high, max(2, min(able, high * wide // _PIXELS, FEWEST_TASKS)))
