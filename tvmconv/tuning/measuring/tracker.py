"""TVM's RPC tracker: its address, and which boards it knows, with silence reported as an error within
seconds."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tvmconv.base.errors import TuningError

_MAGIC = 0x2F271
_SUMMARY = 6
_SECONDS = 5.0  # for a whole answer
_LONGEST = 1 << 24  # bytes of one
_WAIT = 60.0  # seconds for a board to come


def address(text: str) -> tuple[str, int]:
    """(host, port) of ``HOST:PORT``. Raises TuningError."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise TuningError(f"address: {text!r}, expected HOST:PORT, as 127.0.0.1:9190")
    return host, int(port)


def boards(tracker: tuple[str, int]) -> Counter[str]:
    """How many servers there are for each key. Raises TuningError if no tracker answers."""
    return Counter(key for key, _ in servers(tracker))


def servers(tracker: tuple[str, int]) -> list[tuple[str, int]]:
    """Key and port of each server that the tracker knows. Raises TuningError if none answers."""
    where = f"{tracker[0]}:{tracker[1]}"
    try:
        end = time.monotonic() + _SECONDS
        with socket.create_connection(tracker, timeout=_SECONDS) as connection:
            connection.sendall(struct.pack("<i", _MAGIC))
            (magic,) = struct.unpack("<i", _receive(connection, 4, end))
            if magic != _MAGIC:
                raise OSError("another service answers")
            question = json.dumps([_SUMMARY]).encode()
            connection.sendall(struct.pack("<i", len(question)) + question)
            (size,) = struct.unpack("<i", _receive(connection, 4, end))
            if not 0 < size <= _LONGEST:
                raise OSError("another service answers")
            return _servers(json.loads(_receive(connection, size, end)))
    except (OSError, ValueError, RecursionError) as error:
        why = "another service answers" if isinstance(error, ValueError | RecursionError) else error
        raise TuningError(
            f"tracker {where}: {why}; expected a running 'tvmconv board tracker --port {tracker[1]}'"
        ) from None


def _servers(answer: Any) -> list[tuple[str, int]]:
    """From an answer to _SUMMARY. Raises ValueError for an invalid one."""
    try:
        _, summary = answer
        return [(server["key"].removeprefix("server:"), int(server["addr"][1]))
                for server in summary["server_info"]]  # fmt: skip
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError(error) from None


def wait(tracker: tuple[str, int], key: str, log: Callable[[str], None]) -> int:
    """``count``, once there is a board for ``key``, waiting up to a minute. Raises TuningError."""
    end = time.monotonic() + _WAIT
    if not boards(tracker)[key]:
        log(f"waiting for a board of key {key!r} at the tracker {tracker[0]}:{tracker[1]}")
    while not boards(tracker)[key] and time.monotonic() < end:
        time.sleep(0.5)
    return count(tracker, key)


def count(tracker: tuple[str, int], key: str) -> int:
    """How many servers of ``key`` there are, at least one. Raises TuningError."""
    known = boards(tracker)
    if not known[key]:
        names = ", ".join(sorted(known)) or "none"
        raise TuningError(
            f"key {key!r}: no board of it at the tracker {tracker[0]}:{tracker[1]}, which knows {names}; "
            f"start one with 'tvmconv board serve --key {key}'"
        )
    return known[key]


def _receive(connection: socket.socket, size: int, end: float) -> bytes:
    """This many bytes, all received before ``end``. Raises OSError."""
    data = b""
    while len(data) < size:
        if (left := end - time.monotonic()) <= 0:
            raise OSError("timed out")
        connection.settimeout(left)
        part = connection.recv(size - len(data))
        if not part:
            raise OSError("the connection was closed")
        data += part
    return data
