"""Strategies for CPUs with vectors; of the rules, in this order, the first that takes a problem wins."""

from __future__ import annotations

from tvmconv.ops.problem import Problem
from tvmconv.schedules.cpu import direct_last, groups_last, planes, winograd_tiles
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan

RULES = (groups_last.rule, winograd_tiles.rule, direct_last.rule, planes.rule)


def plan(problem: Problem, machine: Machine) -> Plan:
    """The plan of the first rule that takes ``problem``; between them the rules take every problem."""
    for rule in RULES:
        found = rule(problem, machine)
        if found is not None:
            return found
    raise AssertionError(f"no strategy takes {problem}")
