"""Strategies for CPUs with vectors; of the rules, in this order, the first that takes a problem wins.

A tuner tries more: every strategy in ``spaces``, at the points of its own space.
"""

from __future__ import annotations

from types import ModuleType

from tvmconv.compiler.ops.problem import Problem
from tvmconv.formats.choice import Choice
from tvmconv.schedules.cpu import (
    crossed,
    deform,
    direct_last,
    groups_last,
    im2col,
    panels,
    planes,
    winograd_rows,
    winograd_tiles,
)
from tvmconv.schedules.cpu import pooling as pool
from tvmconv.schedules.cpu.integers import integer_plan, integer_spaces
from tvmconv.schedules.cpu.phases import transposed_plan, transposed_spaces
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan, Space, chosen

__all__ = ["deform", "integer_plan", "integer_spaces", "plan", "pool", "spaces", "transposed_plan",
           "transposed_spaces"]  # fmt: skip

DIRECT = (groups_last.rule, direct_last.rule, crossed.rule, planes.rule)
RULES = {
    None: (winograd_tiles.rule, groups_last.rule, panels.rule, *DIRECT),
    "direct": DIRECT,
    "im2col": (panels.columns_rule, im2col.plan_of),
    "winograd": (winograd_tiles.plan_of,),
}
_RIVALS = {
    None: (direct_last, planes, crossed, panels, im2col, winograd_tiles),
    "direct": (direct_last, planes, crossed),
    "im2col": (panels, im2col),
    "winograd": (winograd_tiles,),
}


def plan(
    problem: Problem, machine: Machine, algorithm: str | None = None, choice: Choice | None = None
) -> Plan:
    """The plan of the first rule that takes ``problem``, by ``algorithm`` if one is asked for that fits;
    between them the rules take every problem. Or that of ``choice``; ValueError if it does not fit."""
    if choice is not None:
        return chosen(_rivals(problem, machine, algorithm), problem, machine, choice)
    for rule in RULES[algorithm]:
        found = rule(problem, machine)
        if found is not None:
            return found
    raise AssertionError(f"no strategy takes {problem}")


def spaces(problem: Problem, machine: Machine, algorithm: str | None = None) -> dict[str, Space]:
    """The space of each strategy that may be best for ``problem``, by name."""
    return {m.STRATEGY: m.space(problem, machine) for m in _rivals(problem, machine, algorithm)}


def _rivals(problem: Problem, machine: Machine, algorithm: str | None) -> list[ModuleType]:
    if algorithm in (None, "direct") and groups_last.fits(problem, machine):
        if algorithm is None and winograd_rows.fits(problem, machine):
            return [groups_last, winograd_rows]
        # Where a vector holds two groups, one of half a vector may be worth as much.
        rivals = [groups_last, direct_last] if problem.out_group > 2 else [groups_last]
        if algorithm is None and problem.in_group > 1 and winograd_tiles.fits(problem, machine):
            rivals.append(winograd_tiles)
        return rivals
    few = problem.in_group == problem.out_group == 1 and algorithm is None  # no product of matrices to win
    modules = _RIVALS["direct" if few else algorithm]
    return [module for module in modules if module.fits(problem, machine)]
