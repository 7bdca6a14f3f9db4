"""What ``compile`` asks the logs for: the schedule to use for a spec on a machine. No TVM, and cheap."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import TuningError
from tvmconv.formats.choice import Choice
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.entries import Entry, key_of, read_index
from tvmconv.specs.work import Work

if TYPE_CHECKING:
    from tvmconv.schedules.machines import AnyMachine


@dataclass(frozen=True)
class Tuned:
    """A schedule from a log, and what a manifest says about its origin."""

    choice: Choice
    origin: dict[str, Any]

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Tuned:
        """The inverse of ``dataclasses.asdict``."""
        return cls(Choice(**facts["choice"]), facts["origin"])


Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""One folder of logs or several, the first that knows a spec deciding; "user" and "shipped" stand for the
user's own and tvmconv's."""


class Logs:
    """The logs that apply to a machine: those given, else the user's own before the shipped ones; for floats
    also those of its base. ``cold``: for a network, where what was measured with cold weights comes first;
    for a layer alone it comes last.

    Raises TuningError for a given folder that is of another target or TVM, was measured under emulation, or
    does not exist; other unusable folders are skipped with a warning.

    ``machine``: as given. ``files``: those that were read, or would be if they existed.
    """

    def __init__(self, machine: AnyMachine, given: Folders | None = None, *, cold: bool = False) -> None:
        self.machine, self._settings = machine, (cold, not cold)
        self._indexes: list[tuple[str, bool, dict[str, Entry]]] = []  # source, floats only, entries
        self.files: list[Path] = []
        standard = {"user": folders.user_root, "shipped": folders.shipped_root}
        for root in _listed(standard if given is None else given):
            if isinstance(root, str) and root in standard:
                with _warned():
                    for path, whose, floats in folders.folders_of(standard[root](), machine):
                        with _warned():
                            self._add(root, path, whose, floats)
                continue
            if not Path(root).is_dir():
                either = ", ".join(standard)
                raise TuningError(f"tuning_logs: {os.fspath(root)!r}, expected a folder of logs, or {either}")
            for path, whose, floats in folders.folders_of(root, machine):
                self._add("given", path, whose, floats)

    def _add(self, source: str, folder: Path, machine: AnyMachine, floats: bool) -> None:
        self.files.append(folder / folders.INDEX)
        self._indexes.append((source, floats, _index(folder, machine)))

    def find(self, spec: Work) -> Tuned | None:
        """The best schedule known for ``spec``: from its own record in any log, else from its nearest twin's
        if that was faster than the twin's default."""
        for relative, whose, entry in self.known(spec):
            if relative == spec or entry.seconds < entry.default_seconds:
                return Tuned(entry.choice, _origin(entry, whose, None if relative == spec else relative))
            return None
        return None

    def default_won(self, spec: Work) -> dict[str, Any] | None:
        """What a manifest says of a twin from which ``spec`` has its default schedule, since that won there.
        None where `find` has a schedule, or nothing is known."""
        for relative, whose, entry in self.known(spec):
            if relative == spec or entry.seconds < entry.default_seconds:
                return None
            return {**_origin(entry, whose, relative), "source": "default"}
        return None

    def known(self, spec: Work) -> Iterator[tuple[Work, str, Entry]]:
        """(the spec or a twin of it, whose log, the verdict there) for all that exist, in order of
        precedence."""
        for relative in (spec, *spec.twins()):
            for key in (key_of(str(relative), cold) for cold in self._settings):
                for whose, floats, index in self._indexes:
                    entry = index.get(key)
                    if entry is not None and (not spec.is_integer or not floats):
                        yield relative, whose, entry


def _listed(given: Any) -> list[str | os.PathLike[str]]:
    if isinstance(given, (str, os.PathLike)):
        return [given]
    try:
        return [root if isinstance(root, str) else os.fspath(root) for root in given]
    except TypeError:
        raise TuningError(f"tuning_logs: {given!r}, expected a folder of logs, or several") from None


@contextmanager
def _warned() -> Iterator[None]:
    """Problems with a folder that nobody asked for are warnings."""
    try:
        yield
    except TuningError as error:
        warnings.warn(f"passed over: {error}", RuntimeWarning, stacklevel=6)


def _origin(entry: Entry, whose: str, twin: Work | None) -> dict[str, Any]:
    """What manifests say about an entry. The times are the twin's if the entry is a twin's."""
    return {
        "source": "tuned", "log": whose, "record": entry.record, "date": entry.date,
        "us": round(entry.seconds * 1e6, 3), "default_us": round(entry.default_seconds * 1e6, 3),
        "threads": entry.threads, "cpu": entry.cpu, **({"cold": True} if entry.cold else {}),
        **({} if twin is None else {"twin": str(twin)}),
    }  # fmt: skip


def _index(folder: Path, machine: AnyMachine) -> dict[str, Entry]:
    """A folder's index without what was measured under emulation, reread only when a file has changed."""
    facts = []
    for name in (folders.INDEX, folders.METADATA):
        try:
            found = (folder / name).stat()
        except OSError:
            continue
        facts += [found.st_mtime_ns, found.st_size, found.st_ino]
    return _read(folder, machine, *facts) if facts else {}


@lru_cache(maxsize=16)
def _read(folder: Path, machine: AnyMachine, *_: int) -> dict[str, Entry]:
    folders.check_made(folder, machine)
    return {key: entry for key, entry in read_index(folder).items() if not entry.emulated}
