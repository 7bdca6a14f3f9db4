"""Reading a library's file: once, into memory, whatever happens to the path afterwards.

Standard library only: this is half of the runtime.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import Any

from tvmconv.base.errors import ArtifactError

LARGEST = 1 << 31  # bytes; code reaches its own data by signed distances of 32 bits
_HEAD = 64  # the whole header of an ELF file


def library_path(value: Any) -> Path:
    """``value`` as a path. Raises ArtifactError if it is neither a str nor a PathLike of one."""
    try:
        name = os.fspath(value)
    except TypeError:
        name = None
    if not isinstance(name, str):
        shown = "None" if value is None else type(value).__name__
        raise ArtifactError(f"path: {shown}, expected a library's path as str or os.PathLike[str]")
    return Path(name)


def read(path: Path) -> bytes:
    """The bytes of a library's file. Raises ArtifactError if it cannot be read, is not a regular file, is
    neither ELF nor an archive, is truncated, or is larger than a library can be."""
    try:
        # A FIFO without a writer would keep us waiting without O_NONBLOCK.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                what = "Is a directory" if stat.S_ISDIR(facts.st_mode) else "not a regular file"
                raise ArtifactError(f"library: {path} cannot be read: {what}")
            head = file.read(_HEAD)
            _check_head(path, head)
            if facts.st_size > LARGEST:
                raise ArtifactError(f"library: {path} is {facts.st_size} bytes, expected at most {LARGEST}")
            data = head + file.read(max(facts.st_size - _HEAD, 0))
    except (OSError, ValueError, MemoryError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or str(error) or "out of memory"
        raise ArtifactError(f"library: {path} cannot be read: {why}") from None
    if data[:4] == b"\x7fELF" and len(data) < (whole := _elf_size(data)):
        raise ArtifactError(f"library: {path} is truncated: {len(data)} bytes, expected {whole} or more")
    return data


def _check_head(path: Path, head: bytes) -> None:
    if not head:
        raise ArtifactError(f"library: {path} is empty, expected a library made by tvmconv")
    if head[:4] != b"\x7fELF" and head[:8] != b"!<arch>\n":
        found = "is not a shared library or archive"
        raise ArtifactError(f"library: {path} {found}, expected one made by tvmconv")


def _elf_size(data: bytes) -> int:
    """The end of an ELF file's section table, which a linker writes last."""
    wide = data[4:5] == b"\x02"
    offset, size, count = ("<Q", 0x28), 0x3A, 0x3C
    if not wide:
        offset, size, count = ("<I", 0x20), 0x2E, 0x30
    try:
        (table,) = struct.unpack_from(offset[0], data, offset[1])
        (entry,) = struct.unpack_from("<H", data, size)
        (entries,) = struct.unpack_from("<H", data, count)
    except struct.error:
        return 64 if wide else 52  # not even a whole header
    return table + entry * entries
