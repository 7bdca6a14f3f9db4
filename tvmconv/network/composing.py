"""Two copies as one: what a copy of a copy reads of the first one's inputs.

Positions in the value between are written in mixed radix, with a digit wherever a loop of the first copy's
pieces steps. Loops of the second copy are split until each moves one digit without a carry; then a piece of
the second meets a piece of the first where their digits can be equal, and what is met is a piece again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from tvmconv.specs.operators.copy import Copy, Piece

MOST_PIECES = 256


@dataclass(frozen=True)
class _Loop:
    """``count`` steps of ``by`` in digit ``digit``; ``step`` is what goes with one elsewhere."""

    digit: int
    by: int
    count: int
    step: int


class _TooHard(Exception):
    """Digits with carries, and the like: the copies stay two."""


def composed(outer: Copy, number: int, inner: Copy) -> Copy | None:
    """``outer`` with its input ``number`` replaced by the inputs of ``inner``, which makes it; in the place
    of that input come all of inner's. None where there is no such copy of few pieces."""
    if inner.infer()[0] != outer.inputs[number] or not outer.inputs[number].size:
        return None
    for units in _units(inner):
        try:
            return _composed(outer, number, inner, units)
        except _TooHard:
            continue
    return None


def _composed(outer: Copy, number: int, inner: Copy, units: Sequence[int]) -> Copy | None:
    inputs = (*outer.inputs[:number], *inner.inputs, *outer.inputs[number + 1 :])
    pieces: list[Piece] = []
    filled = 0
    firsts = [
        (one, *_split(one.to, zip(one.to_steps, one.steps, one.sizes, strict=True), units))
        for one in inner.pieces
    ]
    for piece in outer.pieces:
        if piece.source != number:
            later = piece.source + (len(inner.inputs) - 1) * (piece.source > number)
            pieces.append(replace(piece, source=later))
            continue
        start, to, loops = piece.start, piece.to, []
        for step, to_step, size in zip(piece.steps, piece.to_steps, piece.sizes, strict=True):
            if step < 0:
                start, to = start + (size - 1) * step, to + (size - 1) * to_step
                step, to_step = -step, -to_step
            loops.append((step, to_step, size))
        digits, split, still = _split(start, loops, units)
        found = [m for first in firsts if (m := _met(digits, split, first, units, number)) is not None]
        met = [
            Piece.of(source, at, [*steps, *(0 for _ in still)], to + more,
                     [*to_steps, *(s for s, _ in still)], [*sizes, *(size for _, size in still)])
            for source, at, steps, more, to_steps, sizes in found
        ]  # fmt: skip
        filled += piece.count - sum(one.count for one in met)
        pieces += met
    most = max(MOST_PIECES, len(outer.pieces))
    pieces = joined_pieces(pieces) if len(pieces) <= 2 * most else pieces
    if len(pieces) > most or (filled and not outer.is_full and outer.fill != inner.fill):
        return None
    return Copy(inputs, outer.shape, tuple(pieces), inner.fill if filled else outer.fill)


def joined_pieces(pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces of which none goes on where another ends, in what they read and write."""
    found: list[Piece] = []
    ends: dict[tuple[int, int], list[int]] = {}  # by source and place: the pieces of which a loop ends there

    def put(at: int, piece: Piece) -> None:
        found[at:at + 1] = [piece]
        for step, size in zip(piece.to_steps, piece.sizes, strict=True):
            ends.setdefault((piece.source, piece.to + step * size), []).append(at)

    for piece in sorted(pieces, key=lambda one: one.to):
        for at in sorted(set(ends.get((piece.source, piece.to), ()))):
            both = _both(found[at], piece)
            if both is not None:
                put(at, both)
                break
        else:
            put(len(found), piece)
    return found if len(found) == len(pieces) else joined_pieces(found)


def _both(first: Piece, second: Piece) -> Piece | None:
    """A piece and one that goes on where it ends along one of its loops; None for others."""
    loops = [tuple(zip(one.to_steps, one.steps, one.sizes, strict=True)) for one in (first, second)]
    if first.source != second.source or len(loops[0]) != len(loops[1]):
        return None
    apart = [at for at, (a, b) in enumerate(zip(*loops, strict=True)) if a != b]
    candidates = apart or range(len(loops[0]))
    for at in candidates if len(apart) < 2 else ():
        (to_step, step, size), (*others, more) = loops[0][at], loops[1][at]
        if [to_step, step] != others:
            return None
        if (second.to - first.to, second.start - first.start) == (to_step * size, step * size):
            sizes = [*first.sizes[:at], size + more, *first.sizes[at + 1 :]]
            return Piece.of(first.source, first.start, first.steps, first.to, first.to_steps, sizes)
    return None


def _units(inner: Copy) -> Iterator[list[int]]:
    """What one of each digit counts, falling, the number of elements first: by the dims of the value between
    and the steps of the pieces, by these and where pieces end, by steps alone."""
    own = {step for piece in inner.pieces for step in piece.to_steps} | {1}
    dims = set(accumulate(reversed(inner.shape), lambda a, b: a * b))
    ends = {
        step * size for piece in inner.pieces
        for step, size in zip(piece.to_steps, piece.sizes, strict=True) if piece.to % (step * size) == 0
    }  # fmt: skip
    seen = []
    for steps in (own | dims, own | dims | ends, own):
        chain = [inner.infer()[0].size]
        for step in sorted(steps, reverse=True):
            if 0 < step < chain[-1]:
                if chain[-1] % step == 0:
                    chain.append(step)
                elif step in own:
                    break
        else:
            if chain not in seen:
                seen.append(chain)
                yield chain


def _split(start: int, loops, units: Sequence[int]):
    """(digits of the start, loops of one digit each, loops that do not move); raises _TooHard for carries."""
    radix = [units[at - 1] // units[at] for at in range(1, len(units))]
    digits = [start // units[at] % radix[at - 1] for at in range(1, len(units))]
    found: list[_Loop] = []
    still: list[tuple[int, int]] = []
    for step, other, size in loops:
        while size > 1:
            if step == 0:
                still.append((other, size))
                break
            digit = next(at for at in range(1, len(units)) if step % units[at] == 0 and step >= units[at])
            by, room = step // units[digit], radix[digit - 1]
            if digits[digit - 1] + by * (size - 1) < room:
                found.append(_Loop(digit - 1, by, size, other))
                break
            each = room // by
            if room % by or digits[digit - 1] >= by or size % each or each < 2:
                raise _TooHard
            found.append(_Loop(digit - 1, by, each, other))
            step, other, size = step * each, other * each, size // each
    for at, room in enumerate(radix):
        if digits[at] + sum(loop.by * (loop.count - 1) for loop in found if loop.digit == at) >= room:
            raise _TooHard
    return digits, found, still


def _met(digits: Sequence[int], loops: Sequence[_Loop], first, units: Sequence[int], number: int):
    """(source, start, steps, offset of the result, steps there, sizes) of what a piece reads of another."""
    piece, own, own_loops, own_still = first
    if own_still:
        raise _TooHard
    at, more = piece.start, 0
    steps, to_steps, sizes = [], [], []
    for digit in range(len(units) - 1):
        mine = [loop for loop in loops if loop.digit == digit]
        theirs = [loop for loop in own_loops if loop.digit == digit]
        if len(theirs) > 1:
            raise _TooHard
        by, count, step = (theirs[0].by, theirs[0].count, theirs[0].step) if theirs else (1, 1, 0)
        apart = digits[digit] - own[digit]
        if len(mine) > 1:
            most = apart + sum(loop.by * (loop.count - 1) for loop in mine)
            if apart % by or any(loop.by % by for loop in mine) or apart < 0 or most > by * (count - 1):
                raise _TooHard
            at += apart // by * step
            for loop in mine:
                steps.append(loop.by // by * step)
                to_steps.append(loop.step)
                sizes.append(loop.count)
            continue
        move, size, to_step = (mine[0].by, mine[0].count, mine[0].step) if mine else (1, 1, 0)
        # i with apart + move * i = by * j for a j of 0 to count - 1
        theirs_at = apart + move * np.arange(size)
        wanted = np.flatnonzero((theirs_at % by == 0) & (theirs_at >= 0) & (theirs_at // by < count))
        if not len(wanted):
            return None
        stride = int(wanted[1] - wanted[0]) if len(wanted) > 1 else 1
        at += int(theirs_at[wanted[0]]) // by * step
        more += int(wanted[0]) * to_step
        steps.append(move * stride * step // by)
        to_steps.append(to_step * stride)
        sizes.append(len(wanted))
    return number + piece.source, at, steps, more, to_steps, sizes
