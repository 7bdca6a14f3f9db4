"""Transposed convolutions: the TE definition meets the strategy that the machine's rules choose."""

from __future__ import annotations

from tvmconv.compiler.codegen.family import Scheduled, apply, rules_for
from tvmconv.compiler.codegen.params import described
from tvmconv.compiler.ops import transposed
from tvmconv.compiler.ops.transposed_problem import transposed_problem_of
from tvmconv.formats.choice import Choice
from tvmconv.schedules.cpu import transposed_planes
from tvmconv.schedules.machines import Machine
from tvmconv.specs.conv import ConvSpec


def scheduled(spec: ConvSpec, machine: Machine, choice: Choice | None = None) -> Scheduled:
    """The scheduled kernel of a transposed ``spec``, one that ``check_supported`` lets pass."""
    problem = transposed_problem_of(spec)
    plan = rules_for(machine).transposed_plan(problem, machine, choice)
    func = transposed.kernel_func(
        problem, plan.packing, bias=spec.bias, residual=spec.residual, activation=spec.activation,
        out_dtype=spec.out_dtype, planes=plan.strategy == transposed_planes.STRATEGY,
    )  # fmt: skip
    return described(spec, problem, plan, apply(plan, func))
