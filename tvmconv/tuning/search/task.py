"""One spec being tuned: its search, what was measured, and the best schedule so far."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tvmconv.base.errors import TuningError
from tvmconv.formats.choice import META, Choice
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.entries import Entry, key_of, read_index, write_entry
from tvmconv.formats.logs.lookup import Folders, Logs
from tvmconv.schedules.machines import AnyMachine
from tvmconv.specs.kinds import Spec
from tvmconv.tuning.measuring.builder import Builder
from tvmconv.tuning.measuring.runner import BASELINE, DUEL, SEARCH, Effort, Measured, Runner
from tvmconv.tuning.search.database import FAILED, Database
from tvmconv.tuning.search.meta import MetaSpace, refusal
from tvmconv.tuning.search.search import Candidate, Search, import_early
from tvmconv.tuning.search.space import TuningSpace, freeze

MARGIN = 0.98  # of the default's time: anything not faster than this is a tie, and the default stays
_FINALISTS = 4
_HOPELESS = 1.25  # times the best time so far: not measured more closely


@dataclass(frozen=True)
class Place:
    """Where a tuner works: the machine, the folder of logs, who builds and who measures (None: done
    elsewhere); ``emulated``: whether measurements are on an emulated CPU; ``cold``: see `Effort`; ``others``:
    logs whose schedules are tried too."""

    machine: AnyMachine
    folder: Path
    builder: Builder
    runner: Runner | None
    threads: int
    cpu: str
    emulated: bool = False
    cold: int = 0
    others: Folders | None = None


class Task:
    """A spec, how often a model has it, and what is known about it. ``strategy``: search no other; "meta" for
    meta_schedule's own space. TuningError if it does not take the spec."""

    def __init__(self, spec: Spec, place: Place, weight: int = 1, strategy: str | None = None, seed: int = 0):
        self.spec, self.place, self.weight = spec, place, weight
        self.whole = TuningSpace(spec, place.machine)
        self._homes: dict[bool, tuple[TuningSpace | MetaSpace, Database]] = {}
        if strategy == META:
            self.space, self.database = self._home(META)
        else:
            self.space = self.whole if strategy is None else TuningSpace(spec, place.machine, strategy)
            self.database = self._home("")[1]
        self.search = Search(self.space, self.database, seed)
        self.trials = 0  # in the log, of this run or an earlier one
        self.failures: list[str] = []
        self.default: Kernel | None = None
        self.default_seconds = math.inf
        self.entry: Entry | None = None  # as the folder's index has it
        self.gains: list[float] = []  # for each batch, the fraction of the best time that it saved
        self.measured: dict[tuple, tuple[Choice, float]] = {}  # what gave a time, and which
        self._built: dict[tuple, Kernel | str] = {}  # of the last batch and of the best points
        self._proposed: list[Candidate] = []  # the first batch, which is built along with the default
        self._recall()

    @property
    def best_seconds(self) -> float:
        """Time of the best schedule so far; infinite before there is one."""
        ratio = self.entry.seconds / self.entry.default_seconds if self.entry else 1.0
        return min(ratio, 1.0) * self.default_seconds

    def _home(self, strategy: str) -> tuple[TuningSpace | MetaSpace, Database]:
        """The whole space that has a strategy, and where records of its points go."""
        own = strategy == META
        if own not in self._homes:
            space = MetaSpace(self.spec, self.place.machine, self.whole.default) if own else self.whole
            place = self.place
            stamps = place.emulated, place.cold > 0
            self._homes[own] = space, Database(place.folder, space, place.threads, *stamps)
        return self._homes[own]

    def _holds(self, choice: Choice) -> bool:
        """Whether a point can be measured, in the searched space or not."""
        if choice.strategy == META and refusal(self.spec) is not None:
            return False
        return self._home(choice.strategy)[0].holds(choice)

    def _recall(self) -> None:
        for known in self.database.known():
            if (known.choice.strategy == META) != isinstance(self.space, MetaSpace):
                continue  # trials of the other space
            self.trials += 1
            if self.space.holds(known.choice):
                seconds = FAILED if known.seconds is None else known.seconds
                self.search.recall(known.choice, seconds)
                if seconds < FAILED:
                    self.measured[freeze(known.choice)] = (known.choice, seconds)
        entry = read_index(self.place.folder).get(key_of(str(self.spec), self.place.cold > 0))
        self.entry = entry if entry and entry.emulated == self.place.emulated else None

    def start(self, ahead: int = 0) -> bool:
        """Build the default schedule, the baseline of the others, and time it; returns whether that
        succeeded. The first batch, of up to ``ahead`` points, is built and linked with it."""
        default = self.space.default
        is_new = freeze(default) not in self.search.seen and self.space.holds(default)
        if is_new:
            self.search.seen[freeze(default)] = FAILED  # it need not be proposed
        self._proposed = self.search.propose(ahead) if ahead > 0 else []
        import_early()
        built, *_ = self._build([default, *(c.choice for c in self._proposed)])
        if isinstance(built, str):
            self.failures.append(built)
            return False
        effort = replace(SEARCH, cold=self.place.cold)
        (measured,) = self.place.runner.measure({BASELINE: built, **self._at_hand()}, [BASELINE], effort)
        if measured.error:
            self.failures.append(measured.error)
            return False
        self.default, self.default_seconds = built, min(measured.seconds)
        if is_new:
            self._note(self._candidate(default), measured)
            self.search.recall(default, self.default_seconds)
        return True

    def _candidate(self, choice: Choice) -> Candidate:
        return Candidate(choice, self._home(choice.strategy)[0].schedule(choice))

    def batch(self, most: int, confirm: bool = True) -> int:
        """Measure up to ``most`` next points; returns how many there were. ``confirm``: measure the best of
        them at length, if it beats those before; otherwise ``decide`` must follow."""
        taken, self._proposed = self._proposed or self.search.propose(most), []
        before = self.best_seconds
        best = min([before, *(s for _, s in self.measured.values())]) / self.default_seconds
        effort = replace(SEARCH, hopeless=_HOPELESS * best, cold=self.place.cold)
        seconds = []
        for candidate, measured in zip(taken, self._measure([c.choice for c in taken], effort), strict=True):
            self._note(candidate, measured)
            seconds.append(FAILED if measured.error else measured.ratio * self.default_seconds)
        self.search.tell(taken, seconds)
        good = [(s, c.choice) for s, c in zip(seconds, taken, strict=True) if s < MARGIN * before]
        if good and confirm:
            self.decide([min(good, key=lambda pair: pair[0])[1]], again=False)
        best = {freeze(choice) for choice in self._best()}
        self._built = {key: kernel for key, kernel in self._built.items() if key in best}
        after = self.best_seconds if confirm else min([before, *seconds])
        self.gains.append(0.0 if math.isinf(before) else 1 - after / before)
        return len(taken)

    def _note(self, candidate: Candidate, measured: Measured) -> None:
        self._home(candidate.choice.strategy)[1].commit(candidate.schedule, measured.seconds, measured.error)
        self.trials += 1
        if measured.error:
            self.failures.append(measured.error)
        else:
            seconds = measured.ratio * self.default_seconds
            self.measured[freeze(candidate.choice)] = (candidate.choice, seconds)

    def _measure(self, choices: list[Choice], effort: Effort) -> Iterator[Measured]:
        """Results in the order of ``choices``, each as it arrives, timed in turns with the default."""
        built = self._build(choices)
        names = list(dict.fromkeys(_name(kernel) for kernel in built if isinstance(kernel, Kernel)))
        runner = self.place.runner
        assert runner is not None and self.default is not None  # rounds for elsewhere measure nothing here
        # All available ones: a batch's library can then be reused to compare its best with earlier ones.
        kernels = {BASELINE: self.default, **self._at_hand()}
        results = iter(runner.measure(kernels, names, effort) if names else ())
        found: dict[str, Measured] = {}
        for kernel in built:
            if isinstance(kernel, str):
                yield Measured(error=kernel)
                continue
            if _name(kernel) not in found:
                found[_name(kernel)] = next(results)
            yield found[_name(kernel)]

    def _build(self, choices: list[Choice]) -> list[Kernel | str]:
        """A kernel for each, or what went wrong with it. Compiling is most of a trial's cost: kernels are not
        rebuilt for a comparison."""
        new = [choice for choice in choices if freeze(choice) not in self._built]
        made = self.place.builder.build(self.spec, new) if new else []
        self._built |= {freeze(choice): kernel for choice, kernel in zip(new, made, strict=True)}
        return [self._built[freeze(choice)] for choice in choices]

    def _at_hand(self) -> dict[str, Kernel]:
        return {_name(kernel): kernel for kernel in self._built.values() if isinstance(kernel, Kernel)}

    def _best(self) -> list[Choice]:
        """The best few points that were measured."""
        order = sorted(self.measured.values(), key=lambda pair: pair[1])
        return [choice for choice, _ in order[:_FINALISTS]]

    def finalists(self) -> list[Choice]:
        """The best few points that were measured, and those that a log holds for the spec or a twin: a record
        should not be slower than what compile would use without it."""
        choices = self._best()
        machine, cold = self.place.machine, self.place.cold > 0
        logs = [Logs(machine, self.place.others, cold=cold)]
        if not self.place.emulated:  # whose folder no other run reads
            logs.insert(0, Logs(machine, self.place.folder, cold=cold))
        for one in logs:
            for _, _, entry in one.known(self.spec):
                choices += [entry.choice] * (entry.choice not in choices)
        return [c for c in choices if c != self.space.default and self._holds(c)]

    def decide(self, choices: list[Choice], again: bool = True) -> None:
        """Measure points at length against the default, and put the winner into the index. The existing one
        is measured ``again``, or its recorded time is trusted."""
        incumbent = self.entry.choice if self.entry and self._holds(self.entry.choice) else None
        if incumbent is not None and incumbent not in (*choices, self.space.default) and again:
            choices = [*choices, incumbent]
        results = list(self._measure(choices, replace(DUEL, cold=self.place.cold)))
        ratios = [math.inf if m.error else m.ratio for m in results]
        for choice, measured in zip(choices, results, strict=True):
            if measured.error:
                self.measured.pop(freeze(choice), None)
                self.failures.append(measured.error)
        best = min(range(len(choices)), key=ratios.__getitem__, default=None)
        if incumbent is not None and not again and min(ratios) >= self.best_seconds / self.default_seconds:
            return
        default = [m.baseline for m in results if not m.error]
        base = min(default[0]) if default else self.default_seconds
        if best is not None and ratios[best] < MARGIN:
            self._enter(choices[best], results[best].seconds, min(results[best].baseline))
        else:
            self._enter(self.space.default, default[0] if default else [self.default_seconds], base)

    def _enter(self, choice: Choice, seconds: list[float], default_seconds: float) -> None:
        name = self._home(choice.strategy)[1].commit(self._candidate(choice).schedule, seconds)
        self.entry = Entry(
            choice.strategy, choice.point, min(seconds), default_seconds, self.trials,
            self.place.threads, self.place.cpu, folders.tvm_version(), folders.today(), name,
            self.place.emulated, self.place.cold > 0,
        )  # fmt: skip
        write_entry(self.place.folder, str(self.spec), self.entry)

    def check(self) -> None:
        """Raise TuningError if nothing could be measured."""
        if self.default is None:
            first = self.failures[0] if self.failures else "no candidate"
            raise TuningError(f"{self.spec}: nothing could be measured: {first}")


def _name(kernel: Kernel) -> str:
    """Of its function in a library, where it keeps the name."""
    return f"c_{kernel.symbol}"
