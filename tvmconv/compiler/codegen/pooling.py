"""Poolings: no weights, one input."""

from __future__ import annotations

from tvmconv.compiler.codegen.family import Scheduled, rules_for
from tvmconv.compiler.ops.pooling import problem_of
from tvmconv.formats.kernel import Param
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Choice, Space
from tvmconv.specs.pooling import PoolSpec


def scheduled(spec: PoolSpec, machine: Machine, choice: Choice | None = None) -> Scheduled:
    """The scheduled kernel of ``spec``."""
    problem = problem_of(spec)
    plan = rules_for(machine).pool.plan(problem, machine, choice)
    return Scheduled(
        kernel=plan.func, prepack=None,
        inputs=(Param("x", spec.input_shape, spec.dtype, spec.layout, problem.x_shape),),
        weights=(), packed=(),
        output=Param("y", spec.output_shape, spec.dtype, spec.layout, problem.y_shape),
        schedule={"source": "default", "strategy": plan.strategy, "point": plan.point},
    )  # fmt: skip


def check(spec: PoolSpec, machine: Machine, choice: Choice) -> None:
    """Raise ValueError where ``choice`` does not fit."""
    rules_for(machine).pool.plan(problem_of(spec), machine, choice)


def spaces(spec: PoolSpec, machine: Machine) -> dict[str, Space]:
    """The space of each strategy for ``spec``, by name."""
    return rules_for(machine).pool.spaces(problem_of(spec), machine)
