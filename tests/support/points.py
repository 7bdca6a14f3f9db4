"""Points of strategies, to compile and compare with the reference."""

import random

from tvmconv.compiler.ops.problem import problem_of
from tvmconv.formats.choice import Choice
from tvmconv.specs.conv import ConvSpec


def choices(descriptor: str, machine, strategy, count: int) -> list[Choice]:
    """The default point and random ones."""
    spec, rng = ConvSpec.parse(descriptor), random.Random(descriptor)
    space = strategy.space(problem_of(spec), machine)
    found = [Choice(strategy.STRATEGY, {})]
    while len(found) < count:
        point = {knob: rng.choice(values) for knob, values in space.items()}
        try:
            strategy.plan_of(problem_of(spec), machine, point)
        except ValueError:  # too many registers, or more steps than there are
            continue
        found.append(Choice(strategy.STRATEGY, point))
    return found
