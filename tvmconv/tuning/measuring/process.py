"""A Python process that answers lines of JSON, started again after it died or took too long."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import IO, Any

from tvmconv.compiler.workers import program


class ProcessError(Exception):
    """The process gave no answer: how it ended, or that it took too long."""


class Process:
    """``module.serve()`` in a process group of its own, so that Ctrl-C is its parent's business.

    ``environment``: variables besides this process's own. The process starts when it is first asked.
    """

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        self.module = module
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self._read = b""

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, unless it runs."""
        if self.process is not None:
            return self.process
        self._read = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", program(self.module)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env=self.environment, start_new_session=True,
        )  # fmt: skip
        return self.process

    def ask(self, message: Any, timeout: float) -> Any:
        """The answer to ``message``, both JSON values. Raises ProcessError; the next question then starts
        another process."""
        process = self.start()  # held, for another thread may stop it meanwhile
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            return json.loads(self._line(process.stdout, time.monotonic() + timeout))
        except TimeoutError:
            self.stop()
            raise ProcessError(f"no answer within {timeout:.0f} s") from None
        except ValueError:  # of its closed pipes, or of what is no JSON
            self.stop()
            raise ProcessError("the process was stopped, or answered what is no JSON") from None
        except (OSError, EOFError):
            code = process.wait()
            self.stop()
            raise ProcessError(f"the process ended with {ended(code)}") from None

    def _line(self, stdout: IO[bytes], deadline: float) -> bytes:
        output = stdout.fileno()
        while b"\n" not in self._read:
            ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            data = os.read(output, 1 << 16)
            if not data:
                raise EOFError
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line

    def stop(self) -> None:
        """End the process and what it started."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def answer_lines(answer: Any) -> None:
    """What a process does until its input ends: ``answer(message)`` for each line of it."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what else is printed must not mix with the answers
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
