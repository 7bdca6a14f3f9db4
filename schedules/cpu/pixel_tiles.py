"""Register tiles of pixels by vectors of output channels: how large, how channels are divided into blocks,
which taps are written out. Strategies with such tiles share it, whatever the layout of their arrays."""

from __future__ import annotations

from math import gcd, prod

from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cpu.tiles import FEWEST_TASKS, register_tile
from tvmconv.schedules.machines import Machine

FEW_INPUTS = 8  # channels; LLVM unrolls a loop of fewer, loads too far ahead and spills
_WRITTEN_OUT = 3  # multiply-adds per register in a row of taps; with more, LLVM loads far ahead and spills
_WITH_CHANNELS = 8  # likewise, for few input channels, which LLVM then unrolls as well
_THIN = 0.85  # worth of a tile of one or two pixels whose weights come from a core's second cache


def tile_of(p: Problem, machine: Machine, widest: int = 0) -> tuple[int, int]:
    """(pixels, vectors of output channels) of the register tile: the pair that wastes least, of at most
    ``widest`` vectors (0: any)."""
    have = -(-p.out_group // machine.lanes(p.acc_bytes))
    width, narrow = p.out_spatial[-1], not machine.avx512

    def most(vectors: int) -> int:
        # A register for the weights of each vector, and one for the input they multiply (AVX-512 takes it
        # from memory if there is only one); with a row of taps, room for what is loaded ahead.
        sums = machine.vector_registers - vectors - (narrow or vectors > 1)
        if p.kernel[-1] > 1:
            sums = (machine.vector_registers - narrow) * 5 // 8
        return min(sums // vectors, _kept(p, machine))

    def balance(pixels: int, vectors: int) -> float:
        if 0 < widest < vectors:
            return 0.0
        pieces = -(-width // pixels) * -(-have // vectors)
        shared = _balance(p.batch * p.groups * pieces) if len(p.spatial) == 1 else 1.0
        return shared * _fed(p, machine, pixels, vectors)

    return register_tile(machine, width, have, most, balance)


def _fed(p: Problem, machine: Machine, pixels: int, vectors: int) -> float:
    """What a tile is worth, 1 for the best, given where its weights come from: with AVX2, a core's second
    cache gives no more than a vector per cycle, too little for one or two pixels."""
    weights = p.acc_bytes * p.in_group * p.taps * vectors * machine.lanes(p.acc_bytes)
    far = machine.avx2 and weights > machine.l1
    return _THIN if far and pixels < min(3, p.out_spatial[-1]) else 1.0


def _kept(p: Problem, machine: Machine) -> int:
    """Pixels of a row whose channels the L1 cache can hold at a time: of those a multiple of a page apart it
    has room for one per way."""
    apart = p.stride[-1] * p.groups * p.in_group * p.acc_bytes
    page = machine.l1 // machine.l1_ways
    return machine.l1_ways * page // gcd(apart, page)


def _balance(pieces: int) -> float:
    """The fraction of time that threads work, if tasks of whole pieces are distributed among them."""
    return pieces / (-(-pieces // FEWEST_TASKS) * FEWEST_TASKS)


def block_of(p: Problem, machine: Machine, vectors: int) -> int:
    """Output channels of a register tile so wide. Not a vector and a part of one, if that takes less time
    than a whole one: by themselves, the weights of each are aligned. But a single pixel has few sums."""
    lanes = machine.lanes(p.acc_bytes)
    if machine.halved and lanes < p.out_group < 2 * lanes and prod(p.out_spatial) > 1:
        return lanes
    return min(vectors * lanes, p.out_group)


def taps_of(p: Problem, machine: Machine, sums: int) -> int:
    """Innermost dims of taps to unroll, for this many vectors of sums."""
    row = p.kernel[-1] * sums
    if machine.avx512 and has_few_inputs(p):
        return 0  # or LLVM keeps all that a row of taps reads of x, broadcast, and spills
    most = _WITH_CHANNELS * machine.vector_registers
    if p.in_group <= FEW_INPUTS and row * p.in_group > most:
        return 0
    return int(row <= _WRITTEN_OUT * machine.vector_registers)


def has_few_inputs(p: Problem) -> bool:
    """Whether LLVM unrolls a loop over its input channels."""
    return 1 < p.in_group <= FEW_INPUTS
