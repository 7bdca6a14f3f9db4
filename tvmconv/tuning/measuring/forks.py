"""Forks of one process that has imported what they need, each handling one message at a time.

Starting Python and importing TVM takes a second of CPU time; a fork of a process that has done so costs
almost nothing, and neither does replacing one that died. Messages and answers are packets of JSON on one
socket, from which any idle fork takes the next.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from tvmconv.base.processes import ProcessError, command, end_group, ended

_PACKET = 1 << 16  # bytes: messages and answers have to be shorter


class Forks:
    """``count`` forks of a process that runs ``module.serve()``, which calls ``serve`` of this module. It has
    its own process group, so that the parent handles Ctrl-C. It starts with the first message."""

    def __init__(self, module: str, count: int) -> None:
        self.module, self.count = module, count
        self.process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._asked = 0  # messages, to number them
        self._at_work: dict[int, tuple[int, float]] = {}  # process ids: which message, and until when
        self._killed: set[int] = set()

    def start(self) -> None:
        """Start it, unless it is running."""
        if self.process is not None:
            return
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                command(self.module, theirs.fileno(), self.count), pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def ask_all(self, messages: Sequence[Any], timeout: float) -> list[Any]:
        """The answers to ``messages``, JSON values; a ProcessError for one that took more than ``timeout``
        seconds, or killed its fork. An interruption ends the forks."""
        self.start()
        numbers = range(self._asked, self._asked + len(messages))
        self._asked += len(messages)
        todo = list(zip(numbers, messages, strict=True))[::-1]
        sent: dict[int, Any] = {}  # and taken by nobody
        answers: dict[int, Any] = {}
        try:
            while len(answers) < len(messages):
                while todo and len(sent) < self.count:  # so that nobody waits for the next
                    number, message = todo.pop()
                    sent[number] = message
                    self._send(number, message)
                pid, what, value = self._event()
                if what == "takes":
                    sent.pop(value, None)
                    self._at_work[pid] = value, time.monotonic() + timeout
                elif pid in self._at_work:
                    number, _ = self._at_work.pop(pid)
                    if what == "late":
                        value = ProcessError(f"no answer within {timeout:.0f} s")
                    elif what == "ended":
                        value = ProcessError(f"the process ended with {ended(value)}")
                    if number in numbers:
                        answers[number] = value
                elif what == "ended" and pid in self._killed:
                    self._killed.remove(pid)  # another process may have its number one day
                elif what == "ended":
                    # It may have taken one without saying so. If not, the message is answered twice,
                    # identically.
                    for number, message in sent.items():
                        self._send(number, message)
        except OSError:
            error = ProcessError(f"the process ended with {ended(self.process.wait())}")
            self.stop()
            return [answers.get(number, error) for number in numbers]
        except BaseException:
            self.stop()
            raise
        return [answers[number] for number in numbers]

    def _send(self, number: int, message: Any) -> None:
        self._socket.send(json.dumps([number, message]).encode())

    def _event(self) -> tuple[int, str, Any]:
        """(process id, what it tells, its value): that it "takes" the message of a number, "answers", has
        "ended" with a status; or is "late", which ends it. Raises OSError if all have ended."""
        while True:
            pid, until = min(((p, end) for p, (_, end) in self._at_work.items()), key=lambda pair: pair[1],
                             default=(0, math.inf))  # fmt: skip
            left = until - time.monotonic()
            if left <= 0:
                end_group(pid)
                self._killed.add(pid)
                return pid, "late", None
            self._socket.settimeout(None if pid == 0 else left)
            with contextlib.suppress(TimeoutError):
                packet = self._socket.recv(_PACKET)
                if not packet:
                    raise ConnectionError
                return tuple(json.loads(packet))

    def stop(self) -> None:
        """End the forks, and what they started."""
        process, self.process = self.process, None
        if process is None:
            return
        for pid in (process.pid, *self._at_work):
            end_group(pid)
        self._at_work.clear()
        self._killed.clear()
        self._socket.close()  # which idle ones take for the end
        process.wait()


def serve(answer: Callable[[Any], Any]) -> None:
    """The process of ``Forks``, until its parent ends: keep forks running, each of which calls ``answer`` on
    one message after another."""
    number, count = map(int, sys.argv[1:])
    with socket.socket(fileno=number) as channel:
        alive = {_fork(channel, answer) for _ in range(count)}
        while alive:
            pid, status = os.wait()
            alive.discard(pid)
            if code := os.waitstatus_to_exitcode(status):
                _tell(channel, "ended", code, pid)
                alive.add(_fork(channel, answer))


def _fork(channel: socket.socket, answer: Callable[[Any], Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setpgid(0, 0)  # to be ended with what it starts
        while packet := channel.recv(_PACKET):
            number, message = json.loads(packet)
            _tell(channel, "takes", number)
            _tell(channel, "answers", answer(message))
        code = 0
    finally:
        os._exit(code)


def _tell(channel: socket.socket, what: str, value: Any, pid: int | None = None) -> None:
    channel.send(json.dumps([pid or os.getpid(), what, value]).encode())
