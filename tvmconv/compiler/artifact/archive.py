"""A static archive of one object, with the symbol index that linkers use (GNU ar's format)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_MAGIC = b"!<arch>\n"
_HEADER = 60  # bytes before each member


def archive(name: str, code: bytes, symbols: Sequence[str]) -> bytes:
    """The bytes of an archive whose member ``name`` is ``code``, which defines ``symbols``."""
    names = b"".join(symbol.encode("ascii") + b"\0" for symbol in symbols)
    index_size = 4 + 4 * len(symbols) + len(names)
    at = len(_MAGIC) + _HEADER + index_size + index_size % 2
    index = struct.pack(f">{1 + len(symbols)}I", len(symbols), *[at] * len(symbols)) + names
    return _MAGIC + _member("/", index) + _member(f"{name}/", code)


def _member(name: str, content: bytes) -> bytes:
    # Neither date nor owner: equal inputs give equal bytes.
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'644':<8}{len(content):<10}`\n".encode("ascii")
    return header + content + b"\n" * (len(content) % 2)
