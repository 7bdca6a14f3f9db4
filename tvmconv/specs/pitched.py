"""Work on ranges of the channels of wider arrays, in place; and every kind of work by its one-line form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tvmconv.base.errors import SpecError
from tvmconv.specs.kinds import KINDS, parse_spec
from tvmconv.specs.work import Work


@dataclass(frozen=True)
class Pitched(Work):
    """``conv2d:1x8x8x16:o32:k1x1:NHWC:float32@x=48,y=64``: work, then the pitches of arrays that it reads or
    writes in rows that lie apart (`Work.pitches`). What lies between rows is not written.

    A dense array's pitch, the length of its rows, is left out. It is scheduled as the same on dense arrays,
    by its records.
    """

    work: Work
    apart: tuple[tuple[str, int], ...]

    @staticmethod
    def of(work: Work, pitches: Mapping[str, int]) -> Work:
        """``work`` itself where no rows lie apart. Raises SpecError for arrays that cannot lie so."""
        return Pitched(work, tuple(sorted(pitches.items()))) if pitches else work

    def __post_init__(self) -> None:
        able = self.work.takes_pitch()
        for name, pitch in self.apart:
            if name not in able:
                wanted = ", ".join(sorted(able)) or "no pitches"
                raise SpecError(f"pitch of {name}: {pitch} for {self.work}, expected {wanted}")
            if not 0 < pitch < 1 << 31:
                raise SpecError(f"pitch of {name}: {pitch}, expected the length of a row or more")

    @property
    def builder(self) -> str:  # type: ignore[override]
        return self.work.builder

    @property
    def dense(self) -> Work:
        return self.work

    @property
    def pitches(self) -> Mapping[str, int]:
        return dict(self.apart)

    @property
    def is_integer(self) -> bool:
        return self.work.is_integer

    @property
    def effort(self) -> int:
        return self.work.effort

    def twins(self) -> tuple[Work, ...]:
        return (self.work, *self.work.twins())

    def check_supported(self) -> None:
        self.work.check_supported()

    def __str__(self) -> str:
        return f"{self.work}@{','.join(f'{name}={pitch}' for name, pitch in self.apart)}"


def parse_work(text: str) -> Work:
    """The layer or operator of a one-line form, and the pitches of its arrays. Raises SpecError."""
    dense, _, apart = text.partition("@")
    work = parse_spec(dense) if dense.partition(":")[0] in KINDS else _operator(dense)
    pitches = {}
    for part in apart.split(",") if apart else ():
        name, _, number = part.partition("=")
        if not (number.isascii() and number.isdigit() and len(number) < 12):
            raise SpecError(f"descriptor: {part!r}, expected the pitch of an array such as x=48")
        pitches[name] = int(number)
    return Pitched.of(work, pitches)


def _operator(text: str) -> Work:
    from tvmconv.specs import operators  # only networks have them, and importing them takes a while

    return operators.parse_operator(text) if text.partition(":")[0] in operators.KINDS else parse_spec(text)
