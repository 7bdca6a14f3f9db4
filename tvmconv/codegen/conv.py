"""Convolutions: the TE definition meets the strategy that the machine's rules choose."""

from __future__ import annotations

from tvmconv.codegen import quantised, traced, transposed
from tvmconv.codegen.family import Scheduled, apply, rules_for
from tvmconv.codegen.params import described
from tvmconv.ops import conv, im2col
from tvmconv.ops.problem import problem_of
from tvmconv.ops.transposed_problem import transposed_problem_of
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import META, Choice, Space
from tvmconv.spec import ConvSpec


def scheduled(spec: ConvSpec, machine: Machine, choice: Choice | None = None) -> Scheduled:
    """The scheduled kernel of ``spec``, one that ``check_supported`` lets pass."""
    if spec.dtype in ("int8", "uint8"):
        return quantised.scheduled(spec, machine, choice)
    if spec.transposed:
        return transposed.scheduled(spec, machine, choice)
    problem = problem_of(spec)
    if choice is not None and choice.strategy == META:
        plan = traced.plan(spec, machine, choice)
    else:
        plan = rules_for(machine).plan(problem, machine, spec.algorithm, choice)
    func = conv.kernel_func(
        problem, plan.packing, algorithm=plan.algorithm, bias=spec.bias, residual=spec.residual,
        activation=spec.activation, out_dtype=spec.out_dtype,
    )  # fmt: skip
    done = im2col.flat(problem) if plan.algorithm in conv.FLAT else problem
    layout = "HWIO" if spec.channels_last else "OIHW"
    return described(spec, done, plan, apply(plan, func), layout, problem.x_shape())


def check(spec: ConvSpec, machine: Machine, choice: Choice) -> None:
    """Raise ValueError where ``choice`` does not fit."""
    if choice.strategy == META:
        traced.check(spec, machine, choice)
    elif spec.dtype in ("int8", "uint8"):
        quantised.check(spec, machine, choice)
    elif spec.transposed:
        rules_for(machine).transposed_plan(transposed_problem_of(spec), machine, choice)
    else:
        rules_for(machine).plan(problem_of(spec), machine, spec.algorithm, choice)


def spaces(spec: ConvSpec, machine: Machine) -> dict[str, Space]:
    """The space of each strategy for ``spec``, by name."""
    if spec.dtype in ("int8", "uint8"):
        return quantised.spaces(spec, machine)
    if spec.transposed:
        return rules_for(machine).transposed_spaces(transposed_problem_of(spec), machine)
    return rules_for(machine).spaces(problem_of(spec), machine, spec.algorithm)
