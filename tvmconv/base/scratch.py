"""Temporary places: a folder for what compilers read and write, and a file in memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tvmconv.base.errors import Error


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder. Raises Error where none can be made."""
    try:
        made = tempfile.TemporaryDirectory(prefix="tvmconv-", ignore_cleanup_errors=True)
    except OSError as error:
        raise Error(
            f"temporary folder: {error.strerror or error}, expected one that can be written; TMPDIR names one"
        ) from None
    with made as path:
        yield Path(path)


@contextlib.contextmanager
def memory_file(name: str) -> Iterator[Path]:
    """The path of an empty file in memory; on systems that have none, of one in a temporary folder."""
    if not hasattr(os, "memfd_create"):
        with folder() as path:
            yield path / name
        return
    number = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{number}")
    finally:
        os.close(number)
