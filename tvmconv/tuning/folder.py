"""A folder of tuning logs: which files it has, whose they are, and how several processes share them.

``database_workload.json`` and ``database_tuning_record.json`` are meta_schedule's own, a JSON line an entry;
``index.json`` says which record is best for each descriptor, ``metadata.json`` what made them. No TVM here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tvmconv.errors import TuningError
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import Machine, resolve

WORKLOADS = "database_workload.json"
RECORDS = "database_tuning_record.json"
INDEX = "index.json"
METADATA = "metadata.json"
_LOCK = ".lock"


def user_root() -> Path:
    """Where logs of the user's own go: they win over the shipped ones."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base, "tvmconv", "tuning_logs")


def shipped_root() -> Path:
    """The logs that come with this package."""
    import tvmconv.tuning_logs

    return Path(tvmconv.tuning_logs.__file__).parent


def folder_of(root: str | os.PathLike[str], machine: Machine) -> Path:
    """The folder for ``machine`` under ``root``, or ``root`` itself if it is a target's folder.

    Raises TuningError if it is another target's.
    """
    root = Path(root)
    if not (root / METADATA).exists():
        return root / re.sub(r"[^\w.+-]", "_", machine.name)
    target = read_metadata(root).get("target")
    if target != machine.name:
        raise TuningError(f"tuning_logs: {root} is of target {target}, expected {machine.name}")
    return root


def folders_of(root: str | os.PathLike[str], machine: Machine | GpuMachine) -> list[tuple[Path, bool]]:
    """The folders whose records count for ``machine``, each with whether for floats alone: its own, its
    base's and so on under ``root``, or ``root`` itself if it is one of those. Raises TuningError as
    ``folder_of``."""
    root, bases = Path(root), [machine]
    while not isinstance(machine, GpuMachine) and bases[-1].base:
        bases.append(resolve(bases[-1].base))
    if (root / METADATA).exists():
        target = read_metadata(root).get("target")
        bases = [base for base in bases if base.name == target] or [machine]
    return [(folder_of(root, base), base is not machine) for base in bases]


def tvm_version() -> str:
    """The version of the installed TVM."""
    try:
        return version("apache-tvm")
    except PackageNotFoundError:
        return "none"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, {} if there is none. Raises TuningError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TuningError(f"tuning_logs: {path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise TuningError(f"tuning_logs: {path} holds {type(found).__name__}, expected a JSON object")
    return found


def read_metadata(folder: Path) -> dict[str, Any]:
    """What made the folder's records. Raises TuningError."""
    return read_json(folder / METADATA)


def check_version(folder: Path) -> None:
    """Raise TuningError for logs that another TVM made."""
    made, here = read_metadata(folder).get("tvm"), tvm_version()
    if made is not None and here != "none" and made != here:
        raise TuningError(f"tuning_logs: {folder} was made with TVM {made}, expected {here}, the one here")


def prepare(folder: Path, machine: Machine) -> None:
    """Make the folder ready for records of ``machine``. Raises TuningError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
        with locked(folder):
            if not (folder / METADATA).exists():
                write_json(folder / METADATA, {"target": machine.name, "tvm": tvm_version(), "runs": []})
    except OSError as error:
        raise TuningError(f"tuning_logs: {folder} cannot be written: {error.strerror or error}") from None
    target = read_metadata(folder).get("target")
    if target != machine.name:
        raise TuningError(f"tuning_logs: {folder} is of target {target}, expected {machine.name}")
    check_version(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes that write to it."""
    with open(folder / _LOCK, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_json(path: Path, value: Any) -> None:
    """Replace a file, whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def append_line(path: Path, line: str) -> bool:
    """Append a line and wait until it is on disk; the lock is the caller's. What a process that was killed
    left of a last line is cut off first: True if there was such a rest."""
    with open(path, "a+b") as file:
        end = file.seek(0, os.SEEK_END)
        cut = end - _whole(file, end)
        if cut:
            file.truncate(end - cut)
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return cut > 0


def record_name(facts: list[Any]) -> str:
    """What the index and manifests call a record: a hash of it, the same in every folder."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _whole(file: Any, end: int) -> int:
    """How many bytes up to ``end`` are whole lines."""
    at, rest = end, b""
    while at > 0:
        start = max(0, at - 65536)
        file.seek(start)
        rest = file.read(at - start)
        newline = rest.rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        at = start
    return 0


def read_lines(path: Path) -> tuple[list[Any], bool]:
    """(the JSON values of whole lines, whether the last line was cut short). Raises TuningError for a damaged
    line that is not the last."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], False
    except OSError as error:
        raise TuningError(f"tuning_logs: {path} cannot be read: {error.strerror or error}") from None
    lines = data.split(b"\n")
    truncated = bool(lines.pop())
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(json.loads(line))
        except ValueError:
            raise TuningError(f"tuning_logs: {path}:{number} is damaged, expected a line of JSON") from None
    return values, truncated


def today() -> str:
    """The date, in UTC."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


def note_run(folder: Path, facts: dict[str, Any]) -> None:
    """Add to the folder's metadata what a run of the tuner was; equal ones once."""
    with locked(folder):
        metadata = read_metadata(folder)
        runs = metadata.setdefault("runs", [])
        if facts not in runs:
            runs.append(facts)
            write_json(folder / METADATA, metadata)
