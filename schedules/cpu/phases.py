"""Which strategy computes a transposed convolution."""

from __future__ import annotations

from types import ModuleType

from tvmconv.compiler.ops.transposed_problem import TransposedProblem
from tvmconv.formats.choice import Choice
from tvmconv.schedules.cpu import transposed, transposed_planes
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan, Space, chosen


def transposed_plan(problem: TransposedProblem, machine: Machine, choice: Choice | None = None) -> Plan:
    """The plan for a transposed convolution: there is one for every problem."""
    modules = rivals(problem, machine)
    if choice is not None:
        return chosen(modules, problem, machine, choice)
    return modules[0].plan_of(problem, machine)


def transposed_spaces(problem: TransposedProblem, machine: Machine) -> dict[str, Space]:
    """The space of each strategy for ``problem``, by name."""
    return {m.STRATEGY: m.space(problem, machine) for m in rivals(problem, machine)}


def rivals(problem: TransposedProblem, machine: Machine) -> list[ModuleType]:
    """The strategies that take ``problem``, the default one first."""
    modules = [transposed, transposed_planes]
    if transposed.pays_in_planes(problem, machine):
        modules.reverse()
    return [module for module in modules if module.fits(problem, machine)]
