"""Convolutions: the TE definition meets the strategy that the machine's rules choose."""

from __future__ import annotations

from tvmconv.codegen import transposed
from tvmconv.codegen.family import Scheduled, apply
from tvmconv.codegen.params import described
from tvmconv.ops import conv
from tvmconv.ops.problem import problem_of
from tvmconv.schedules import cpu
from tvmconv.schedules.machines import Machine
from tvmconv.spec import ConvSpec


def scheduled(spec: ConvSpec, machine: Machine) -> Scheduled:
    """The scheduled kernel of ``spec``, one that ``check_supported`` lets pass."""
    if spec.transposed:
        return transposed.scheduled(spec, machine)
    problem = problem_of(spec)
    plan = cpu.plan(problem, machine)
    func = conv.kernel_func(problem, plan.packing, bias=spec.bias, residual=spec.residual,
                            activation=spec.activation, out_dtype=spec.out_dtype)
    return described(spec, problem, plan, apply(plan, func), "HWIO" if spec.channels_last else "OIHW")
