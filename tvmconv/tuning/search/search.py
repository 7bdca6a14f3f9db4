"""The search on one spec: meta_schedule's evolutionary search with its XGBoost cost model."""

from __future__ import annotations

import contextlib
import importlib
import logging
import signal
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.cost_model.xgb_model import XGBConfig

from tvmconv.formats.choice import Choice
from tvmconv.tuning.measuring.builder import BATCH
from tvmconv.tuning.search.database import FAILED, Database
from tvmconv.tuning.search.meta import MetaSpace
from tvmconv.tuning.search.space import TuningSpace, freeze

_WARMUP = 12  # measured points before the model is trusted
_PATIENCE = 15  # training rounds without improvement: there are few data, and few features
_POPULATION = 48
_ASKED = 3 * BATCH  # traces: several of them may be one point, or one of an earlier batch
_MOST_TRIALS = 1 << 20


@dataclass(frozen=True)
class Candidate:
    """A point to measure, and the schedule, as meta_schedule has it, that stands for it."""

    choice: Choice
    schedule: Schedule


@dataclass
class Search:
    """Proposes points of ``space``, and learns from their measurements. What the log knows is not measured
    again."""

    space: TuningSpace | MetaSpace
    database: Database
    seed: int
    seen: dict[tuple, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with _interrupts_wait():
            self._begin()

    def _begin(self) -> None:
        _quiet()
        self.model = ms.cost_model.XGBModel(
            extractor=self.space.extractor(), config=XGBConfig(nthread=1, seed=self.seed), verbose_eval=0,
            num_warmup_samples=_WARMUP, early_stopping_rounds=_PATIENCE,
        )  # fmt: skip
        strategy = ms.search_strategy.EvolutionarySearch(
            population_size=_POPULATION, init_measured_ratio=0.4, init_min_unmeasured=_POPULATION // 2,
            max_fail_count=30, genetic_num_iters=3, genetic_mutate_prob=0.85, eps_greedy=0.15,
        )  # fmt: skip
        with _without_tensor_intrinsics():
            self.context = ms.TuneContext(
                mod=self.database.module, target=self.database.target,
                space_generator=self.space.generator(self.seed), search_strategy=strategy,
                task_name=str(self.space.spec), num_threads=self.space.threads, rand_state=self.seed,
            )  # fmt: skip
        self.context.pre_tuning(
            max_trials=_MOST_TRIALS, num_trials_per_iter=_ASKED, cost_model=self.model,
            design_spaces=self.context.generate_design_space(), database=self.database.memory,
        )  # fmt: skip
        self._pending: list[Any] = []
        self._spare: list[Candidate] = []  # proposed, but more than were wanted: meta_schedule won't again

    def recall(self, choice: Choice, seconds: float) -> None:
        """Learn from an earlier record."""
        self.seen[freeze(choice)] = seconds
        self._learn([self.space.schedule(choice)], [seconds])

    def _learn(self, schedules: Sequence[Schedule], seconds: Sequence[float]) -> None:
        args = ms.arg_info.ArgInfo.from_entry_func(self.database.module, remove_preproc=True)
        for sch, value in zip(schedules, seconds, strict=True):
            if value < FAILED:
                facts = (sch.trace, self.database.workload, [value], self.database.target, args)
                self.database.memory.commit_tuning_record(ms.database.TuningRecord(*facts))
        candidates = [ms.MeasureCandidate(sch, []) for sch in schedules]
        results = [ms.runner.RunnerResult([s], None) for s in seconds]
        with _interrupts_wait():
            self.model.update(self.context, candidates, results)

    def propose(self, most: int) -> list[Candidate]:
        """The next points to measure, up to ``most``; none when the search finds no more. ``tell`` must
        follow."""
        with _interrupts_wait():
            found = self.context.generate_measure_candidates() or []
        self._pending = list(found)
        proposed = [Candidate(self.space.choice_of(c.sch.trace), c.sch) for c in self._pending]
        points: dict[tuple, Candidate] = {}
        for candidate in proposed + self._spare:
            points.setdefault(freeze(candidate.choice), candidate)
        fresh = [candidate for point, candidate in points.items() if point not in self.seen]
        candidates, self._spare = fresh[:most], fresh[most:]
        self.seen |= {freeze(c.choice): FAILED for c in candidates}
        return candidates

    def tell(self, candidates: Sequence[Candidate], seconds: Sequence[float]) -> None:
        """The times of the proposed points: seconds per call, ``FAILED`` if there was no result."""
        for candidate, value in zip(candidates, seconds, strict=True):
            self.seen[freeze(candidate.choice)] = value
        if self._pending:
            points = (freeze(self.space.choice_of(c.sch.trace)) for c in self._pending)
            results = [ms.runner.RunnerResult([self.seen.get(point, FAILED)], None) for point in points]
            with _interrupts_wait():
                self.context.notify_runner_results(self._pending, results)
            self._pending = []
        if candidates:
            self._learn([c.schedule for c in candidates], seconds)


def import_early() -> None:
    """Import what the cost model's first training needs, while this process waits for something else."""
    threading.Thread(target=importlib.import_module, args=("xgboost",), daemon=True).start()


@contextlib.contextmanager
def _without_tensor_intrinsics() -> Iterator[None]:
    """TuneContext imports every GPU's intrinsics, which takes 25 s and which nothing here uses."""
    name = "tvm.s_tir.tensor_intrin"
    import tvm.s_tir as parent

    if name in sys.modules:
        yield
        return
    sys.modules[name] = parent.tensor_intrin = types.ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name], parent.tensor_intrin


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C waits until TVM has returned: from a function that TVM calls, it would surface as a RuntimeError
    without a message."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    if came:
        signal.raise_signal(signal.SIGINT)


def _quiet() -> None:
    for name in ("tvm.s_tir.meta_schedule", "tvm.meta_schedule"):
        logging.getLogger(name).setLevel(logging.ERROR)
