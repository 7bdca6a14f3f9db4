"""Poolings: no weights, one input."""

from __future__ import annotations

from tvmconv.compiler.codegen.family import Scheduled, rules_for
from tvmconv.compiler.codegen.params import params
from tvmconv.compiler.ops.pooling import problem_of
from tvmconv.formats.choice import Choice
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Space
from tvmconv.specs.pooling import PoolSpec


def scheduled(spec: PoolSpec, machine: Machine, choice: Choice | None = None) -> Scheduled:
    """The scheduled kernel of ``spec``."""
    problem = problem_of(spec)
    plan = rules_for(machine).pool.plan(problem, machine, choice)
    arrays = params(spec, {"x": problem.x_shape, "y": problem.y_shape})
    return Scheduled(
        kernel=plan.func, prepack=None, inputs=arrays.inputs, weights=(), packed=(), output=arrays.output,
        schedule={"source": "default", "strategy": plan.strategy, "point": plan.point},
    )  # fmt: skip


def check(spec: PoolSpec, machine: Machine, choice: Choice) -> None:
    """Raise ValueError where ``choice`` does not fit."""
    rules_for(machine).pool.plan(problem_of(spec), machine, choice)


def spaces(spec: PoolSpec, machine: Machine) -> dict[str, Space]:
    """The space of each strategy for ``spec``, by name."""
    return rules_for(machine).pool.spaces(problem_of(spec), machine)
