"""What a hunt found, and its log: a line of JSON for each layer."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tvmconv.schedules.plan import Choice


@dataclass(frozen=True)
class Found:
    """The outcome for a layer: seconds of its default and of its winner, and the candidates' number."""

    descriptor: str
    default: Choice
    winner: Choice
    default_seconds: float
    seconds: float
    candidates: int
    error: str = ""
    number: int | None = None

    @property
    def ratio(self) -> float:
        return self.default_seconds / self.seconds if self.seconds else 1.0

    @classmethod
    def read(cls, line: str) -> Found:
        facts = json.loads(line)
        return cls(**{**facts, **{key: Choice(**facts[key]) for key in ("default", "winner")}})

    def __str__(self) -> str:
        if self.error:
            return f"  -   {self.descriptor}\n        {self.error}"
        default, winner = shown(self.default), shown(self.winner)
        times = f"{1e6 * self.default_seconds:.1f} us, {1e6 * self.seconds:.1f} by"
        return f"{self.ratio:5.2f} {self.descriptor}\n        {default}: {times} {winner}"


def shown(choice: Choice) -> str:
    return " ".join([choice.strategy, *(f"{knob}={value}" for knob, value in choice.point.items())])


def read(path: Path | None) -> list[Found]:
    """The log's lines, but for one that was cut off."""
    lines = path.read_text().split("\n") if path and path.exists() else []
    return [Found.read(line) for line in lines[:-1]]


def write(path: Path, found: Found) -> None:
    """Append a line, in the place of one that was cut off."""
    text = path.read_bytes() if path.exists() else b""
    if text and not text.endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)
    with path.open("a") as file:
        file.write(json.dumps(asdict(found)) + "\n")
