"""Entries of the index: the best schedule known for a descriptor, and what was measured. No TVM here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tvmconv.errors import TuningError
from tvmconv.schedules.plan import Choice
from tvmconv.tuning import folder as folders

_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """The verdict for one descriptor: ``seconds`` a call of the best schedule, and of the default one, both
    measured in turns; ``record``: the name of its record in the log. Ties go to the default."""

    strategy: str
    point: dict[str, Any]
    seconds: float
    default_seconds: float
    trials: int
    threads: int
    cpu: str
    tvm: str
    date: str
    record: str

    @property
    def choice(self) -> Choice:
        return Choice(self.strategy, self.point)


def read_index(folder: Path) -> dict[str, Entry]:
    """The entries of a folder by descriptor. Raises TuningError."""
    found = folders.read_json(folder / folders.INDEX)
    if found and found.get("format") != _FORMAT:
        wrong = f"{folder / folders.INDEX} has format {found.get('format')!r}"
        raise TuningError(f"tuning_logs: {wrong}, expected {_FORMAT}")
    try:
        return {descriptor: Entry(**facts) for descriptor, facts in found.get("best", {}).items()}
    except TypeError as error:
        raise TuningError(f"tuning_logs: {folder / folders.INDEX} is damaged: {error}") from None


def write_entry(folder: Path, descriptor: str, entry: Entry) -> None:
    """Put an entry into a folder's index."""
    with folders.locked(folder):
        write_index(folder, {**read_index(folder), descriptor: entry})


def write_index(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Replace a folder's index; the lock is the caller's."""
    best = {descriptor: asdict(entry) for descriptor, entry in entries.items()}
    folders.write_json(folder / folders.INDEX, {"format": _FORMAT, "best": best})
