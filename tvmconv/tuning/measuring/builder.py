"""Building candidates: several at a time, in long-lived forks of a process."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tvmconv.base import scratch
from tvmconv.base.processes import ProcessError, without_collecting
from tvmconv.compiler import cache
from tvmconv.formats.choice import Choice
from tvmconv.formats.kernel import Kernel
from tvmconv.schedules.machines import AnyMachine
from tvmconv.specs.work import Work
from tvmconv.tuning.measuring import forks
from tvmconv.tuning.measuring.forks import Forks

if TYPE_CHECKING:
    from tvmconv.compiler.codegen import Packers

BATCH = 16  # points that a search proposes, to be built and measured together
_BUILT = ".kernel"
_SECONDS = 60.0  # more than any kernel takes to compile


class Builder:
    """Compiles points of a spec for ``machine`` with ``jobs`` processes."""

    def __init__(self, machine: AnyMachine, jobs: int) -> None:
        self.machine = machine
        self.count = 0  # of kernels, to number their symbols
        self.forks = Forks("tvmconv.tuning.measuring.builder", jobs)
        self.forks.start()

    def build(self, work: Work, choices: Sequence[Choice]) -> list[Kernel | str]:
        """A kernel for each choice, or what went wrong with it. No two have a symbol in common."""
        first, self.count = self.count, self.count + len(choices)
        with scratch.folder() as folder:
            facts = {"descriptor": str(work), "machine": dataclasses.asdict(self.machine)}
            paths = []  # files, since a meta_schedule trace may be longer than a packet
            for number, choice in enumerate(choices, first):
                symbol = f"tuned_{number:08}"
                paths.append(folder / symbol)
                message = {**facts, "choice": dataclasses.asdict(choice), "symbol": symbol}
                paths[-1].write_text(json.dumps(message), encoding="utf-8")
            answers = self.forks.ask_all([os.fspath(path) for path in paths], _SECONDS)
            return [_result(answer, path) for answer, path in zip(answers, paths, strict=True)]

    def stop(self) -> None:
        """End the processes."""
        self.forks.stop()


def _result(answer: str | ProcessError, path: Path) -> Kernel | str:
    if isinstance(answer, ProcessError):
        return f"compiling: {answer}"
    return answer or cache.read_kernel(path.with_suffix(_BUILT)) or "compiling: the result cannot be read"


def serve() -> None:
    """What the process of a builder does until its parent ends."""
    with without_collecting():
        from tvmconv.compiler.codegen import Packers

    forks.serve(partial(_build, Packers()))


def _build(packers: Packers, path: str) -> str:
    """Build what the file asks for, into one beside it; returns what went wrong."""
    from tvmconv.compiler.codegen import build_kernel
    from tvmconv.compiler.workers import machine_of
    from tvmconv.specs.pitched import parse_work

    try:
        message = json.loads(Path(path).read_text(encoding="utf-8"))
        kernel = build_kernel(
            parse_work(message["descriptor"]), machine_of(message["machine"]), Choice(**message["choice"]),
            message["symbol"], packers,
        )  # fmt: skip
        Path(path).with_suffix(_BUILT).write_bytes(cache.kernel_bytes(kernel))
    except Exception as error:  # TVM's and LLVM's too: it costs one trial
        return f"compiling: {' '.join(str(error).split())[:300] or repr(error)}"
    return ""
