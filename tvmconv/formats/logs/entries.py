"""Entries of the index: the best schedule known for a descriptor, and what was measured. No TVM here."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tvmconv.base.errors import TuningError
from tvmconv.formats.choice import META, TRACE, Choice
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.trace_rules import refusal

_FORMAT = 1
_MOST_TEXT = 1000  # characters of a name or a date


@dataclass(frozen=True)
class Entry:
    """The verdict for one descriptor: ``seconds`` per call of the best schedule, and of the default one,
    measured in turns; ``record``: the name of its record in the log; ``emulated``: whether the CPU was an
    emulator, whose times mean nothing; ``cold``: whether the weights came from far caches or memory, as in a
    network, or else from the nearest. Ties go to the default."""

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
    emulated: bool = False
    cold: bool = False

    @property
    def choice(self) -> Choice:
        return Choice(self.strategy, self.point)


_NEEDED = {field.name: field.type for field in fields(Entry)}
_OPTIONAL = {"emulated", "cold"}
_COLD = " cold"


def key_of(descriptor: str, cold: bool) -> str:
    """The key of an entry: the descriptor, which says so if the weights were cold."""
    return descriptor + _COLD if cold else descriptor


def descriptor_of(key: str) -> str:
    """The descriptor of a `key_of`."""
    return key.removesuffix(_COLD)


def read_index(folder: Path) -> dict[str, Entry]:
    """The entries of a folder by `key_of` descriptor and setting; damaged ones are left out, with a warning.

    Raises TuningError for a file that is not an index, and for an entry whose trace holds more than
    meta_schedule's own spaces generate: it may be meant to run code."""
    found, damaged = {}, []
    for descriptor, facts in read_best(folder).items():
        wrong = _damage(facts) or _misplaced(descriptor, facts)
        if wrong:
            damaged.append(f"{descriptor[:200]!r}: {wrong}")
            continue
        entry = Entry(**facts)
        check_choice(entry.choice, f"{folder / folders.INDEX}: {descriptor[:200]!r}")
        found[descriptor] = entry
    if damaged:
        more = f" and {len(damaged) - 1} more" if damaged[1:] else ""
        told = f"tuning_logs: {folder / folders.INDEX}: {damaged[0]}; this entry{more} passed over"
        warnings.warn(told, RuntimeWarning, stacklevel=2)
    return found


def check_choice(choice: Choice, where: str) -> None:
    """Raise TuningError for a trace that must not be replayed."""
    wrong = refusal(choice.point.get(TRACE)) if choice.strategy == META else None
    if wrong is not None:
        raise TuningError(f"tuning_logs: {where}: trace: {wrong}; such logs are not to be trusted")


def read_best(folder: Path) -> dict[str, Any]:
    """What an index holds, whole or damaged, by `key_of`. Raises TuningError."""
    path = folder / folders.INDEX
    found = folders.read_json(path)
    if found and found.get("format") != _FORMAT:
        raise TuningError(f"tuning_logs: {path} has format {found.get('format')!r}, expected {_FORMAT}")
    best = found.get("best", {})
    if not isinstance(best, dict):
        raise TuningError(f"tuning_logs: {path} has {type(best).__name__} as best, expected an object")
    return best


def _damage(facts: Any) -> str | None:
    """What is wrong with an entry as JSON; None if nothing is."""
    if not isinstance(facts, dict):
        return f"{type(facts).__name__}, expected an object"
    for name in _NEEDED.keys() - _OPTIONAL - facts.keys():
        return f"no {name}"
    for name, value in facts.items():
        expected = _EXPECTED.get(str(_NEEDED.get(name, "")))
        if expected is None:
            return f"{name[:80]!r}, expected no such fact"
        kind, fits = expected
        if not fits(value):
            return f"{name}: {repr(value)[:80]}, expected {kind}"
    return None


def _misplaced(key: str, facts: dict[str, Any]) -> str | None:
    cold = key.endswith(_COLD)
    return None if facts.get("cold", False) == cold else f"cold: {not cold}, expected {cold}, as its key says"


def _is_point(value: Any) -> bool:
    """Knobs have numbers, words, and yes or no as values."""
    return isinstance(value, dict) and all(isinstance(v, (int, str)) for v in value.values())


# By the type of a field.
_EXPECTED = {
    "str": (f"one line of at most {_MOST_TEXT} characters",
            lambda v: isinstance(v, str) and len(v) <= _MOST_TEXT and (v.isprintable() or not v)),
    "dict[str, Any]": ("numbers and words by knobs", _is_point),
    "float": ("seconds", lambda v: type(v) in (int, float) and 0 < v < math.inf),
    "int": ("a number from 0 on", lambda v: type(v) is int and 0 <= v < 1 << 53),
    "bool": ("true or false", lambda v: isinstance(v, bool)),
}  # fmt: skip


def write_entry(folder: Path, descriptor: str, entry: Entry) -> None:
    """Put an entry into a folder's index, leaving the others as they are. Raises TuningError."""
    with folders.locked(folder):
        best = {**read_best(folder), key_of(descriptor, entry.cold): facts_of(entry)}
        folders.write_json(folder / folders.INDEX, index_of(best))


def facts_of(entry: Entry) -> dict[str, Any]:
    """An entry as an index has it."""
    facts = asdict(entry)
    return {name: value for name, value in facts.items() if name not in _OPTIONAL or value}


def index_of(best: Mapping[str, Any]) -> dict[str, Any]:
    """An index with these entries, by `key_of`."""
    return {"format": _FORMAT, "best": dict(best)}
