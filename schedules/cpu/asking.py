"""Weights asked for before their use (``lower.ahead``): which, and by which loops.

In a network weights come from memory, unless they are few. Measured on x86, with x in a core's cache; nobody
has measured other machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tvm.s_tir import Schedule

from tvmconv.compiler.lower.ahead import AHEAD, NEXT, PASSES
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.machines import Machine

_TILES = 64  # with more, a block of weights is long in use, and the next one's wait is short
_CHANNELS = 64  # of input


def far(machine: Machine, size: int) -> bool:
    """Whether so many bytes of weights are too many to be at hand."""
    return machine.arch == "x86_64" and 4 * size >= machine.l2


def asks(p: Problem, machine: Machine, tiles: int, by_rows: bool = False) -> bool:
    """Whether to ask for the next block of weights while so many tiles of pixels use one; ``by_rows``: those
    of all rows. The weights of one tile, the CPU fetches ahead well enough, and if each row uses all blocks,
    those of several taps unless the shared cache is far away."""
    alike = p.taps == 1 or by_rows or machine.far_l3
    return alike and 1 < tiles <= _TILES and far(machine, p.acc_bytes * prod(p.weight_shape))


def ask_for_next(sch: Schedule, passes, loop, elements: int) -> None:
    """Have ``loop``, over input channels, ask for the next block of weights, of so many elements: the loop
    ``passes`` around it uses all of one block in each iteration."""
    sch.annotate(passes, PASSES, 1)
    sch.annotate(loop, NEXT, elements)


def ask_ahead(sch: Schedule, loop, size: int) -> None:
    """Have ``loop``, over input channels, ask for the weights of later ones: ``size`` bytes of each."""
    sch.annotate(loop, AHEAD, [_CHANNELS, size])


def extent(sch: Schedule, loops: Sequence) -> int:
    """Iterations of nested loops."""
    return prod(int(sch.get(loop).extent) for loop in loops)
