"""What ``compile`` asks of the logs: the schedule to use for a spec on a machine. No TVM, and cheap."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tvmconv.errors import TuningError
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Choice
from tvmconv.tuning import folder as folders
from tvmconv.tuning.entries import Entry, read_index


@dataclass(frozen=True)
class Tuned:
    """A schedule from a log, and what a manifest says of where it comes from."""

    choice: Choice
    origin: dict[str, Any]

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Tuned:
        """What ``dataclasses.asdict`` took apart."""
        return cls(Choice(**facts["choice"]), facts["origin"])


class Logs:
    """The logs that count for a machine: those given, else the user's own before the shipped ones.

    Raises TuningError for a given folder that is of another target or TVM, or that does not exist; other
    folders that cannot be used are passed over with a warning.
    """

    def __init__(self, machine: Machine, given: str | os.PathLike[str] | None = None) -> None:
        if given is not None:
            if not Path(given).is_dir():
                raise TuningError(f"tuning_logs: {os.fspath(given)!r}, expected a folder of logs")
            self._indexes = [("given", _index(folders.folder_of(given, machine)))]
            return
        self._indexes = []
        for name, root in (("user", folders.user_root()), ("shipped", folders.shipped_root())):
            path = folders.folder_of(root, machine)
            try:
                self._indexes.append((name, _index(path)))
            except TuningError as error:
                warnings.warn(f"passed over: {error}", RuntimeWarning, stacklevel=4)

    def find(self, descriptor: str) -> Tuned | None:
        """The best schedule known for a descriptor."""
        for whose, index in self._indexes:
            entry = index.get(descriptor)
            if entry is not None:
                origin = {
                    "source": "tuned", "log": whose, "record": entry.record, "date": entry.date,
                    "us": round(entry.seconds * 1e6, 3), "default_us": round(entry.default_seconds * 1e6, 3),
                    "threads": entry.threads, "cpu": entry.cpu,
                }  # fmt: skip
                return Tuned(entry.choice, origin)
        return None


def _index(folder: Path) -> dict[str, Entry]:
    """A folder's index, read again only when the file is another one."""
    try:
        facts = (folder / folders.INDEX).stat()
    except OSError:
        return {}
    return _read(folder, facts.st_mtime_ns, facts.st_size, facts.st_ino)


@lru_cache(maxsize=16)
def _read(folder: Path, *_: int) -> dict[str, Entry]:
    folders.check_version(folder)
    return read_index(folder)
