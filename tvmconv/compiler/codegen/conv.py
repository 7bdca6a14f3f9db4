"""Convolutions: the TE definition meets the strategy that the machine's rules choose."""

from __future__ import annotations

from tvmconv.compiler.codegen import bordered, quantised, traced, transposed
from tvmconv.compiler.codegen.family import Scheduled, apply, rules_for
from tvmconv.compiler.codegen.params import described
from tvmconv.compiler.ops import conv, im2col
from tvmconv.compiler.ops.problem import Problem, problem_of
from tvmconv.compiler.ops.transposed_problem import TRANSPOSED, flipped_problem_of, transposed_problem_of
from tvmconv.formats.choice import META, Choice
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Space
from tvmconv.specs.conv import ConvSpec, without_borders


def scheduled(spec: ConvSpec, machine: Machine, choice: Choice | None = None) -> Scheduled:
    """The scheduled kernel of ``spec``, one that ``check_supported`` lets pass."""
    if spec.padding_mode != "zeros":
        return bordered.scheduled(spec, machine, lambda inner: scheduled(inner, machine, choice))
    if spec.dtype in ("int8", "uint8"):
        return quantised.scheduled(spec, machine, choice)
    problem = _ordinary(spec, machine, choice)
    if problem is None:
        return transposed.scheduled(spec, machine, choice)
    if choice is not None and choice.strategy == META:
        plan = traced.plan(spec, machine, choice)
    else:
        plan = rules_for(machine).plan(problem, machine, spec.algorithm, choice)
    func = conv.kernel_func(
        problem, plan.packing, algorithm=plan.algorithm, bias=spec.bias, residual=spec.residual,
        activation=spec.activation, out_dtype=spec.out_dtype,
    )  # fmt: skip
    done = im2col.flat(problem) if plan.algorithm in conv.FLAT else problem
    return described(spec, done, plan, apply(plan, func), problem.x_shape())


def _ordinary(spec: ConvSpec, machine: Machine | GpuMachine, choice: Choice | None) -> Problem | None:
    """``spec`` as an ordinary convolution, if it is computed as one: so is a transposed one of stride 1,
    unless ``choice`` has it go phase by phase."""
    if not spec.transposed:
        return problem_of(spec)
    phases = choice is not None and choice.strategy.startswith(TRANSPOSED)
    return None if phases or isinstance(machine, GpuMachine) else flipped_problem_of(spec)


def check(spec: ConvSpec, machine: Machine, choice: Choice) -> None:
    """Raise ValueError where ``choice`` does not fit."""
    spec = without_borders(spec)
    if choice.strategy == META:
        traced.check(spec, machine, choice)
        return
    if spec.dtype in ("int8", "uint8"):
        quantised.check(spec, machine, choice)
        return
    problem = _ordinary(spec, machine, choice)
    if problem is None:
        rules_for(machine).transposed_plan(transposed_problem_of(spec), machine, choice)
    else:
        rules_for(machine).plan(problem, machine, spec.algorithm, choice)


def spaces(spec: ConvSpec, machine: Machine) -> dict[str, Space]:
    """The space of each strategy for ``spec``, by name."""
    spec = without_borders(spec)
    if spec.dtype in ("int8", "uint8"):
        return quantised.spaces(spec, machine)
    rules, problem = rules_for(machine), _ordinary(spec, machine, None)
    found = {} if problem is None else rules.spaces(problem, machine, spec.algorithm)
    if spec.transposed:
        found |= rules.transposed_spaces(transposed_problem_of(spec), machine)
    return found
