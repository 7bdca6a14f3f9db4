"""Measuring candidates: a library of a batch is linked, and each function in it is checked and timed.

``LocalRunner`` is for this machine; anything else with its methods (over a network, for example) may replace
it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tvmconv.base.errors import ArtifactError, TuningError
from tvmconv.base.processes import Process, ProcessError
from tvmconv.compiler.artifact.library import Library
from tvmconv.formats.cpu_features import host_arch, host_features
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.logs.emulation import cpu_model, emulator
from tvmconv.formats.program import Program
from tvmconv.schedules.machines import AnyMachine, Machine

BASELINE = "baseline"
_PATIENCE = 120.0  # seconds beyond those that a network is to run, for loading it and for what hangs


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds of ``burst`` seconds each, about ``seconds`` in all; data to check on; the
    multiple of the baseline's time beyond which it stops after a few rounds; and ``cold``: how many bytes of
    weights are read before the same ones again, as in a network of so many; 0: these alone."""

    rounds: int = 9
    burst: float = 0.0005
    seconds: float = 0.5
    fills: tuple[str, ...] = ("normal",)
    hopeless: float = 1.5
    cold: int = 0


SEARCH = Effort()
DUEL = Effort(32, 0.001, 3.0, ("normal", "integer"))  # between the best few and the default
COLD = 64 << 20  # bytes of weights of a network that one layer is tuned for; it may not be known


@dataclass(frozen=True)
class Measured:
    """Seconds per call (of one thread: those that it had a CPU), a mean for each round, of a function and of
    the baseline in turns with it; or what went wrong. ``ratio``: the function's time over the baseline's."""

    seconds: list[float] = field(default_factory=list)
    baseline: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def ratio(self) -> float:
        return min(self.seconds) / min(self.baseline)  # disturbances only ever make a time longer


@dataclass(frozen=True)
class Played:
    """Seconds of each call by function, and how far the results of each are from those of the first, where
    that was asked for: see ``sequence.play``."""

    seconds: Mapping[str, Sequence[float]]
    apart: Mapping[str, float]


Turns = Sequence[Sequence[str]]
"""The steps of a network in order, each by the names of its functions, of which a round calls one."""


class Runner(Protocol):
    """What a tuner needs to know about the machine it tunes for: its name, how many threads run kernels, and
    whether its CPU is emulated."""

    cpu: str
    threads: int
    emulated: bool

    def measure(
        self, kernels: Mapping[str, Kernel], names: Sequence[str], effort: Effort
    ) -> Iterator[Measured]:
        """The results of ``names``, functions of ``kernels``, as they come; ``BASELINE`` is one of those."""

    def stop(self) -> None:
        """Release what the runner holds."""


class NetworkRunner(Runner, Protocol):
    """One that runs the steps of networks as well."""

    def play(
        self, functions: Mapping[str, Program], turns: Turns, rounds: int, seconds: float, *,
        compare: bool = False,
    ) -> Played:  # fmt: skip
        """See ``sequence.play``. Raises TuningError for what cannot be run."""


class LocalRunner:
    """Runs on this machine with ``threads`` threads, on as many CPUs."""

    def __init__(self, machine: Machine, threads: int, timeout: float = 20.0) -> None:
        check_here(machine)
        available = sorted(os.sched_getaffinity(0))
        if threads > len(available):
            raise TuningError(f"threads: {threads}, expected at most {len(available)}, the CPUs there are")
        self.machine, self.timeout = machine, timeout
        self.cpu, self.threads, self.emulated = cpu_model(), threads, emulator() is not None
        self.cpus = available[:threads]
        self.process = Process("tvmconv.tuning.measuring.measure", {"TVMCONV_NUM_THREADS": str(threads)})
        self.linked: Linked | None = None  # the last library
        self._start()

    def _start(self) -> None:
        if self.process.process is None:
            os.sched_setaffinity(self.process.start().pid, self.cpus)

    def measure(
        self, kernels: Mapping[str, Kernel], names: Sequence[str], effort: Effort
    ) -> Iterator[Measured]:
        """See ``Runner``. A library that has all ``kernels`` is not linked again."""
        if self.linked is None or not self.linked.has(kernels):
            self._unlink()
            try:
                self.linked = Linked(kernels, self.machine)
            except ArtifactError as error:
                yield from (Measured(error=f"linking: {error}") for _ in names)
                return
        for name in names:
            yield self._ask(self.linked.path, name, effort)

    def play(
        self, functions: Mapping[str, Program], turns: Turns, rounds: int, seconds: float, *,
        compare: bool = False,
    ) -> Played:  # fmt: skip
        """See ``NetworkRunner``."""
        self._start()
        linked = Linked(functions, self.machine)
        with linked.folder:
            message = {"library": os.fspath(linked.path), **play_message(turns, rounds, seconds, compare)}
            try:
                return played(self.process.ask(message, message["patience"]))
            except ProcessError as error:
                raise TuningError(f"running the network: {error}") from None

    def _ask(self, path: Path, name: str, effort: Effort) -> Measured:
        message = {
            "library": os.fspath(path), "function": name, "baseline": BASELINE, "timeout": self.timeout,
            "threads": self.threads, **asdict(effort),
        }  # fmt: skip
        self._start()
        try:
            return Measured(**self.process.ask(message, 4 * self.timeout))
        except ProcessError as error:
            return Measured(error=f"running: {error}")

    def stop(self) -> None:
        """End the process."""
        self.process.stop()
        self._unlink()

    def _unlink(self) -> None:
        linked, self.linked = self.linked, None
        if linked is not None:
            linked.folder.cleanup()


class Linked:
    """A library of candidates in its own folder. Raises ArtifactError."""

    def __init__(self, kernels: Mapping[str, Kernel | Program], machine: AnyMachine) -> None:
        self.kernels = dict(kernels)
        self.folder = tempfile.TemporaryDirectory(prefix="tvmconv-")
        self.path = Path(self.folder.name, "candidates.so")
        try:
            library = Library(self.kernels, machine, prefix="candidates")
            library.export(self.path, header=False, level="-Og")  # half the time
        except BaseException:
            self.folder.cleanup()
            raise

    def has(self, kernels: Mapping[str, Kernel]) -> bool:
        """Whether it has these, by their names."""
        return all(self.kernels.get(name) is kernel for name, kernel in kernels.items())


def play_message(turns: Turns, rounds: int, seconds: float, compare: bool) -> dict[str, Any]:
    """What ``sequence.play`` is asked, but for the library; "patience": seconds to wait for the answer."""
    asked = {"turns": [list(turn) for turn in turns], "rounds": rounds, "seconds": seconds}
    return {**asked, "compare": compare, "patience": seconds + _PATIENCE}


def played(answer: dict[str, Any]) -> Played:
    """The answer of ``sequence.play``. Raises TuningError where it is an error."""
    if "error" in answer:
        raise TuningError(f"running the network: {answer['error']}")
    return Played(answer["seconds"], answer["apart"])


def check_here(machine: Machine) -> None:
    """Raise TuningError if this machine cannot run code for ``machine``."""
    here, have = host_arch(), host_features()
    lacking = [name for name in machine.requires if name not in have] if have else []
    if machine.arch != here or lacking:
        why = f"which lacks {', '.join(lacking)}" if machine.arch == here else here
        raise TuningError(
            f"target: {machine.name}, expected one for this machine, {why}; on boards: --tracker and --key"
        )


def on_library(
    kernels: Mapping[str, Kernel], machine: AnyMachine, names: Sequence[str],
    measure: Callable[[Path], Iterator[Measured]],
) -> Iterator[Measured]:  # fmt: skip
    """``measure``'s results for the library of ``kernels``, one per name; or why it cannot be linked."""
    try:
        linked = Linked(kernels, machine)
    except ArtifactError as error:
        yield from (Measured(error=f"linking: {error}") for _ in names)
        return
    with linked.folder:
        yield from measure(linked.path)
