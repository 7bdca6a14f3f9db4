"""Files that appear whole or not at all: written beside their places, then renamed to them."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path


def write(files: Mapping[Path, tuple[bytes, int]], *, settled: bool = False) -> None:
    """Write files, each with its content and mode, in place of those that are there; a full disk leaves all
    as they were. ``settled``: they are on disk when this returns. Raises OSError; its ``filename`` is the
    file that cannot be written."""
    partial: dict[Path, Path] = {}
    path = Path()
    try:
        for path, (data, mode) in files.items():
            if path.is_dir():  # the one case where a file could be written but not renamed to the path
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            # Random, since a killed process with our number may have left its file.
            partial[path] = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}")
            with open(partial[path], "xb", opener=_opener(mode)) as file:
                file.write(data)
                if settled:
                    file.flush()
                    os.fsync(file.fileno())
        for path, written in partial.items():
            written.replace(path)
        if settled:
            for folder in {path.parent for path in files}:
                settle(folder)
    except BaseException as error:
        for written in partial.values():
            with contextlib.suppress(OSError, ValueError):
                written.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from None
        if isinstance(error, ValueError):  # a NUL in the name
            raise OSError(errno.EINVAL, str(error), str(path)) from None
        raise


def settle(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _opener(mode: int) -> Callable[[str, int], int]:
    return lambda name, flags: os.open(name, flags, mode)
