"""Strategies for floats over 8-bit integers in words (``ops.words``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tvmconv.compiler.ops.integer import over_words
from tvmconv.compiler.ops.words import in_words
from tvmconv.schedules.dots import DOTS, Dot
from tvmconv.schedules.plan import Plan, Space, Strategy


def whole(p: Any, machine: Any) -> Dot | None:
    """Each element a word of its own."""
    return None


@dataclass(frozen=True)
class InWords:
    """``of``, given the words of a problem for its input channels; ``dot_of``: the dot product of words."""

    of: Strategy
    dot_of: Callable[[Any, Any], Dot | None] = whole

    @property
    def STRATEGY(self) -> str:
        """See ``Strategy``."""
        return self.of.STRATEGY

    def _seen(self, p: Any, machine: Any) -> Any:
        return in_words(p, self.dot_of(p, machine))

    def fits(self, p: Any, machine: Any) -> bool:
        """See ``Strategy``."""
        return self.of.fits(self._seen(p, machine), machine)

    def space(self, p: Any, machine: Any) -> Space:
        """See ``Strategy``."""
        return self.of.space(self._seen(p, machine), machine)

    def plan_of(self, p: Any, machine: Any, point: Mapping[str, Any] | None = None) -> Plan:
        """See ``Strategy``."""
        plan = self.of.plan_of(self._seen(p, machine), machine, point)
        algorithm: Any = plan.algorithm  # one that can be viewed as words
        chooses = machine.backend == "cpu" and machine.avx512  # nobody has measured others
        return replace(plan, algorithm=over_words(algorithm, self.dot_of(p, machine), chooses=chooses))


@dataclass(frozen=True)
class Checked:
    """``of``, where a machine has dot products that suit small weights alone, by them; and by others for
    weights that turn out to be large."""

    of: Strategy

    @property
    def STRATEGY(self) -> str:
        """See ``Strategy``."""
        return self.of.STRATEGY

    def fits(self, p: Any, machine: Any) -> bool:
        """See ``Strategy``."""
        return self.of.fits(p, machine)

    def space(self, p: Any, machine: Any) -> Space:
        """See ``Strategy``."""
        return self.of.space(p, machine)

    def plan_of(self, p: Any, machine: Any, point: Mapping[str, Any] | None = None) -> Plan:
        """See ``Strategy``. ``point`` is for both, if it fits both."""
        plan = self.of.plan_of(p, machine, point)
        dot = plan.algorithm.facts(plan.exact)["dot"]
        if dot is None or not DOTS[dot].checked:
            return plan
        others = replace(machine, int8_dots=tuple(d for d in machine.int8_dots if not DOTS[d].checked))
        try:
            otherwise = self.of.plan_of(p, others, point)
        except ValueError:
            otherwise = self.of.plan_of(p, others)
        return replace(plan, otherwise=otherwise)
