"""Commands as they run on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Sequence

import pytest


def on_terminal(command: Sequence[object], **env: str) -> str:
    """What a command writes to a terminal of 60 columns, both streams."""
    try:
        parent, child = pty.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminals here: {error}")
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "60", **env}
    words = [str(word) for word in command]
    with subprocess.Popen(words, stdout=child, stderr=child, stdin=child, env=environment) as process:
        os.close(child)
        chunks = []
        try:
            while chunk := os.read(parent, 65536):
                chunks.append(chunk)
        except OSError:  # the terminal is closed
            pass
        process.wait(timeout=300)
    os.close(parent)
    return b"".join(chunks).decode()
