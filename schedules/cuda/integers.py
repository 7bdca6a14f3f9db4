"""Which strategy sums 8-bit integers, and in which words (``ops.words``)."""

from __future__ import annotations

from types import ModuleType

from tvmconv.compiler.ops.problem import Problem
from tvmconv.compiler.ops.transposed_problem import TransposedProblem
from tvmconv.compiler.ops.words import in_words
from tvmconv.formats.choice import Choice
from tvmconv.schedules.cuda import depthwise_first, depthwise_last, direct, gemm_tensor, transposed
from tvmconv.schedules.dots import DOTS, GPU, Dot
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.plan import Plan, Space

_WORD = 4  # elements


def integer_plan(
    problem: Problem, machine: GpuMachine, choice: Choice | None = None
) -> tuple[Plan, Dot | None, int]:
    """The plan of the first strategy that takes ``problem``, or of ``choice``; the dot product that sums
    words, if any; how many words go side by side in the sum over a window. ValueError if ``choice`` does not
    fit."""
    rivals = _rivals(problem, machine)
    if choice is not None and choice.strategy not in rivals:
        raise ValueError(f"strategy {choice.strategy!r}: expected one of {', '.join(rivals)}")
    module, seen, dot = next(iter(rivals.values())) if choice is None else rivals[choice.strategy]
    return module.plan_of(seen, machine, None if choice is None else choice.point), dot, 1


def integer_spaces(problem: Problem, machine: GpuMachine) -> dict[str, Space]:
    """The space of each strategy for ``problem``, by name."""
    rivals = _rivals(problem, machine).items()
    return {name: module.space(seen, machine) for name, (module, seen, _) in rivals}


def _rivals(p: Problem, machine: GpuMachine) -> dict[str, tuple[ModuleType, Problem, Dot | None]]:
    """The strategies that take ``p``, by name, with the problem as they see it and the dot product of its
    words."""
    if isinstance(p, TransposedProblem):
        return {transposed.STRATEGY: (transposed, p, None)}
    dot = _dot_of(p)
    ways = [(depthwise_last, None), (depthwise_first, None), (gemm_tensor, dot), (direct, dot)]
    found = {}
    for module, words in ways:
        seen = in_words(p, words)
        if module.fits(seen, machine):
            found[module.STRATEGY] = module, seen, words
    return found


def _dot_of(p: Problem) -> Dot | None:
    """The dot product for words of ``p``'s, which are of four elements: fewer would be filled up. Where
    channels are last a word is one load only if they divide."""
    if p.in_group < _WORD or (p.channels_last and p.in_group % _WORD):
        return None
    return DOTS[f"{GPU}{'u' if p.dtype == 'uint8' else 's'}8s8"]
