"""Measuring on boards: a runner that sends libraries to TVM's RPC servers, any number of them at once.

Each board has a process here that holds the session, because a call to a hanging board cannot be abandoned in
any other way.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tvmconv.base.errors import TuningError
from tvmconv.base.processes import Process, ProcessError, answer_lines
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.program import Program
from tvmconv.schedules.machines import Machine
from tvmconv.tuning.measuring import tracker as trackers
from tvmconv.tuning.measuring.runner import (
    BASELINE,
    Effort,
    Linked,
    Measured,
    Played,
    Turns,
    on_library,
    play_message,
    played,
)

_log = logging.getLogger("tvmconv")

_CONNECT = 30.0  # seconds for a session, including the import of TVM
_WITHOUT_BOARD = 60.0  # seconds after which a run without any board gives up
_SESSION = 1500  # seconds after which a session is begun anew
_UPLOAD = 30.0


class RPCRunner:
    """Runs on the boards that ``tracker``, HOST:PORT, knows as ``key``. ``threads``: all CPUs of the board if
    None. Waits a minute for a board. Raises TuningError if there is still none, or it cannot run code for
    ``machine``."""

    def __init__(
        self, machine: Machine, tracker: str, key: str, threads: int | None = None, timeout: float = 60.0
    ) -> None:
        self.machine, self.timeout = machine, timeout
        address = trackers.address(tracker)
        self.place = {"tracker": address, "key": key}
        boards = trackers.wait(address, key, _log.info)
        self.processes = [Process("tvmconv.tuning.measuring.remote") for _ in range(boards)]
        self.last_seen = time.monotonic()
        facts = self._describe()
        if facts["arch"] != machine.arch:
            self.stop()
            raise TuningError(f"target: {machine.name}, but boards of key {key!r} are {facts['arch']}")
        if threads is not None and threads > facts["cpus"]:
            self.stop()
            raise TuningError(f"threads: {threads}, expected at most {facts['cpus']}, the board's CPUs")
        self.cpu, self.threads = facts["cpu"], threads or facts["cpus"]
        self.emulated = _is_emulated(facts)
        if self.emulated and not facts.get("emulated"):
            self.cpu = f"{facts['arch']}, emulated"  # what an older board reports about itself is the host's
        self.mixed = False  # whether a board is emulated and the first isn't, or vice versa

    def _describe(self) -> dict[str, Any]:
        try:
            facts = self.processes[0].ask({**self.place, "what": "describe"}, _CONNECT)
        except ProcessError as error:
            facts = {"lost": str(error)}
        if "lost" in facts:
            self.stop()
            raise TuningError(f"key {self.place['key']!r}: no board gives a session: {facts['lost']}")
        return facts

    def measure(
        self, kernels: Mapping[str, Kernel], names: Sequence[str], effort: Effort
    ) -> Iterator[Measured]:
        """See ``Runner``."""
        def measure_all(path: Path) -> Iterator[Measured]:
            message = {
                **self.place, "what": "measure", "path": os.fspath(path), "library": f"{path.parent.name}.so",
                "baseline": BASELINE, "timeout": self.timeout, "threads": self.threads, **asdict(effort),
            }  # fmt: skip
            return iter(self._on_all(message, names))

        return on_library(kernels, self.machine, names, measure_all)

    def _on_all(self, message: dict[str, Any], names: Sequence[str]) -> list[Measured]:
        """A result for each name; each board takes the next one when it has finished."""
        todo: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        for pair in enumerate(names):
            todo.put(pair)
        found: list[Measured | None] = [None] * len(names)
        self.last_seen = time.monotonic()

        def work(process: Process) -> None:
            while not todo.empty() and self._connected(process):
                try:
                    number, name = todo.get_nowait()
                except queue.Empty:
                    return
                found[number] = self._ask(process, {**message, "function": name})

        used = self.processes[: len(names)]
        threads = [threading.Thread(target=work, args=(process,), daemon=True) for process in used]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.mixed:
            key = self.place["key"]
            raise TuningError(f"key {key!r}: emulated boards and others, expected boards of one kind")
        if not todo.empty():
            raise self._nobody()
        return [measured for measured in found if measured is not None]

    def play(
        self, functions: Mapping[str, Program], turns: Turns, rounds: int, seconds: float, *,
        compare: bool = False,
    ) -> Played:  # fmt: skip
        """See ``NetworkRunner``; on the first board that gives a session."""
        linked = Linked(functions, self.machine)
        with linked.folder:
            message = {
                **self.place, "what": "measure", "path": os.fspath(linked.path),
                "library": f"{linked.path.parent.name}.so", "threads": self.threads,
                **play_message(turns, rounds, seconds, compare),
            }  # fmt: skip
            self.last_seen = time.monotonic()
            process = self.processes[0]
            if not self._connected(process):
                raise self._nobody()
            try:
                answer = process.ask(message, message["patience"] + _UPLOAD)
            except ProcessError as error:
                raise TuningError(f"running the network: board: {error}") from None
        if "lost" in answer:
            raise TuningError(f"running the network: board: {answer['lost']}")
        return played(answer)

    def _nobody(self) -> TuningError:
        key = self.place["key"]
        return TuningError(f"key {key!r}: no board for {_WITHOUT_BOARD:.0f} s; the same command goes on")

    def _connected(self, process: Process) -> bool:
        """Wait for a session with a board; False if no board is seen for too long."""
        while time.monotonic() - self.last_seen < _WITHOUT_BOARD:
            try:
                facts = process.ask({**self.place, "what": "describe"}, _CONNECT)
                if "lost" not in facts:
                    self.last_seen = time.monotonic()
                    self.mixed |= _is_emulated(facts) != self.emulated
                    return not self.mixed
            except ProcessError:
                pass
            time.sleep(1)
        return False

    def _ask(self, process: Process, message: dict[str, Any]) -> Measured:
        try:
            answer = process.ask(message, 4 * self.timeout + _UPLOAD)
        except ProcessError as error:
            return Measured(error=f"running: board: {error}")
        if "lost" in answer:
            return Measured(error=f"running: board: {answer['lost']}")
        self.last_seen = time.monotonic()
        return Measured(**answer)

    def stop(self) -> None:
        """Release the boards."""
        for process in self.processes:
            process.stop()


def _is_emulated(facts: dict[str, Any]) -> bool:
    """Whether a board is emulated, as it says, or by an x86 CPU under another architecture (older boards)."""
    x86 = facts["arch"] != "x86_64" and str(facts["cpu"]).startswith(("AMD ", "Intel"))
    return bool(facts.get("emulated")) or x86


def serve() -> None:
    """What a process for a board does until its input ends."""
    answer_lines(_Client().answer)


class _Client:
    """One session with one board, begun when it is needed."""

    def __init__(self) -> None:
        self.session: Any = None
        self.begun = 0.0
        self.sent = ""

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """The board's answer; {"lost": why} where the session ended."""
        from tvmconv.tuning.measuring.board import DESCRIBE, MEASURE

        try:
            self._connect(message["tracker"], message["key"])
            if message["what"] == "describe":
                return json.loads(self.session.get_function(DESCRIBE)())
            if self.sent != message["library"]:
                self.session.upload(message["path"], message["library"])
                self.sent = message["library"]
            return json.loads(self.session.get_function(MEASURE)(json.dumps(message)))
        except Exception as error:  # from the network, and from TVM at the other end
            self.session = None
            return {"lost": " ".join(str(error).split())[-300:] or repr(error)}

    def _connect(self, tracker: Sequence[Any], key: str) -> None:
        if self.session is not None and time.monotonic() - self.begun < _SESSION:
            return
        from tvm import rpc

        trackers.count((tracker[0], tracker[1]), key)  # TVM would wait forever for a key that nobody has
        self.session, self.sent = None, ""
        self.session = rpc.connect_tracker(*tracker).request(key, session_timeout=2 * _SESSION, max_retry=1)
        self.begun = time.monotonic()
