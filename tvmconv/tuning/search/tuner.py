"""tune: trials distributed over several specs, where the total gains most."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvmconv.base.cpus import available
from tvmconv.base.errors import TuningError
from tvmconv.base.processes import without_collecting
from tvmconv.formats.choice import META
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.entries import Entry
from tvmconv.formats.logs.lookup import Folders
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import AnyMachine, Machine, resolve, warn_of_another_cpu
from tvmconv.specs.kinds import Spec
from tvmconv.tuning.measuring.builder import BATCH, Builder
from tvmconv.tuning.measuring.gpu import GpuRunner
from tvmconv.tuning.measuring.runner import COLD, LocalRunner, Runner

if TYPE_CHECKING:
    from tvmconv.tuning.search.task import Place, Task

SPACES = ("strategies", META)  # knobs of the strategies; meta_schedule's own
_STALE = 3  # batches in a row without a new point: the space is used up
_HOPE = 0.5  # of a task with no batches yet: the fraction of its time that a batch may save


@dataclass(frozen=True)
class Options:
    """``trials``: measured points per spec, on average, including those in the log; ``minutes``: of wall time
    for all. One of them must be given. ``space``: one of ``SPACES``; ``strategy``: no other of them;
    ``replay``: measure the best few again without searching; ``cold``: with cold weights, as in a network;
    ``others``: logs whose schedules are tried too, as `Logs` takes them."""

    trials: int | None = None
    minutes: float | None = None
    threads: int | None = None
    strategy: str | None = None
    space: str = SPACES[0]
    seed: int = 0
    replay: bool = False
    command: str = ""
    cold: bool = False
    others: Folders | None = None


@dataclass(frozen=True)
class Status:
    """What progress shows: the task at work, all tasks, trials of this run, trials it means to make, seconds
    since it began, and about how many are left (None before that can be said)."""

    task: Task
    tasks: list[Task]
    done: int
    total: int | None
    elapsed: float
    left: float | None


Watch = Callable[[Status], None]


def run(
    specs: Mapping[Spec, int],
    target: str | Machine,
    root: str | os.PathLike[str] | None,
    options: Options,
    watch: Watch = lambda _: None,
    runner: Runner | None = None,
    builder: Builder | None = None,
) -> dict[Spec, Entry]:
    """Tune ``specs`` (and how often each counts) for a target; the verdicts, which are also in the log.

    ``runner``, ``builder``: who measures and builds, if not this machine with as many processes as CPUs.

    KeyboardInterrupt ends it between two steps: what was measured is in the log. Raises TuningError.
    """
    check(options, specs)
    machine = resolve(target)
    if options.cold and isinstance(machine, GpuMachine):
        raise TuningError(f"cold: True, expected False for {machine.name}: only CPUs run networks")
    with workplace(machine, root, options, runner, builder) as place:
        from tvmconv.tuning.search.task import Task

        tasks = [
            Task(spec, place, weight, META if options.space == META else options.strategy, options.seed)
            for spec, weight in specs.items()
        ]
        note(place, options)
        return _Run(tasks, options, watch).run()


@contextmanager
def workplace(
    machine: AnyMachine, root: str | os.PathLike[str] | None, options: Options, runner: Runner | None = None,
    builder: Builder | None = None,
) -> Iterator[Place]:  # fmt: skip
    """Where tasks work, with the folder of logs made ready; builder and runner end with the context. Raises
    TuningError."""
    _check_tools()
    folder = folders.folder_of(folders.user_root() if root is None else root, machine)
    runner = runner or runner_here(machine, options.threads)
    try:
        if root is None and runner.emulated:
            raise TuningError(f"tuning_logs: None, expected a folder for records of {runner.cpu} alone")
        folders.prepare(folder, machine, runner.emulated)
        builder = builder or Builder(machine, available())
        with without_collecting():
            from tvmconv.tuning.search.task import Place  # imports TVM, as the builder does meanwhile

        yield Place(machine, folder, builder, runner, runner.threads, runner.cpu, runner.emulated,
                    COLD if options.cold else 0, options.others)  # fmt: skip
    finally:
        if builder is not None:
            builder.stop()
        runner.stop()


def runner_here(machine: AnyMachine, threads: int | None) -> Runner:
    """The runner for this machine, with as many threads as CPUs if None, or for its GPU. Raises
    TuningError."""
    if not isinstance(machine, GpuMachine):
        warn_of_another_cpu(machine)
        return LocalRunner(machine, threads or len(os.sched_getaffinity(0)))
    if threads is not None:
        raise TuningError(f"threads: {threads}, expected none for a GPU")
    return GpuRunner(machine)


def check(options: Options, specs: Mapping[Spec, int]) -> None:
    """Raise TuningError for what could not be run."""
    if not specs:
        raise TuningError("specs: none, expected at least one")
    if options.space not in SPACES:
        raise TuningError(f"space: {options.space!r}, expected one of {', '.join(SPACES)}")
    if options.space == META and options.strategy is not None:
        raise TuningError(f"strategy: {options.strategy!r}, expected none beside space {META!r}")
    for name, least in (("trials", 1), ("minutes", 0), ("threads", 1)):
        value = getattr(options, name)
        if value is not None and (value < least or not value > 0):
            raise TuningError(f"{name}: {value!r}, expected more than 0")
    if options.trials is None and options.minutes is None and not options.replay:
        raise TuningError("trials: None, expected a number of trials, or of minutes")


def _check_tools() -> None:
    from importlib.util import find_spec

    for module, extra in (("tvm", "compile"), ("xgboost", "tune")):
        if find_spec(module) is None:
            raise TuningError(f"tuning needs {module}: pip install 'tvmconv[{extra}]'")


class _Run:
    def __init__(self, tasks: list[Task], options: Options, watch: Watch) -> None:
        self.tasks, self.options, self.watch = tasks, options, watch
        self.started = time.monotonic()
        self.done = 0
        had = sum(task.trials for task in tasks)
        self.budget = None if options.trials is None else max(0, options.trials * len(tasks) - had)
        self.stale: dict[Task, int] = {}  # batches without a new point
        self.open: set[Task] = set()  # with points that are to be measured at length

    def run(self) -> dict[Spec, Entry]:
        if self.options.replay:
            for task in self.tasks:
                self.start(task)
                self.finish(task)
        else:
            self.search()
        for task in self.tasks:
            if task.entry is None and task.measured and task.default is None:
                self.start(task)  # it was ended between its last trial and the verdict
            self.finish(task)
        if self.tasks and all(task.entry is None for task in self.tasks):
            self.tasks[0].check()
        return {task.spec: task.entry for task in self.tasks if task.entry is not None}

    def start(self, task: Task, ahead: int = 0) -> None:
        trials = task.trials
        if task.start(ahead):
            self.open.add(task)
        else:
            self.stale[task] = _STALE
        self.done += task.trials - trials
        self.show(task)

    def finish(self, task: Task) -> None:
        """Measure a task's best few at length, if there are any that were not."""
        if task in self.open:
            self.open.remove(task)
            task.decide(task.finalists())
            self.show(task)

    def left(self) -> float:
        """Trials that may still be made; 0 when the time is up."""
        if self.options.minutes is not None:
            if time.monotonic() - self.started >= 60 * self.options.minutes:
                return 0
            if self.budget is None:
                return float("inf")
        return self.budget - self.done

    def search(self) -> None:
        share = (self.options.trials or 0) // 2 if len(self.tasks) > 1 else 0
        while (left := self.left()) > 0:
            able = [task for task in self.tasks if self.stale.get(task, 0) < _STALE]
            needy = [task for task in able if task.trials < share]
            if not able:
                return
            # Half of the trials are for each task alike, one after the other; then comes what promises most.
            task = needy[0] if needy else max(able, key=promise)
            most = int(min(BATCH, share - task.trials if needy else BATCH, left))
            if task.default is None:
                self.start(task, most - 1)
                continue
            last = most == left or (task in needy and task.trials + most >= share)
            made = task.batch(most, confirm=not last)
            self.stale[task] = 0 if made else self.stale.get(task, 0) + 1
            self.done += made
            self.open.add(task)
            self.show(task)
            if task in needy and (task.trials >= share or self.stale[task] >= _STALE):
                self.finish(task)

    def show(self, task: Task) -> None:
        elapsed, minutes = time.monotonic() - self.started, self.options.minutes
        ends = []
        if self.budget and self.done:
            ends.append(elapsed / self.done * max(0, self.budget - self.done))
        if minutes is not None:
            ends.append(max(0.0, 60 * minutes - elapsed))
        left = min(ends, default=None)
        self.watch(Status(task, self.tasks, self.done, self.budget, elapsed, left))


def promise(task: Task) -> float:
    """Seconds of the model that the next batch on a task may save: its share of the time, by what its last
    batches took off, or might still, of a time that fewer have been spent on."""
    if task.default is None:
        return float("inf")
    recent = max(task.gains[-2:], default=_HOPE)
    hope = _HOPE / (1 + len(task.gains)) ** 2
    return task.weight * task.best_seconds * max(recent / 2, hope)


def note(place: Place, options: Options) -> None:
    facts = {"date": folders.today(), "cpu": place.cpu, "threads": place.threads, "command": options.command}
    folders.note_run(place.folder, {**facts, "tvm": folders.tvm_version()})
