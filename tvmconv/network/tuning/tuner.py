"""tune: trials where a network loses most time, and what they find kept where it makes the whole faster."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tvmconv.base.errors import TargetError, TuningError
from tvmconv.compiler.compile import Progress
from tvmconv.formats.choice import Choice
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.logs.lookup import Logs
from tvmconv.network.compiling import Network, blocked, plan
from tvmconv.network.tuning.fusing import State, decide
from tvmconv.network.tuning.layers import best_of, check_options, choice_of, key_of, layers_of
from tvmconv.network.tuning.report import Change, NetworkStatus, Report, Watch
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import Machine, resolve
from tvmconv.specs.work import Work
from tvmconv.tuning.measuring.builder import BATCH, Builder
from tvmconv.tuning.measuring.runner import LocalRunner, NetworkRunner
from tvmconv.tuning.search.tuner import Options, note, workplace

if TYPE_CHECKING:
    from tvmconv.bench.roofline import Roofline
    from tvmconv.tuning.search.task import Place, Task

_FASTER = 0.99  # of its time in place: what a layer's kernel has to reach, to be tried in the whole
_BATCHES = 12  # between two looks at the whole
_HOPE = 0.5  # of a layer's distance to its roof: what a first batch may save
_STALE = 2  # batches in a row without a new point: the space is used up
_RESERVE = 0.15  # of the time: for the first look at the whole; later ones take as long as the one before
_MOST_CONSTANTS = 192 << 20  # bytes of weights, packed in other ways, that are held at a time


def tune(
    network: Network,
    target: str | Machine,
    root: str | os.PathLike[str] | None,
    options: Options,
    *,
    roof: Roofline | None = None,
    watch: Watch = lambda _: None,
    progress: Progress | None = None,
    runner: NetworkRunner | None = None,
    builder: Builder | None = None,
) -> Report:
    """Make a network faster on the machine it is tuned for; `compile` then uses what was accepted.

    ``root``, ``options``: as for layers (trials are an average over the network's different layers).
    ``roof``: of the machine; None: a layer's distance to it is all of its time. ``progress``: of compiling.

    KeyboardInterrupt ends it between two steps: what was measured and accepted is in the log, and another run
    goes on. Raises TuningError, and whatever `compile` does.
    """
    machine = resolve(target)
    if isinstance(machine, GpuMachine):
        raise TargetError(f"target: {machine.name}, expected a CPU: whole networks do not run on GPUs")
    check_options(options, network)
    runner = runner or LocalRunner(machine, options.threads or len(os.sched_getaffinity(0)))
    with workplace(machine, root, options, runner, builder) as place:
        if place.emulated:
            raise TuningError(f"target: {machine.name} on {place.cpu}, expected a real CPU for a network")
        logs = Logs(machine, root, cold=True)
        planned = plan(blocked(network, logs), machine, root, progress=progress)
        note(place, options)
        place = replace(place, cold=max(sum(map(len, planned.program.constants)), 1))
        first, started = State.of(blocked(network, logs), machine, logs, runner), time.monotonic()
        fused = [] if options.replay else decide(
            network, machine, logs, place, runner, lambda text: watch(NetworkStatus(text, 0, None, None))
        )  # fmt: skip
        logs = Logs(machine, root, cold=True)
        now = State.of(blocked(network, logs), machine, logs, runner) if fused else first
        return _Run(first, now, fused, place, root, options, roof, watch, started).run()


def saved_by(changes: Sequence[Change]) -> float:
    """Seconds of the network."""
    return sum(change.count * (change.before - change.after) for change in changes)


class _Run:
    """``first``: the network as it was; ``now``: with the blocks that were decided otherwise, ``fused``."""

    def __init__(
        self, first: State, now: State, fused: Sequence[Change], place: Place,
        root: str | os.PathLike[str] | None, options: Options, roof: Roofline | None, watch: Watch,
        started: float,
    ) -> None:  # fmt: skip
        from tvmconv.tuning.search.task import Task

        self.first, self.player, kernels, self.fused = first, now.player, now.kernels, fused
        self.place, self.options, self.roof, self.watch = place, options, roof, watch
        self.root, self.kernels = root, dict(kernels)
        self.started = started
        self.tasks = [Task(spec, place, seed=options.seed) for spec in layers_of(self.player.network)]
        # What runs of each layer: it itself, and on arrays whose rows lie apart.
        self.works = {task: [work for work in kernels if work.dense == task.spec] for task in self.tasks}
        self.had = sum(task.trials for task in self.tasks)
        self.budget = None
        if options.trials is not None:
            self.budget = max(0, options.trials * len(self.tasks) - self.had)
        self.times: dict[Work, list[float]] = {}  # in place, of each node
        self.batches: dict[Task, list[float]] = {task: [] for task in self.tasks}  # the fractions they saved
        self.stale: dict[Task, int] = {}
        self.built: dict[tuple[Work, str], Kernel] = {}
        self.look = _RESERVE * 60 * (options.minutes or 0)  # seconds that the whole needs
        self.factors: dict[Task, float] = {}  # of the time of those that were changed

    def run(self) -> Report:
        self.show("the network, step by step")
        profile = {work: column for work, (column,) in self.player.steps(self.kernels, {}).items()}
        self.times = dict(profile)
        self.player.whole = before = sum(map(sum, profile.values()))
        self.consider(self.tasks)  # what logs know
        while not self.options.replay and self.left() > 0:
            tried = self.search()
            if not tried:
                break
            self.consider(tried)
        self.show("the network before and after")
        whole = self.player.duel(self.first.kernels, self.kernels, than=self.first.player)
        changes = [self.change(task, self.of(task, profile)) for task in self.factors]
        predicted = before + saved_by(self.fused), before - saved_by(changes)
        return Report(predicted, whole, (*self.fused, *changes), self.had + self.done)

    def change(self, task: Task, times: Sequence[float]) -> Change:
        """What became of a layer that took these times at first."""
        each, strategy = sum(times) / len(times), self.choice(task).strategy
        return Change(str(task.spec), len(times), strategy, each, each * self.factors[task])

    def of(self, task: Task, times: Mapping[Work, Sequence[float]]) -> list[float]:
        """A layer's times in all its nodes."""
        return [seconds for work in self.works[task] for seconds in times[work]]

    def choice(self, task: Task) -> Choice:
        """What a layer runs by."""
        return choice_of(self.kernels[self.works[task][0]])

    @property
    def done(self) -> int:
        """Trials of this run."""
        return sum(task.trials for task in self.tasks) - self.had

    def left(self) -> float:
        """Trials that may still be made; 0 when the time is up but for a look at the whole."""
        if self.options.minutes is not None and self.seconds_left() <= self.look:
            return 0
        return float("inf") if self.budget is None else self.budget - self.done

    def seconds_left(self) -> float:
        """Of the time that was given."""
        return 60 * (self.options.minutes or 0) - (time.monotonic() - self.started)

    def show(self, text: str) -> None:
        left = None if self.options.minutes is None else max(0.0, self.seconds_left())
        self.watch(NetworkStatus(text, self.done, self.budget, left))

    # ---- trials ----

    def search(self) -> list[Task]:
        """A few batches of trials, where they promise most; the tasks that had some."""
        tried: dict[Task, None] = {}
        for _ in range(_BATCHES):
            able = [task for task in self.tasks if self.stale.get(task, 0) < _STALE]
            left = self.left()
            if left <= 0 or not able:
                break
            task = max(able, key=self.promise)
            self.show(str(task.spec))
            most = int(min(BATCH, left))
            if task.default is None and not task.start(most - 1):
                self.stale[task] = _STALE
                continue
            best = best_of(task)
            made = task.batch(most, confirm=False)
            self.batches[task].append(1 - best_of(task) / best)
            self.stale[task] = 0 if made else self.stale.get(task, 0) + 1
            tried[task] = None
        return list(tried)

    def promise(self, task: Task) -> float:
        """Seconds of the network that a batch on a task may save: of its distance to the roof, what its last
        batches took off or might still."""
        spec, times = task.spec, self.of(task, self.times)
        roof = 0.0 if self.roof is None else self.roof.seconds(spec.flops, spec.bytes, spec.dtype)[0]
        each = sum(times) / len(times)
        gap = max(each - roof, 0.02 * each) / each
        made = self.batches[task]
        recent = max(made[-2:], default=0.0)
        return sum(times) * max(recent / 2, gap * _HOPE / (1 + len(made)) ** 2)

    # ---- the whole ----

    def consider(self, tasks: Sequence[Task]) -> None:
        """Try the best few schedules of these layers in the network, and keep those that make it faster."""
        started = time.monotonic()
        waiting = list(tasks)
        while waiting:
            taken: dict[Task, list[Choice]] = {}
            held = 0
            while waiting and held < _MOST_CONSTANTS:
                task = waiting.pop()
                if found := self.alternatives(task):
                    taken[task] = found
                    held += sum(
                        self.built[work, key_of(choice)].packed_bytes * len(self.times[work])
                        for work in self.works[task] for choice in found
                    )  # fmt: skip
            if taken:
                self.try_in_place(taken)
        if tasks is not self.tasks:
            self.look = 1.2 * (time.monotonic() - started)

    def alternatives(self, task: Task) -> list[Choice]:
        """A layer's schedules that are worth trying, all of them built: its default first, then the best
        measured, and what logs know, without that by which it runs already."""
        now = self.choice(task)
        choices = [choice for choice in (task.space.default, *task.finalists()) if choice != now]
        for work in self.works[task]:
            new = [c for c in choices if (work, key_of(c)) not in self.built]
            if new:
                self.show(f"building the best of {work}")
                made = zip(new, self.place.builder.build(work, new), strict=True)
                self.built |= {(work, key_of(c)): kernel for c, kernel in made if isinstance(kernel, Kernel)}
            choices = [c for c in choices if (work, key_of(c)) in self.built]
        return choices

    def play(self, tried: Mapping[Task, Sequence[Choice]]) -> dict[Task, list[list[float]]]:
        """Times of these layers in all their nodes, as they run and by each of these schedules."""
        others = {
            work: [self.built[work, key_of(choice)] for choice in choices]
            for task, choices in tried.items() for work in self.works[task]
        }  # fmt: skip
        found = self.player.steps(self.kernels, others)
        self.times = {work: columns[0] for work, columns in found.items()}
        return {
            task: [self.of(task, {w: found[w][number] for w in self.works[task]})
                   for number in range(1 + len(choices))]
            for task, choices in tried.items()
        }  # fmt: skip

    def try_in_place(self, taken: Mapping[Task, Sequence[Choice]]) -> None:
        """Time schedules in place, the faster ones twice, and try these in the whole."""
        self.show(f"{len(taken)} layers by other schedules, in place")
        found = self.play(taken)
        defaults: dict[Task, float] = {}  # over what runs now
        winners: dict[Task, Choice] = {}
        for task, choices in taken.items():
            totals = [sum(column) for column in found[task]]
            own = [self.choice(task), *choices]
            of_default = (t for t, c in zip(totals, own, strict=True) if c == task.space.default)
            defaults[task] = next(of_default, totals[0]) / totals[0]
            best = min(range(len(own)), key=totals.__getitem__)
            if best and totals[best] < _FASTER * totals[0]:
                winners[task] = own[best]
        if not winners:
            return
        found = self.play({task: [choice] for task, choice in winners.items()})
        gains = {}
        for task in winners:
            before, after = map(sum, found[task])
            if after < _FASTER * before:
                gains[task] = before - after
        order = sorted(gains, key=gains.__getitem__, reverse=True)
        while order:  # those that gain most alone, if all together don't make the whole faster
            self.show(f"the network with {len(order)} of its layers changed")
            changed = {work: self.built[work, key_of(winners[task])]
                       for task in order for work in self.works[task]}  # fmt: skip
            if self.player.duel(self.kernels, {**self.kernels, **changed}).is_faster:
                self.kernels |= changed
                for task in order:
                    self.accept(task, winners[task], found[task], defaults[task])
                self.settle()
                return
            order = order[: len(order) // 2]

    def accept(self, task: Task, choice: Choice, columns: Sequence[list[float]], default: float) -> None:
        """Put what a layer runs by from now on into the index. ``columns``: times in its nodes, before and
        so. ``default``: the time by the default schedule over that before."""
        (before, after), count = map(sum, columns), len(columns[0])
        by_default = after if choice == task.space.default else max(default * before, 1.001 * after)
        task._enter(choice, [after / count], by_default / count)
        self.factors[task] = self.factors.get(task, 1.0) * after / before
        self.times |= {w: [t * after / before for t in self.times[w]] for w in self.works[task]}


    def settle(self) -> None:
        """Put into the index what else runs, where a compile would now take the new record of a twin."""
        logs = Logs(self.place.machine, self.root, cold=True)
        for task in self.tasks:
            tuned, now, times = logs.find(task.spec), self.choice(task), self.of(task, self.times)
            if (task.space.default if tuned is None else tuned.choice) != now:
                each = sum(times) / len(times)
                task._enter(now, [each], each)
