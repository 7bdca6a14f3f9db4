"""TVM's RPC tracker: its address, and which boards it knows, asked so that silence is an error in seconds."""

from __future__ import annotations

import json
import socket
import struct
from collections import Counter

from tvmconv.errors import TuningError

_MAGIC = 0x2F271
_SUMMARY = 6
_SECONDS = 5.0


def address(text: str) -> tuple[str, int]:
    """(host, port) of ``HOST:PORT``. Raises TuningError."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise TuningError(f"{text!r}, expected HOST:PORT, as 127.0.0.1:9190")
    return host, int(port)


def boards(tracker: tuple[str, int]) -> Counter[str]:
    """How many servers there are of each key. Raises TuningError where no tracker answers."""
    where = f"{tracker[0]}:{tracker[1]}"
    try:
        with socket.create_connection(tracker, timeout=_SECONDS) as connection:
            connection.sendall(struct.pack("<i", _MAGIC))
            (magic,) = struct.unpack("<i", _receive(connection, 4))
            if magic != _MAGIC:
                raise OSError("another service answers")
            question = json.dumps([_SUMMARY]).encode()
            connection.sendall(struct.pack("<i", len(question)) + question)
            (size,) = struct.unpack("<i", _receive(connection, 4))
            _, summary = json.loads(_receive(connection, size))
    except (OSError, ValueError, struct.error) as error:
        raise TuningError(
            f"tracker {where}: {error}; expected a running 'python -m tvm.exec.rpc_tracker'"
        ) from None
    return Counter(server["key"].removeprefix("server:") for server in summary["server_info"])


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


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise OSError("the connection was closed")
        data += part
    return data
