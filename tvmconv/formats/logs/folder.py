"""A folder of tuning logs: which files it has, and whose they are.

``database_workload.json`` and ``database_tuning_record.json`` are meta_schedule's own, one JSON line per
entry; ``index.json`` says which record is best for each descriptor, ``metadata.json`` what made them. The
workloads are for TVM's tools: the code here uses only a workload's line number. No TVM here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import TuningError
from tvmconv.formats.logs.files import (
    INDEX,
    METADATA,
    RECORDS,
    WORKLOADS,
    append_lines,
    locked,
    read_json,
    read_lines,
    replace_all,
    write_json,
)

if TYPE_CHECKING:
    from tvmconv.schedules.machines import AnyMachine

__all__ = [
    "INDEX", "METADATA", "RECORDS", "WORKLOADS", "append_lines", "check_made", "check_version", "folder_of",
    "folders_of", "locked", "note_run", "prepare", "read_json", "read_lines", "read_metadata", "read_records",
    "read_workloads", "record_name", "replace_all", "shipped_root", "today", "tvm_version", "user_root",
    "write_json",
]  # fmt: skip

def user_root() -> Path:
    """The user's own logs, which take precedence over the shipped ones."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base, "tvmconv", "tuning_logs")


def shipped_root() -> Path:
    """The logs that come with this package."""
    import tvmconv.tuning_logs

    return Path(tvmconv.tuning_logs.__file__).parent


def folder_of(root: str | os.PathLike[str], machine: AnyMachine) -> Path:
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


def folders_of(
    root: str | os.PathLike[str], machine: AnyMachine
) -> list[tuple[Path, AnyMachine, bool]]:
    """The folders whose records apply to ``machine``, each with its machine and whether for floats only: its
    own, its base's and so on under ``root``, or ``root`` itself if it is one of those. Raises TuningError as
    ``folder_of``."""
    root, bases = Path(root), [machine, *machine.bases()]
    if (root / METADATA).exists():
        target = read_metadata(root).get("target")
        bases = [base for base in bases if base.name == target] or [machine]
    return [(folder_of(root, base), base, base is not machine) for base in bases]


def tvm_version() -> str:
    """The version of the installed TVM."""
    try:
        return version("apache-tvm")
    except PackageNotFoundError:
        return "none"


def read_metadata(folder: Path) -> dict[str, Any]:
    """What made the folder's records. Raises TuningError."""
    return read_json(folder / METADATA)


def check_version(folder: Path) -> None:
    """Raise TuningError for logs made by another TVM."""
    made, here = read_metadata(folder).get("tvm"), tvm_version()
    if made is not None and here != "none" and made != here:
        raise TuningError(f"tuning_logs: {folder} was made with TVM {made}, expected {here}, the one here")


def check_made(folder: Path, machine: AnyMachine, emulated: bool = False) -> None:
    """Raise TuningError for logs of another target or TVM, or measured under emulation where real ones are
    wanted, or vice versa."""
    metadata = read_metadata(folder)
    target = metadata.get("target", machine.name)
    if target != machine.name:
        raise TuningError(f"tuning_logs: {folder} is of target {target}, expected {machine.name}")
    check_version(folder)
    if bool(metadata.get("emulated")) != emulated:
        what = "on real CPUs" if emulated else "under emulation"
        hint = "; times of the two are not to be mixed: give a run on emulated boards a --log of its own"
        raise TuningError(f"tuning_logs: {folder} was measured {what}{hint}")


def prepare(folder: Path, machine: AnyMachine, emulated: bool = False) -> None:
    """Make the folder ready for records of ``machine``, measured under emulation or not. Raises TuningError
    where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise TuningError(f"tuning_logs: {folder} cannot be written: {error.strerror or error}") from None
    with locked(folder):
        if not (folder / METADATA).exists():
            mark = {"emulated": True} if emulated else {}
            facts = {"target": machine.name, "tvm": tvm_version(), "runs": [], **mark}
            write_json(folder / METADATA, facts)
    if "target" not in read_metadata(folder):
        raise TuningError(f"tuning_logs: {folder / METADATA} has no target, expected {machine.name}")
    check_made(folder, machine, emulated)


def read_records(folder: Path) -> list[tuple[int, int, list[Any]]]:
    """(line, line of the workload from 0 on, what TVM calls the record) of each record that is not damaged.
    Raises TuningError."""
    lines, _ = read_lines(folder / RECORDS, _is_record)
    return [(number, *line) for number, line in enumerate(lines, 1) if line is not None]


def read_workloads(folder: Path) -> list[list[str] | None]:
    """(hash, code) of each line; None for a damaged one. Raises TuningError."""
    return read_lines(folder / WORKLOADS, _is_workload)[0]


def _is_record(line: Any) -> bool:
    match line:
        case [int(), [list(), list() | None as seconds, *_]]:
            return line[0] >= 0 and all(type(s) in (int, float) for s in seconds or [])
    return False


def _is_workload(line: Any) -> bool:
    return isinstance(line, list) and len(line) == 2 and all(isinstance(part, str) for part in line)


def record_name(facts: list[Any]) -> str:
    """The name of a record in index and manifests: a hash of it, the same in every folder."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def today() -> str:
    """The date, in UTC."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


def note_run(folder: Path, facts: dict[str, Any]) -> None:
    """Add a description of a tuner run to the folder's metadata, identical ones once. Raises TuningError."""
    with locked(folder):
        metadata = read_metadata(folder)
        runs = metadata.setdefault("runs", [])
        if not isinstance(runs, list):
            raise TuningError(f"tuning_logs: {folder / METADATA} has runs {runs!r}, expected a list")
        if facts not in runs:
            runs.append(facts)
            write_json(folder / METADATA, metadata)
