"""CUDA source in a library: kept compressed in its read-only data, found in the same way as the manifest."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping

from tvmconv.base.errors import ArtifactError
from tvmconv.formats import library_file as files
from tvmconv.formats import manifest

_MAGIC = b"\x7fTVMCONV-SOURCES\n"
_LENGTH_DIGITS = 8  # hexadecimal
_LARGEST = 1 << 28  # bytes of all sources


def embedded(sources: Mapping[str, str]) -> bytes:
    """The bytes that a library carries for the sources of its functions, by name."""
    packed = zlib.compress(json.dumps(dict(sources)).encode(), 9)
    return _MAGIC + f"{len(packed):0{_LENGTH_DIGITS}x}".encode() + packed


def read(path: str | os.PathLike[str]) -> dict[str, str]:
    """The sources in a library file, by function; empty for one that has none. Nothing is loaded or run.

    Raises ArtifactError as ``manifest.read`` does.
    """
    file = files.library_path(path)
    data = files.read(file)
    functions = {facts["name"] for facts in manifest.read_from(data, file)["functions"]}
    at = data.find(_MAGIC)
    if at < 0:
        return {}
    start = at + len(_MAGIC) + _LENGTH_DIGITS
    try:
        length = int(data[at + len(_MAGIC) : start], 16)
        unpacked = zlib.decompressobj().decompress(data[start : start + length], _LARGEST)
        found = json.loads(unpacked)
    except (ValueError, zlib.error, RecursionError):
        found = None
    whole = isinstance(found, dict) and all(isinstance(text, str) for text in found.values())
    if not whole or not functions <= set(found):
        raise ArtifactError(f"library: {file} is damaged: its sources are not readable")
    return found
