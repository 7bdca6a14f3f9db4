"""Poolings: no weights, one input."""

from __future__ import annotations

from tvmconv.artifact.kernel import Param
from tvmconv.codegen.family import Scheduled
from tvmconv.ops.pool import problem_of
from tvmconv.pool_spec import PoolSpec
from tvmconv.schedules.cpu import pool
from tvmconv.schedules.machines import Machine


def scheduled(spec: PoolSpec, machine: Machine) -> Scheduled:
    """The scheduled kernel of ``spec``."""
    problem = problem_of(spec)
    plan = pool.plan(problem, machine)
    return Scheduled(
        kernel=plan.func, prepack=None,
        inputs=(Param("x", spec.input_shape, spec.dtype, spec.layout, problem.x_shape),),
        weights=(), packed=(),
        output=Param("y", spec.output_shape, spec.dtype, spec.layout, problem.y_shape),
        schedule={"source": "default", "strategy": plan.strategy, "point": plan.point},
    )  # fmt: skip
