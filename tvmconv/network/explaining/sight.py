"""What the elements along an axis see of another axis: spans that repeat, moved on by a step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from tvmconv.specs.arithmetic import Field

Span = tuple[int, int]

MOST_SPANS = 1 << 12


@dataclass(frozen=True)
class Sight:
    """Element i sees ``spans[i % n]``, first and last element, both moved by ``step * (i // n)``; n spans, of
    which None sees nothing. Elements outside of an array, which windows on its padding see, count like those
    inside: i may be negative, and so may a span's elements."""

    step: int
    spans: tuple[Span | None, ...]

    def at(self, i: int) -> Span | None:
        """What element i sees."""
        turn, phase = divmod(i, len(self.spans))
        span = self.spans[phase]
        return None if span is None else (span[0] + turn * self.step, span[1] + turn * self.step)

    def of(self, first: int, last: int) -> Span | None:
        """What elements first to last see, all together."""
        ends = range(first, min(last, first + len(self.spans)) + 1), range(max(first, last - len(self.spans)),
                                                                          last + 1)  # fmt: skip
        return hull(self.at(i) for end in ends for i in end)

    def through(self, link: Sight) -> Sight | None:
        """What elements see that see the elements of this sight by ``link``; None: not told, for there are
        too many different spans."""
        turns = len(self.spans) // math.gcd(len(self.spans), link.step)
        count = len(link.spans) * turns
        if count > MOST_SPANS:
            return None
        spans = (link.at(i) for i in range(count))
        step = self.step * (link.step * turns) // len(self.spans)
        return Sight(step, tuple(None if span is None else self.of(*span) for span in spans))

    def joined(self, other: Sight, size: int) -> Sight | None:
        """What ``size`` elements see that see by both; None as for `through`. Where the two have different
        jumps, what lies outside of the ``size`` elements follows the larger jump, about."""
        count = math.lcm(len(self.spans), len(other.spans))
        if self.jump != other.jump:
            count = size
        if count > MOST_SPANS:
            return None
        jump = max(self.jump, other.jump)
        return Sight(round(jump * count), tuple(hull((self.at(i), other.at(i))) for i in range(count)))

    @property
    def jump(self) -> Fraction:
        """How far one element sees beyond the one before it, on average."""
        return Fraction(self.step, len(self.spans))

    def field(self) -> Field:
        """The receptive field: the largest span, the jump, and the middle of the first element's span (the
        average of that, where spans differ)."""
        spans = [(i, span) for i, span in enumerate(self.spans) if span is not None]
        if not spans:
            return Field(0, self.jump, Fraction(0))
        start = sum((Fraction(sum(span), 2) - i * self.jump for i, span in spans), Fraction(0)) / len(spans)
        return Field(max(last - first + 1 for _, (first, last) in spans), self.jump, start)


SAME = Sight(1, ((0, 0),))


def hull(spans: Iterable[Span | None]) -> Span | None:
    """The smallest span that holds these."""
    found = [span for span in spans if span is not None]
    return (min(first for first, _ in found), max(last for _, last in found)) if found else None
