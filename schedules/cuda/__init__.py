"""Strategies for NVIDIA GPUs; of those that take a problem, in this order, the first is the default."""

from __future__ import annotations

from types import ModuleType

from tvmconv.base.errors import TargetError
from tvmconv.compiler.ops.problem import Problem
from tvmconv.compiler.ops.transposed_problem import TransposedProblem
from tvmconv.formats.choice import Choice
from tvmconv.schedules.cuda import (
    deform,
    depthwise_first,
    depthwise_last,
    direct,
    gemm,
    gemm_tensor,
    transposed,
)
from tvmconv.schedules.cuda import pooling as pool
from tvmconv.schedules.cuda.integers import integer_plan, integer_spaces
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.plan import Plan, Space, chosen

__all__ = ["deform", "integer_plan", "integer_spaces", "plan", "pool", "spaces", "transposed_plan",
           "transposed_spaces"]  # fmt: skip

STRATEGIES = (depthwise_last, depthwise_first, gemm_tensor, gemm, direct)


def plan(
    problem: Problem, machine: GpuMachine, algorithm: str | None = None, choice: Choice | None = None
) -> Plan:
    """The plan for ``problem``, or that of ``choice``; ValueError if it does not fit.

    Raises TargetError for an algorithm that there is none of on GPUs.
    """
    rivals = _rivals(problem, machine, algorithm)
    if choice is not None:
        return chosen(rivals, problem, machine, choice)
    return rivals[0].plan_of(problem, machine)


def spaces(problem: Problem, machine: GpuMachine, algorithm: str | None = None) -> dict[str, Space]:
    """The space of each strategy that may be best for ``problem``, by name."""
    return {m.STRATEGY: m.space(problem, machine) for m in _rivals(problem, machine, algorithm)}


def _rivals(problem: Problem, machine: GpuMachine, algorithm: str | None) -> list[ModuleType]:
    if algorithm not in (None, "direct"):
        raise TargetError(f"algorithm: {algorithm!r} for {machine.name}, expected 'direct' on a GPU")
    return [module for module in STRATEGIES if module.fits(problem, machine)]


def transposed_plan(problem: TransposedProblem, machine: GpuMachine, choice: Choice | None = None) -> Plan:
    """The plan for a transposed convolution: there is one for every problem."""
    if choice is not None:
        return chosen([transposed], problem, machine, choice)
    return transposed.plan_of(problem, machine)


def transposed_spaces(problem: TransposedProblem, machine: GpuMachine) -> dict[str, Space]:
    """As ``spaces``, for transposed convolutions."""
    return {transposed.STRATEGY: transposed.space(problem, machine)}
