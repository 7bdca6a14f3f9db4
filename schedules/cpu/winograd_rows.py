"""Depthwise convolution, channels last, by Winograd's algorithm along rows.

A task takes a strip of rows and some channels. For each vector of channels and each pair of pixels it goes
down the strip; a transformed row of x is used from registers for all output rows that see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.base.dtypes import ITEMSIZE
from tvmconv.base.memory import PAGE
from tvmconv.compiler.ops import winograd_rows
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cpu.group_tiles import is_large, outgrows
from tvmconv.schedules.cpu.tiles import evenly, peel_at, peel_borders, peel_tail, run_parallel
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan, Space, require, require_block, require_within, settled

STRATEGY = "winograd_rows"
_ROWS = 8  # of a strip, which are unrolled
_SHORT = 3  # rows of a strip whose borders have separate code: longer ones test there whether a row exists
_ORDERS = ("rows", "channels")  # which of them tasks go through last
_WIDE = 16  # lanes: machines of so wide vectors have 32 registers of them
_FEWEST_VECTORS = 4  # of channels
_SMALL = 16  # rows and columns
_FEW = 8  # vectors of channels
_NARROW = 8  # pixels of a row
_INNER = ("pairs", "vectors")  # which of them a task goes through last


def fits(p: Problem, machine: Machine) -> bool:
    return p.channels_last and winograd_rows.fits(p)


def pays(p: Problem, machine: Machine) -> bool:
    """On the small images deep in a network, where registers hold what a strip transforms; and not where all
    pixels of a channel share a set of the near cache, for it takes more of them at once. Also on larger
    images, unless blocks of channels share few sets; not on tall ones, whose rows are mostly borders. On
    Zen 4 it is 1.05 to 1.5 times as fast, but up to a tenth slower before an activation with an exponential;
    on a Granite Rapids, whose additions have no ports of their own, 1.0 to 1.4 times, for it loads less."""
    if p.kernel != (3, 3) or p.groups * ITEMSIZE[p.dtype] % PAGE == 0 or machine.lanes() < _WIDE:
        return False
    high, wide = p.out_spatial
    if wide < _NARROW and high >= 2 * wide:
        return False
    vectors = p.groups / machine.lanes()
    if vectors >= 1 and (is_large(p, machine) or not _collide(p, machine)):
        return True
    return vectors >= _FEWEST_VECTORS and max(p.out_spatial) <= _SMALL


def space(p: Problem, machine: Machine) -> Space:
    return {
        "rows": list(range(1, min(_ROWS, p.out_spatial[0]) + 1)),
        "block": _blocks(p, machine.lanes()),
        "order": list(_ORDERS),
        "inner": list(_INNER),
    }


def _blocks(p: Problem, lanes: int) -> list[int]:
    """One vector, all channels, and between them what leaves no block partial: code for that takes long to
    compile."""
    whole = (v * lanes for v in (2, 3, 4, 6, 8, 16))
    return sorted({min(lanes, p.groups), *(block for block in whole if p.groups % block == 0), p.groups})


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: rows of a strip, channels of a task, order of tasks, of a task's tiles. Raises
    ValueError where it does not fit."""
    lanes = machine.lanes()
    default = {"rows": _rows(p), "block": _block(p, machine), "order": _ORDERS[1], "inner": _INNER[1]}
    point = settled(point, default)
    require_within(point, rows=min(_ROWS, p.out_spatial[0]))
    require_block(point, lanes, p.groups)
    require(point["order"] in _ORDERS, point, "order", " or ".join(_ORDERS))
    require(point["inner"] in _INNER, point, "inner", " or ".join(_INNER))
    return Plan(STRATEGY, winograd_rows.ALGORITHM, winograd_rows.RowsPacking(point["block"]),
                lambda sch: schedule(sch, p, lanes, **point), point)


def _rows(p: Problem) -> int:
    height = p.out_spatial[0]
    return evenly(height, 7) if height <= 14 else 4


def _block(p: Problem, machine: Machine) -> int:
    """Channels of a task: all, contiguous as they are, if they are few or the image has to come from afar; of
    others one vector, whose rows then stay in the near cache, unless they share few of its sets."""
    lanes = machine.lanes()
    afar = outgrows(p, machine) and (machine.far_l3 or _keeps_pixels(p, machine))
    if p.groups <= _FEW * lanes or is_large(p, machine) or afar:
        return p.groups
    return max(b for b in _blocks(p, lanes) if b <= _FEW * lanes) if _collide(p, machine) else lanes


def _keeps_pixels(p: Problem, machine: Machine) -> bool:
    """Whether the L1 cache holds what a pair of pixels reads of all channels, half of which the next pair
    reads again, beside what else there is. Measured on a Zen 5."""
    pixels = (_rows(p) + p.kernel[0] - 1) * (p.kernel[1] + 1)
    return 2 * pixels * p.groups * ITEMSIZE[p.dtype] <= machine.l1


def _collide(p: Problem, machine: Machine) -> bool:
    """Whether a block of channels, if those are many, has few sets of the near cache."""
    return p.groups > _FEW * machine.lanes() and p.groups * ITEMSIZE[p.dtype] % (PAGE // 2) == 0


def schedule(sch: Schedule, p: Problem, lanes: int, *, rows: int, block: int, order: str, inner: str) -> None:
    y, conv, products, transformed = (sch.get_sblock(name) for name in ("y", "conv", "products", "rows"))
    sch.compute_inline(conv)
    sch.compute_inline(transformed)
    n, h, t, col, g, o = sch.get_loops(y)
    ho, hi = sch.split(h, [None, rows], preserve_unit_iters=True)
    co, ci = sch.split(sch.fuse(g, o), [None, block], preserve_unit_iters=True)
    lanes = min(lanes, block)
    vec, lane = sch.split(ci, [None, lanes], preserve_unit_iters=True)
    tasks = [n, ho, co] if order == "channels" else [n, co, ho]
    sch.reorder(*tasks, *([vec, t] if inner == "pairs" else [t, vec]), hi, col, lane)
    peel_tail(sch, co, p.groups, block)
    left = p.groups % block or block  # channels of the last block, and so perhaps a partial vector
    peel_at(sch, vec, -(-block // lanes), [left // lanes, -(-left // lanes)])
    if rows <= _SHORT:
        peel_borders(sch, ho, p, 0, rows)
    else:
        peel_tail(sch, ho, p.out_spatial[0], rows)
    peel_borders(sch, t, p, 1, 2)
    sch.vectorize(lane)
    for loop in (hi, col):
        sch.unroll(loop)
    run_parallel(sch, p, tasks)
    sch.compute_at(products, hi, preserve_unit_loops=True)
    sch.set_scope(products, 0, "local")
    *_, i, own, r = sch.get_loops(products)
    sch.vectorize(own)
    sch.reorder(r, i, own)
    for loop in (i, r):
        sch.unroll(loop)
    sch.decompose_reduction(products, r)
