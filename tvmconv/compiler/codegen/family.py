"""A family of specs as seen by code generation, and the path they all take: a spec's problem, a plan for it,
its algorithm's definition, scheduled.

A family is a module of this package, found by its specs' ``family``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule

from tvmconv.compiler.codegen.params import params
from tvmconv.compiler.ops.algorithm import Algorithm, Epilogue
from tvmconv.formats.choice import Choice
from tvmconv.formats.kernel import Param
from tvmconv.schedules import plan as plans
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan, Space
from tvmconv.specs.kinds import Spec


@dataclass(frozen=True)
class Scheduled:
    """A kernel before lowering: ``kernel(inputs..., packed..., output)`` scheduled, ``prepack(weights...,
    packed...)`` where there are weights, and the arrays of both in that order."""

    kernel: tirx.PrimFunc
    prepack: tirx.PrimFunc | None
    inputs: tuple[Param, ...]
    weights: tuple[Param, ...]
    packed: tuple[Param, ...]
    output: Param
    schedule: dict[str, Any] = field(default_factory=dict)


class Family:
    """What a family's module has as its ``FAMILY``. Specs have passed ``check_supported``."""

    def problems(self, spec: Any, machine: Machine | GpuMachine) -> Sequence[Any]:
        """The problems as which ``spec`` may be computed, best first."""
        raise NotImplementedError

    def definition(self, spec: Any, meta: bool = False) -> tirx.PrimFunc:
        """``spec``'s kernel, unscheduled, the same for every machine: the subject of tuning records.
        ``meta``: the subject of traces of meta_schedule's own space, if it takes the spec."""
        raise NotImplementedError

    def prepack(self, spec: Any, facts: Mapping[str, Any]) -> tirx.PrimFunc:
        """The function that packs the weights of a kernel by what its manifest states (``Plan.facts``)."""
        raise NotImplementedError

    def epilogue(self, spec: Any) -> Epilogue | None:
        """What a kernel does in addition to what its problem says."""
        return None

    def scheduled(self, spec: Any, machine: Machine | GpuMachine, choice: Choice | None = None) -> Scheduled:
        """The kernel of ``spec``, scheduled; by ``choice`` if there is one. Raises ValueError where that does
        not fit."""
        p, plan = self._planned(spec, machine, choice)
        return self._made(spec, p, plan)

    def _made(self, spec: Any, p: Any, plan: Plan) -> Scheduled:
        algorithm, packing, does = plan.algorithm, plan.packing, self.epilogue(spec)
        arrays = params(spec, algorithm.shapes(p, packing))
        return Scheduled(
            kernel=applied(algorithm.definition(p, packing, does), plan.apply),
            prepack=_prepack(algorithm, p, packing, does, plan.pack),
            inputs=arrays.inputs, weights=arrays.weights, packed=algorithm.packed(p, packing, does),
            output=arrays.output, schedule=plan.facts,
        )  # fmt: skip

    def check(self, spec: Any, machine: Machine | GpuMachine, choice: Choice) -> None:
        """Raise ValueError where ``choice`` does not fit; cheaper than scheduling by it."""
        self._planned(spec, machine, choice)

    def spaces(self, spec: Any, machine: Machine | GpuMachine) -> dict[str, Space]:
        """The space of each strategy for ``spec``, by name."""
        return plans.spaces(self.problems(spec, machine), machine, spec.algorithm)

    def _planned(self, spec: Any, machine: Machine | GpuMachine, choice: Choice | None) -> tuple[Any, Plan]:
        return plans.plan(self.problems(spec, machine), machine, spec.algorithm, choice)


def family_of(spec: Spec) -> Family:
    """The family of ``spec``."""
    return importlib.import_module(f"{__package__}.{spec.family}").FAMILY


def applied(func: tirx.PrimFunc, schedule: Callable[[Schedule], None]) -> tirx.PrimFunc:
    """``func``, scheduled."""
    sch = Schedule(func)
    schedule(sch)
    return sch.mod["main"]


@lru_cache(maxsize=16)
def _prepack(
    algorithm: Algorithm, p: Any, packing: Any, does: Epilogue | None,
    schedule: Callable[[Schedule], None] | None,
) -> tirx.PrimFunc | None:  # fmt: skip
    """The function that packs weights. Candidates for one spec mostly share it."""
    func = algorithm.prepack(p, packing, does)
    return func if func is None or schedule is None else applied(func, schedule)
