"""Pieces that the CUDA strategies share: threads, vectors, and the tile that a thread keeps in registers."""

from __future__ import annotations

from math import prod

from tvm.s_tir import Schedule
from tvm.tirx import IterVar

from tvmconv.compiler.lower.gpu_threads import SPREAD

THREADS = 256  # of a block, unless something needs another number
WARP = 32
SHARED = 48 << 10  # bytes available to a block on every GPU
VECTOR_BYTES = 16  # the most that one instruction loads or stores


def spread(sch: Schedule, loops: list, most: int = THREADS) -> None:
    """Spread ``loops``, directly nested, over blocks and threads as one."""
    turning = [loop for loop in loops if int(sch.get(loop).extent) > 1] or loops[-1:]
    extent = prod(int(sch.get(loop).extent) for loop in turning)  # lowering drops the others
    sch.annotate(turning[0], SPREAD, [len(turning), threads_for(extent, most)])


def threads_for(extent: int, most: int = THREADS) -> int:
    """Threads of a block, in whole warps, for ``extent`` threads in all: if possible with none left over,
    since idle threads need a condition."""
    whole = [n for n in range(most, most // 4, -WARP) if extent % n == 0]
    return whole[0] if whole else min(most, -(-extent // WARP) * WARP)


def spread_block(sch: Schedule, block) -> None:
    """One thread for each element that ``block`` writes."""
    reduced = sum(var.iter_type == IterVar.CommReduce for var in sch.get(block).iter_vars)
    loops = sch.get_loops(block)
    spread(sch, loops[: len(loops) - reduced])


def inline_pad(sch: Schedule) -> None:
    """Apply x's zero padding and conversion where x is read, if there are any."""
    if "pad" in {sch.get(block).name_hint for block in sch.get_child_blocks(sch.get_sblock("root"))}:
        sch.compute_inline(sch.get_sblock("pad"))


def operand(sch: Schedule, block, name: str) -> int:
    """Which of the buffers that ``block`` reads is called ``name``."""
    return [region.source.name for region in sch.get(block).reads].index(name)


def window_at(sch: Schedule, loop) -> None:
    """Compute the sums of integers over a window (``ops.words``), if there are any, at ``loop``."""
    if "window" in {sch.get(block).name_hint for block in sch.get_child_blocks(sch.get_sblock("root"))}:
        window = sch.get_sblock("window")
        sch.compute_at(window, loop, preserve_unit_loops=True)
        sch.set_scope(window, 0, "local")


def divisor(number: int, most: int) -> int:
    """The largest power of two that divides ``number`` and is at most ``most``."""
    found = 1
    while found * 2 <= most and number % (found * 2) == 0:
        found *= 2
    return found


def divisors(number: int, most: int) -> list[int]:
    """The powers of two that divide ``number``, up to ``most``."""
    return [1 << i for i in range(divisor(number, most).bit_length())]


def written_out(sch: Schedule, loops: list) -> None:
    """Unroll ``loops``, so that what they index can stay in registers."""
    for loop in loops:
        sch.unroll(loop)


def vectorized(sch: Schedule, loop, extent: int) -> None:
    if extent > 1:
        sch.vectorize(loop)
