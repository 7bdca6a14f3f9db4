"""Building candidates: several at a time, in processes that live as long as the builder."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv import cache
from tvmconv.artifact.kernel import Kernel
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Choice
from tvmconv.specs import Spec
from tvmconv.tuning.process import Process, ProcessError, answer_lines

if TYPE_CHECKING:
    from tvmconv.codegen import Packers

BATCH = 16  # points that a search proposes, to be built and measured together
_SECONDS = 60.0  # more than any kernel takes to compile


class Builder:
    """Compiles points of a spec for ``machine`` with ``jobs`` processes."""

    def __init__(self, machine: Machine, jobs: int) -> None:
        self.machine = machine
        self.count = 0  # of kernels, to number their symbols
        self.processes = [Process("tvmconv.tuning.builder") for _ in range(jobs)]
        for process in self.processes:
            process.start()

    def build(self, spec: Spec, choices: Sequence[Choice]) -> list[Kernel | str]:
        """A kernel for each choice, or what went wrong with it. No two have a symbol in common."""
        built: list[Kernel | str] = [""] * len(choices)
        todo = list(enumerate(choices))[::-1]
        first, self.count = self.count, self.count + len(choices)
        with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:

            def work(process: Process) -> None:
                while todo:
                    try:
                        number, choice = todo.pop()
                    except IndexError:
                        return
                    path = Path(folder, f"{number}")
                    built[number] = self._ask(process, spec, choice, path, f"tuned_{first + number:08}")

            threads = [threading.Thread(target=work, args=(p,)) for p in self.processes[: len(choices)]]
            for thread in threads:
                thread.start()
            try:
                for thread in threads:
                    thread.join()
            except BaseException:
                todo.clear()
                self.stop()
                for thread in threads:
                    thread.join()
                raise
        return built

    def _ask(self, process: Process, spec: Spec, choice: Choice, path: Path, symbol: str) -> Kernel | str:
        message = {
            "descriptor": str(spec), "machine": dataclasses.asdict(self.machine), "path": os.fspath(path),
            "choice": dataclasses.asdict(choice), "symbol": symbol,
        }  # fmt: skip
        try:
            wrong = process.ask(message, _SECONDS)
        except ProcessError as error:
            return f"compiling: {error}"
        return wrong or cache.read_kernel(path) or "compiling: the result cannot be read"

    def stop(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.stop()


def serve() -> None:
    """What a process of a builder does until its input ends."""
    from tvmconv.codegen import Packers

    answer_lines(partial(_build, Packers()))


def _build(packers: Packers, message: dict[str, Any]) -> str:
    from tvmconv.codegen import build_kernel
    from tvmconv.specs import parse_spec
    from tvmconv.workers import machine_of

    try:
        kernel = build_kernel(
            parse_spec(message["descriptor"]), machine_of(message["machine"]), Choice(**message["choice"]),
            message["symbol"], packers,
        )  # fmt: skip
    except Exception as error:  # of TVM's and LLVM's too: it costs one trial
        return f"compiling: {' '.join(str(error).split())[:300] or repr(error)}"
    Path(message["path"]).write_bytes(cache.kernel_bytes(kernel))
    return ""
