"""The search space of one spec on one machine, as meta_schedule expects it.

Its trace has one ``sample_categorical`` per knob, the strategy being a knob as well, and annotates the root
block with each decision: every point has a trace of the same structure, and its own module. The schedule
itself is made elsewhere, from the point read back from the trace.
"""

from __future__ import annotations

import math
import random
from typing import Any, ClassVar

import numpy as np
import tvm
from tvm.ir.utils import derived_object
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import Trace

from tvmconv.base.errors import TuningError
from tvmconv.compiler import codegen
from tvmconv.formats.choice import Choice
from tvmconv.formats.logs.traces import SPEC, STRATEGY, key_of
from tvmconv.schedules.machines import AnyMachine
from tvmconv.specs.kinds import Spec
from tvmconv.tuning.search.definition import module_of

_SWITCH = 0.15  # how often a mutation changes the strategy


class TuningSpace:
    """The knobs of all strategies for ``spec``, or only of ``strategy``. Raises TuningError for one that does
    not take the spec."""

    threads = 1  # for sampling and mutation, which are Python here
    stamp: ClassVar[dict[str, str]] = {}  # annotations that records need besides those of their traces

    def __init__(self, spec: Spec, machine: AnyMachine, strategy: str | None = None) -> None:
        self.spec, self.machine, self.module = spec, machine, module_of(spec)
        self.by_strategy = codegen.spaces(spec, machine)
        made = codegen.scheduled(spec, machine).schedule
        self.default = Choice(made["strategy"], made["point"])
        for knob, value in self.default.point.items():
            values = self.by_strategy[self.default.strategy][knob]
            if value not in values:
                values.append(value)
        if strategy is not None:
            if strategy not in self.by_strategy:
                names = ", ".join(self.by_strategy)
                raise TuningError(f"strategy: {strategy!r}, expected one of {names} for {spec}")
            self.by_strategy = {strategy: self.by_strategy[strategy]}
        self.knobs: list[tuple[str, list[Any]]] = [(STRATEGY, list(self.by_strategy))]
        for name, space in self.by_strategy.items():
            self.knobs += [(f"{name}.{knob}", values) for knob, values in space.items()]
        self._fits: dict[tuple, bool] = {}
        self._places: list[int] = []

    @property
    def size(self) -> int:
        """Points, whether or not they fit."""
        return sum(math.prod(map(len, space.values())) for space in self.by_strategy.values())

    def fits(self, choice: Choice) -> bool:
        """Whether a kernel can be scheduled this way."""
        key = freeze(choice)
        if key not in self._fits:
            try:
                codegen.check_choice(self.spec, self.machine, choice)
                self._fits[key] = True
            except ValueError:
                self._fits[key] = False
        return self._fits[key]

    def holds(self, choice: Choice) -> bool:
        """Whether a point, of a log for instance, is one of this space."""
        space = self.by_strategy.get(choice.strategy)
        return (
            space is not None
            and space.keys() == choice.point.keys()
            and all(choice.point[knob] in values for knob, values in space.items())
        )

    def sample(self, sch: Schedule, choice: Choice | None = None) -> None:
        """Record a decision for each knob: those of ``choice``, else random ones."""
        root = sch.get_sblock("root")
        sch.annotate(root, SPEC, str(self.spec))
        for name, values in self.knobs:
            decision = None
            if choice is not None:
                value = self._value(choice, name, values)
                decision = values.index(value)
            numbers = values if isinstance(values[0], int) else list(range(len(values)))
            drawn = sch.sample_categorical(numbers, [1.0 / len(values)] * len(values), decision)
            sch.annotate(root, key_of(name, values), drawn)

    def schedule(self, choice: Choice) -> Schedule:
        """The schedule, as meta_schedule has it, that stands for a point."""
        sch = Schedule(self.module)
        self.sample(sch, choice)
        return sch

    def _value(self, choice: Choice, name: str, values: list[Any]) -> Any:
        if name == STRATEGY:
            return choice.strategy
        strategy, _, knob = name.partition(".")
        return choice.point[knob] if strategy == choice.strategy else values[0]

    def choice_of(self, trace: Trace) -> Choice:
        """The point of a trace of this space."""
        decisions = trace.decisions
        drawn = [int(decisions[inst]) for inst in self.sampled(trace)]
        found = {name: values[i] for (name, values), i in zip(self.knobs, drawn, strict=True)}
        strategy = found[STRATEGY]
        point = {knob: found[f"{strategy}.{knob}"] for knob in self.by_strategy[strategy]}
        return Choice(strategy, point)

    def sampled(self, trace: Trace) -> list[Any]:
        """The instructions that decide the knobs, in order; they have the same positions in all traces."""
        insts = trace.insts
        if not self._places:
            self._places = [i for i, inst in enumerate(insts) if inst.kind.name == "SampleCategorical"]
        return [insts[i] for i in self._places]

    def features(self, choice: Choice) -> np.ndarray:
        """A row of numbers for the cost model: which strategy, and each knob's value and its logarithm."""
        row = [float(choice.strategy == name) for name in self.by_strategy]
        for name, values in self.knobs[1:]:
            strategy, _, knob = name.partition(".")
            if strategy != choice.strategy:
                row += [-1.0, -1.0]
                continue
            value = choice.point[knob]
            number = value if isinstance(value, int) else values.index(value)
            row += [float(number), math.log2(number + 1)]
        return np.array([row])

    def generator(self, seed: int) -> ms.space_generator.ScheduleFn:
        """The space as meta_schedule samples, mutates and checks it."""
        return ms.space_generator.ScheduleFn(
            self.sample, sch_rules=[], postprocs=[_Fits(self)],
            mutator_probs={_ChangeKnob(self, random.Random(seed)): 1.0},
        )  # fmt: skip

    def extractor(self) -> PointFeatures:
        """What the cost model is told about a candidate."""
        return PointFeatures(self)


def freeze(choice: Choice) -> tuple:
    """A choice as a key of a dict."""
    return (choice.strategy, *sorted(choice.point.items()))


@derived_object
class _Fits(ms.postproc.PyPostproc):
    """Rejects points that do not fit before they cost a trial."""

    def __init__(self, space: TuningSpace) -> None:
        super().__init__()
        self.space = space

    def _initialize_with_tune_context(self, context: ms.TuneContext) -> None:
        pass

    def apply(self, sch: Schedule) -> bool:
        return self.space.fits(self.space.choice_of(sch.trace))

    def clone(self) -> Any:
        return _Fits(self.space)


@derived_object
class _ChangeKnob(ms.mutator.PyMutator):
    """Changes one knob that the point's strategy reads, mostly to a neighbouring value; or the strategy."""

    def __init__(self, space: TuningSpace, rng: random.Random) -> None:
        super().__init__()
        self.space, self.rng = space, rng

    def _initialize_with_tune_context(self, context: ms.TuneContext) -> None:
        pass

    def apply(self, trace: Trace, _: Any = None) -> Trace | None:
        knobs, rng = self.space.knobs, self.rng
        strategy = self.space.choice_of(trace).strategy
        own = [i for i, (name, v) in enumerate(knobs) if name.startswith(f"{strategy}.") and len(v) > 1]
        if len(knobs[0][1]) > 1 and (not own or rng.random() < _SWITCH):
            own = [0]
        if not own:
            return None
        at = rng.choice(own)
        inst = self.space.sampled(trace)[at]
        now, count = int(trace.decisions[inst]), len(knobs[at][1])
        others = [i for i in range(count) if i != now]
        near = [i for i in (now - 1, now + 1) if 0 <= i < count]
        return trace.with_decision(inst, rng.choice(near if rng.random() < 0.5 else others), True)

    def clone(self) -> Any:
        return _ChangeKnob(self.space, self.rng)


@derived_object
class PointFeatures(ms.feature_extractor.PyFeatureExtractor):
    """Features of candidates' points, one row each."""

    def __init__(self, space: TuningSpace) -> None:
        super().__init__()
        self.space = space

    def extract_from(self, context: ms.TuneContext, candidates: list[Any]) -> list[Any]:
        choices = (self.space.choice_of(candidate.sch.trace) for candidate in candidates)
        return [tvm.runtime.tensor(self.space.features(choice)) for choice in choices]
