"""Two copies as one: what a copy of a copy reads of the first one's inputs.

Positions in the value between are written in mixed radix, with a digit wherever a loop of the first copy's
pieces steps. Loops of the second copy are split until each moves one digit without a carry; then a piece of
the second meets a piece of the first where their digits can be equal, and what is met is a piece again.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    units = _units(inner)
    if units is None or inner.infer()[0] != outer.inputs[number]:
        return None
    inputs = (*outer.inputs[:number], *inner.inputs, *outer.inputs[number + 1 :])
    pieces: list[Piece] = []
    filled = 0
    try:
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
    except _TooHard:
        return None
    if len(pieces) > MOST_PIECES or (filled and not outer.is_full and outer.fill != inner.fill):
        return None
    return Copy(inputs, outer.shape, tuple(pieces), inner.fill if filled else outer.fill)


def _units(inner: Copy) -> list[int] | None:
    """What one of each digit counts, falling, the number of elements first; None where a step of the pieces
    is no multiple of the next."""
    own = {step for piece in inner.pieces for step in piece.to_steps}
    boxes = {
        step * size for piece in inner.pieces
        for step, size in zip(piece.to_steps, piece.sizes, strict=True) if piece.to % (step * size) == 0
    }  # fmt: skip
    steps = own | boxes | set(accumulate(reversed(inner.shape), lambda a, b: a * b)) | {1}
    total = inner.infer()[0].size
    if not total:
        return None
    chain = [total]
    for step in sorted(steps, reverse=True):
        if 0 < step < chain[-1]:
            if chain[-1] % step:
                if step in own:
                    return None
                continue
            chain.append(step)
    return chain


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
