"""Files of a folder of logs, which may be damaged, truncated, or someone else's. Writers hold
the folder's lock; what they write is on disk, whole or not at all, before they return. No TVM here."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tvmconv.base import whole_files
from tvmconv.base.errors import TuningError

WORKLOADS = "database_workload.json"
RECORDS = "database_tuning_record.json"
INDEX = "index.json"
METADATA = "metadata.json"
_LOCK = ".lock"
_STAGED = ".replacing"
_MOST = 1 << 30  # bytes of a file


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, {} if there is none. Raises TuningError."""
    data = _content(path)
    if data is None:
        return {}
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise TuningError(f"tuning_logs: {path} cannot be read: {why}") from None
    if not isinstance(found, dict):
        raise TuningError(f"tuning_logs: {path} holds {type(found).__name__}, expected a JSON object")
    return found


def read_lines(path: Path, is_whole: Callable[[Any], bool] = lambda _: True) -> tuple[list[Any], bool]:
    """(the JSON value of each line, whether the last line was cut short). None stands for a line that is not
    JSON, or not what ``is_whole`` expects; these give a warning. Raises TuningError."""
    lines = (_content(path) or b"").split(b"\n")
    values, damaged = [], []
    rest = lines.pop()
    if rest and _parsed(rest) is not None:  # all there but for the end of the line
        lines.append(rest)
        rest = b""
    for number, line in enumerate(lines, 1):
        value = _parsed(line)
        if value is None or not is_whole(value):
            damaged.append(number)
            value = None
        values.append(value)
    if damaged:
        more = f" and {len(damaged) - 1} more" if damaged[1:] else ""
        told = f"{path}:{damaged[0]} is damaged{more}, passed over: expected a line of JSON as TVM writes it"
        warnings.warn(f"tuning_logs: {told}", RuntimeWarning, stacklevel=2)
    return values, bool(rest)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _content(path: Path) -> bytes | None:
    """What a file holds; None if there is none."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > _MOST:
                raise TuningError(f"tuning_logs: {path}, expected a file of at most {_MOST} bytes")
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TuningError(f"tuning_logs: {path} cannot be read: {error.strerror or error}") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder against other processes that write to it. Whatever one of them was interrupted in is
    completed. Raises TuningError where the folder cannot be written, or the disk is full."""
    with _told(folder), open(folder / _LOCK, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _finish(folder)
        yield


def write_json(path: Path, value: Any) -> None:
    """Replace a file, whole or not at all. Raises TuningError."""
    with _told(path):
        text = json.dumps(value, indent=1, sort_keys=True) + "\n"
        whole_files.write({path: (text.encode(), 0o666)}, settled=True)


def append_lines(path: Path, *lines: str) -> bool:
    """Append lines and wait until they are on disk; the lock is the caller's. An incomplete last line left by
    a killed process is cut off first: True if there was one. Raises TuningError."""
    text = "".join(line + "\n" for line in lines)
    with _told(path):
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags, 0o666), "a+b") as file:
            end = file.seek(0, os.SEEK_END)
            whole = _whole(file, end)
            file.seek(whole)
            rest = file.read(end - whole)
            cut = bool(rest) and _parsed(rest) is None
            if cut:
                file.truncate(whole)
            file.write((b"\n" if rest and not cut else b"") + text.encode())
            file.flush()
            os.fsync(file.fileno())
        if end == 0:
            whole_files.settle(path.parent)
    return cut


def replace_all(folder: Path, texts: Mapping[str, str]) -> None:
    """Replace ``RECORDS`` and ``WORKLOADS``, both or neither; the lock is the caller's. They are staged and
    one rename decides; if interrupted after it, the next process to lock the folder finishes. Raises
    TuningError."""
    with _told(folder):
        for left in folder.glob(f"{_STAGED}.*"):  # by a process that was killed before the rename
            shutil.rmtree(left, ignore_errors=True)
        staged = folder / f"{_STAGED}.{os.getpid()}"
        staged.mkdir()
        files = {staged / name: (text.encode(), 0o666) for name, text in texts.items()}
        whole_files.write(files, settled=True)
        staged.rename(folder / _STAGED)
        whole_files.settle(folder)
        _finish(folder)


def _finish(folder: Path) -> None:
    """The rest of ``replace_all``, after the deciding rename."""
    staged = folder / _STAGED
    if staged.is_symlink() or not staged.is_dir():
        return
    for name in (RECORDS, WORKLOADS):
        with contextlib.suppress(FileNotFoundError):
            (staged / name).replace(folder / name)
    whole_files.settle(folder)
    shutil.rmtree(staged)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """System errors as TuningErrors."""
    try:
        yield
    except OSError as error:
        raise TuningError(f"tuning_logs: {path} cannot be written: {error.strerror or error}") from None


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
