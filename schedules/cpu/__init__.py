"""Strategies for CPUs with vectors; of the rules, in this order, the first that takes a problem wins."""

from __future__ import annotations

from tvmconv.ops.integer import in_words
from tvmconv.ops.problem import Problem
from tvmconv.schedules.cpu import direct_last, groups_last, im2col, planes, winograd_tiles
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan

DIRECT = (groups_last.rule, direct_last.rule, planes.rule)
RULES = {
    None: (groups_last.rule, winograd_tiles.rule, im2col.rule, *DIRECT),
    "direct": DIRECT,
    "im2col": (im2col.plan_of,),
    "winograd": (winograd_tiles.plan_of,),
}


def plan(problem: Problem, machine: Machine, algorithm: str | None = None) -> Plan:
    """The plan of the first rule that takes ``problem``, by ``algorithm`` if one is asked for that fits;
    between them the rules take every problem."""
    for rule in RULES[algorithm]:
        found = rule(problem, machine)
        if found is not None:
            return found
    raise AssertionError(f"no strategy takes {problem}")


def integer_plan(problem: Problem, machine: Machine) -> tuple[Plan, bool]:
    """The plan for 8-bit integers, and whether it is for input channels in pairs (``ops.integer``)."""
    few = groups_last.rule(problem, machine)
    if few is not None:
        return few, False
    paired = problem.in_group > 1
    problem = in_words(problem) if paired else problem
    for rule in (direct_last.rule, planes.rule):
        found = rule(problem, machine)
        if found is not None:
            return found, paired
    raise AssertionError(f"no strategy takes {problem}")
