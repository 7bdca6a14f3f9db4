"""The file beside a library that has its weights: what is in it, and whether it is the right one.

16 bytes that say what it is, 8 with its size, 8 of nothing, the SHA-256 of all that follows, and the arrays,
each at a multiple of 64 bytes. Integers are little-endian. Standard library only: this is half of the
runtime.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tvmconv.base.errors import ArtifactError

MAGIC = b"TVMCONV-WEIGHTS\n"
ALIGNMENT = 64
_HEAD = 64  # bytes before the arrays


def places(constants: Iterable[bytes]) -> list[int]:
    """The offset of each of these arrays in a file of them."""
    found, end = [], _HEAD
    for constant in constants:
        found.append(end)
        end += -(-len(constant) // ALIGNMENT) * ALIGNMENT
    return found


def made(constants: Iterable[bytes]) -> bytes:
    """A file of these arrays."""
    body = b"".join(constant + bytes(-len(constant) % ALIGNMENT) for constant in constants)
    size = (_HEAD + len(body)).to_bytes(8, "little")
    return MAGIC + size + bytes(8) + hashlib.sha256(body).digest() + body


def facts_of(name: str, file: bytes) -> dict[str, Any]:
    """What a library says of the file."""
    return {"file": name, "bytes": len(file), "sha256": file[32:_HEAD].hex()}


def check(path: Path, facts: Mapping[str, Any]) -> None:
    """Raises ArtifactError unless the file ``path`` is what a library's ``facts`` say, to the last bit."""
    what = f"weights: {path}"
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != facts["bytes"]:
                wanted = f"expected {facts['bytes']}: it is damaged, or another model's"
                raise ArtifactError(f"{what} has {size} bytes, {wanted}")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
                if view[:16] != MAGIC or view[32:_HEAD] != bytes.fromhex(facts["sha256"]):
                    found = bytes(view[32:_HEAD]).hex() if view[:16] == MAGIC else "none"
                    raise ArtifactError(
                        f"{what} is another model's: SHA-256 {found[:16]}, expected {facts['sha256'][:16]}..."
                    )
                if hashlib.sha256(view[_HEAD:]).hexdigest() != facts["sha256"]:
                    raise ArtifactError(f"{what} is damaged: its SHA-256 does not match")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ArtifactError(f"{what} cannot be read: {why}; it belongs beside the library") from None
