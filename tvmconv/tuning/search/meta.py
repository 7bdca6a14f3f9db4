"""meta_schedule's own space for one spec, a rival of the strategies' knobs: any convolution in floats has it,
and it knows nothing of what they know."""

from __future__ import annotations

import os

import tvm
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import Trace

from tvmconv.base.errors import TuningError
from tvmconv.compiler.codegen import traced
from tvmconv.formats.choice import META, TRACE, Choice
from tvmconv.formats.logs.traces import SPEC, STRATEGY, key_of, text_of
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import AnyMachine
from tvmconv.specs.kinds import Spec


class MetaSpace:
    """The traces of ``post-order-apply`` by the rules for LLVM, or for CUDA, without tensor intrinsics.
    ``default``: the strategies' point, to be beaten. Raises TuningError for a spec that it does not take."""

    threads = len(os.sched_getaffinity(0))  # that sample and mutate: it is all C++

    def __init__(self, spec: Spec, machine: AnyMachine, default: Choice) -> None:
        wrong = traced.refusal(spec, machine)
        if wrong is not None:
            raise TuningError(f"space {META!r}: {wrong}")
        self.spec, self.machine, self.default = spec, machine, default
        self.module = tvm.IRModule({"main": traced.function(spec).with_attr("global_symbol", "main")})
        self.stamp = {SPEC: str(spec), key_of(STRATEGY, [0]): META}

    def holds(self, choice: Choice) -> bool:
        """Whether a point, of a log for instance, is one of this space."""
        if choice.strategy != META:
            return False
        try:
            traced.check(self.spec, self.machine, choice)
        except ValueError:
            return False
        return True

    def schedule(self, choice: Choice) -> Schedule:
        """The schedule that a point stands for."""
        sch = Schedule(self.module)
        traced.replay(sch, choice.point[TRACE])
        return sch

    def choice_of(self, trace: Trace) -> Choice:
        """The point of a trace of this space."""
        return Choice(META, {TRACE: text_of(traced.plain(trace.as_json()))})

    def generator(self, seed: int) -> ms.space_generator.PostOrderApply:
        """The space as meta_schedule samples, mutates and checks it."""
        rules = "cuda" if isinstance(self.machine, GpuMachine) else "llvm"
        return ms.space_generator.PostOrderApply(sch_rules=rules, postprocs=rules, mutator_probs=rules)

    def extractor(self) -> ms.feature_extractor.FeatureExtractor:
        """What the cost model is told of a candidate."""
        return ms.feature_extractor.PerStoreFeature()
