"""Which strategy sums 8-bit integers, and in which words (``ops.words``)."""

from __future__ import annotations

from types import ModuleType

from tvmconv.compiler.ops.problem import Problem
from tvmconv.compiler.ops.transposed_problem import TransposedProblem
from tvmconv.compiler.ops.words import in_words, shifts
from tvmconv.formats.choice import Choice
from tvmconv.schedules.cpu import direct_last, groups_last, phases, planes, words_last
from tvmconv.schedules.cpu.tiles import across_groups
from tvmconv.schedules.dots import DOTS, Dot
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan, Space, chosen


def integer_plan(
    problem: Problem, machine: Machine, choice: Choice | None = None
) -> tuple[Plan, Dot | None, int]:
    """The plan of the first strategy that takes ``problem``, transposed or not, or of ``choice``; the dot
    product that sums words, if any; how many words go side by side in the sum over a window. ValueError if
    ``choice`` does not fit."""
    seen, dot, rivals = _rivals(problem, machine)
    found = rivals[0].plan_of(seen, machine) if choice is None else chosen(rivals, seen, machine, choice)
    lanes = words_last.window_lanes(problem, machine) if found.strategy == words_last.STRATEGY else 1
    return found, dot, lanes


def integer_spaces(problem: Problem, machine: Machine) -> dict[str, Space]:
    """The space of each strategy for ``problem``, by name."""
    seen, _, rivals = _rivals(problem, machine)
    return {module.STRATEGY: module.space(seen, machine) for module in rivals}


def _rivals(problem: Problem, machine: Machine) -> tuple[Problem, Dot | None, list[ModuleType]]:
    """(what strategies are given, the dot product of its words, the strategies that take it)."""
    if isinstance(problem, TransposedProblem):
        dot = _transposed_dot(problem, machine)
        return in_words(problem, dot), dot, phases.rivals(problem, machine)
    if groups_last.fits(problem, machine):
        return problem, None, [groups_last]
    if words_last.fits(problem, machine):
        return problem, words_last.dot_of(problem, machine), [words_last]
    dot = words_last.dot_of(problem, machine)
    seen = in_words(problem, dot)
    return seen, dot, [module for module in (direct_last, planes) if module.fits(seen, machine)]


def _transposed_dot(p: TransposedProblem, machine: Machine) -> Dot | None:
    """One whose factors are less their zero points: which taps meet an output differs from phase to phase,
    and so would what zero points add. None where a vector holds several groups, whose words lie apart."""
    if p.in_group == 1 or across_groups(p, machine):
        return None
    return next((DOTS[name] for name in machine.int8_dots if not shifts(DOTS[name])), None)
