"""meta_schedule's own space for one spec, an alternative to the strategies' knobs: it covers any float
convolution, and uses none of their knowledge."""

from __future__ import annotations

import os

from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import Trace

from tvmconv.base.errors import TuningError
from tvmconv.compiler import codegen
from tvmconv.formats.choice import META, TRACE, Choice
from tvmconv.formats.logs.traces import SPEC, STRATEGY, key_of, text_of
from tvmconv.schedules import traced
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import AnyMachine
from tvmconv.specs.kinds import Spec
from tvmconv.tuning.search.definition import module_of


def refusal(spec: Spec) -> str | None:
    """Why meta_schedule's space does not take ``spec``; None if it does."""
    if spec.family != "conv" or spec.transposed:
        return f"{spec}, expected a convolution that is not transposed"
    if spec.is_integer:
        return f"{spec}, expected floats (the sums of its 8-bit products may saturate)"
    if spec.algorithm not in (None, "direct"):
        return f"{spec}, expected no algorithm but direct"
    return None if spec.batch else f"{spec}, expected a batch"


class MetaSpace:
    """The traces of ``post-order-apply`` by the rules for LLVM, or for CUDA, without tensor intrinsics.
    ``default``: the strategies' point to beat. Raises TuningError for a spec that it does not take."""

    threads = len(os.sched_getaffinity(0))  # that sample and mutate: all of it is C++

    def __init__(self, spec: Spec, machine: AnyMachine, default: Choice) -> None:
        wrong = refusal(spec)
        if wrong is not None:
            raise TuningError(f"space {META!r}: {wrong}")
        self.spec, self.machine, self.default = spec, machine, default
        self.module = module_of(spec, meta=True)
        self.stamp = {SPEC: str(spec), key_of(STRATEGY, [0]): META}

    def holds(self, choice: Choice) -> bool:
        """Whether a point, of a log for instance, is one of this space."""
        if choice.strategy != META:
            return False
        try:
            codegen.scheduled(self.spec, self.machine, choice)
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
        """What the cost model is told about a candidate."""
        return ms.feature_extractor.PerStoreFeature()
