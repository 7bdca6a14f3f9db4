"""The steps of a network timed in place, by several kernels each, and whole networks against each other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tvmconv.formats.kernel import Kernel
from tvmconv.formats.program import Program, Step
from tvmconv.network.compiling import Network, descriptor_of
from tvmconv.network.graph import Node
from tvmconv.network.planning.program import Planned, program_of
from tvmconv.specs.work import Work
from tvmconv.tuning.measuring.runner import NetworkRunner

_SAMPLES = 24, 200  # of a step by one kernel, and of a step of a network that takes next to no time
_SECONDS = 6.0  # for the steps of a fast network
_DUEL_ROUNDS = 80, 2000
_DUEL_SECONDS = 4.0
_LONGEST = 120.0
_FEWEST = 12  # samples, even of a slow one
_APART = 1e4  # times the rounding of a type: no two right kernels make results of a network differ so

Kernels = Mapping[Work, Kernel]


@dataclass(frozen=True)
class Duel:
    """Two networks in turns. before, after: medians in seconds a call. ratio: the median of after over
    before, of neighbouring calls. error: its standard error. apart: of the results, over their rounding."""

    before: float
    after: float
    ratio: float
    error: float
    apart: float

    @property
    def is_faster(self) -> bool:
        """Whether the second is surely faster, and computes the same."""
        return self.ratio + 2 * self.error < 1 and self.apart < _APART


class Player:
    """Runs a network, and its steps, with these or those kernels."""

    def __init__(self, network: Network, runner: NetworkRunner) -> None:
        self.network, self.runner = network, runner
        self.whole = 0.1  # seconds of a call, as far as is known

    def steps(
        self, kernels: Kernels, others: Mapping[Work, Sequence[Kernel]]
    ) -> dict[Work, list[list[float]]]:
        """For each work the seconds in each of its nodes (medians) by its kernel of ``kernels``, then by each
        of ``others``. Raises TuningError."""
        programs = [self._program(kernels)]
        for number in range(max(map(len, others.values()), default=0)):
            changed = {work: own[number] for work, own in others.items() if number < len(own)}
            programs.append(self._program({**kernels, **changed}))
        workspace = max(planned.program.workspace for planned in programs)
        cut = [_parts(planned, workspace) for planned in programs]
        functions: dict[str, Program] = {}
        turns: list[list[str]] = []
        nodes: list[tuple[Work, list[str]]] = []
        works = {id(kernel): work for work, kernel in kernels.items()}
        for place, part in enumerate(cut[0]):
            work = works[id(part.steps[-1].kernel)]
            names = [f"step{place}_{number}" for number in range(1 + len(others.get(work, ())))]
            functions |= {name: cut[number][place] for number, name in enumerate(names)}
            turns.append(names)
            nodes.append((work, names))
        most = max(map(len, turns))
        seconds = min(_LONGEST, max(_SECONDS, _FEWEST * most * self.whole))
        played = self.runner.play(functions, turns, self._times(_SAMPLES) * most, seconds)
        found: dict[Work, list[list[float]]] = {}
        for work, names in nodes:
            medians = [statistics.median(played.seconds[name]) for name in names]
            found.setdefault(work, []).append(medians)
        return {work: [list(column) for column in zip(*rows, strict=True)] for work, rows in found.items()}

    def duel(self, before: Kernels, after: Kernels, than: Player | None = None) -> Duel:
        """The network by two sets of kernels, in turns; the first may be of ``than``, of the same model with
        other layers. Raises TuningError."""
        first = (than or self)._program(before).program
        functions = {"before": first, "after": self._program(after).program}
        seconds = min(_LONGEST, max(_DUEL_SECONDS, 2 * _FEWEST * self.whole))
        rounds = self._times(_DUEL_ROUNDS)
        played = self.runner.play(functions, [["before"], ["after"]], rounds, seconds, compare=True)
        one, other = (np.array(played.seconds[name]) for name in functions)
        low, middle, high = np.quantile(other / one, (0.25, 0.5, 0.75))
        error = 1.25 * (high - low) / 1.35 / math.sqrt(len(one))
        self.whole = float(np.median(one))
        return Duel(self.whole, float(np.median(other)), float(middle), float(error), played.apart["after"])

    def _times(self, range_: tuple[int, int]) -> int:
        """How often to run the network: within this range, a good deal of a second if it is fast."""
        return min(range_[1], max(range_[0], int(0.3 / self.whole)))

    def _program(self, kernels: Kernels) -> Planned:
        network = self.network
        return program_of(network.graph, kernels, descriptor_of(network), network.layouts)


def _parts(planned: Planned, workspace: int) -> list[Program]:
    """The part of the program that runs each node."""
    groups: list[tuple[Node, list[Step]]] = []
    for node, step in zip(planned.nodes, planned.program.steps, strict=True):
        if not groups or groups[-1][0] is not node:
            groups.append((node, []))
        groups[-1][1].append(step)
    return [_part(planned.program, steps, workspace) for _, steps in groups]


def _part(program: Program, steps: Sequence[Step], workspace: int) -> Program:
    """A program of some steps of another, over the same arguments and the constants that it reads."""
    used = sorted({place.index for step in steps for _, place in step.operands if place.of == "constant"})
    at = {old: new for new, old in enumerate(used)}
    moved = tuple(
        replace(step, operands=tuple(
            (param, place._replace(index=at[place.index]) if place.of == "constant" else place)
            for param, place in step.operands
        ))
        for step in steps
    )  # fmt: skip
    constants = tuple(program.constants[index] for index in used)
    return replace(program, steps=moved, constants=constants, workspace=workspace)
