"""Convolutions, of floats and of 8-bit integers, transposed or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx

from tvmconv.compiler.codegen import bordered
from tvmconv.compiler.codegen.either import either, packing_both
from tvmconv.compiler.codegen.family import Family, Scheduled
from tvmconv.compiler.ops import direct
from tvmconv.compiler.ops.algorithm import Algorithm, Epilogue
from tvmconv.compiler.ops.integer import check_func, over_words
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, of_pixels, problem_of
from tvmconv.compiler.ops.transposed import PhaseSums
from tvmconv.compiler.ops.transposed_problem import (
    TransposedPacking,
    flipped_problem_of,
    transposed_problem_of,
)
from tvmconv.formats.choice import Choice
from tvmconv.schedules import traced
from tvmconv.schedules.dots import DOTS
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan
from tvmconv.specs.conv import ConvSpec, without_borders


class Convolutions(Family):
    """See ``Family``. A convolution with borders is planned as the one without borders that reads the copy of
    x."""

    def problems(self, spec: ConvSpec, machine: Machine | GpuMachine) -> list[Problem]:
        """A transposed convolution of floats with stride 1 is also an ordinary one; channels-first images of
        one pixel are channels-last ones as well, which a single one of floats gains nothing from."""
        spec = without_borders(spec)
        p, other = _problem(spec), None
        if machine.backend == "cpu":
            if p.family == "transposed":
                other = flipped_problem_of(spec)
            elif p.family == "integer" or (p.family == "conv" and p.batch > 1 and not p.padded):
                other = of_pixels(p)
        return [p] if other is None else [other, p]

    def epilogue(self, spec: ConvSpec) -> Epilogue:
        """See ``Family``."""
        return Epilogue.of(spec)

    def scheduled(
        self, spec: ConvSpec, machine: Machine | GpuMachine, choice: Choice | None = None
    ) -> Scheduled:
        """See ``Family``."""
        if spec.padding_mode == "zeros":
            return super().scheduled(spec, machine, choice)
        return bordered.scheduled(spec, machine, lambda inner: self.scheduled(inner, machine, choice))

    def definition(self, spec: ConvSpec, meta: bool = False) -> tirx.PrimFunc:
        """See ``Family``: weights are packed one channel to a block."""
        p = _problem(without_borders(spec))
        packing = traced.packing(p) if meta else TransposedPacking(1) if spec.transposed else Packing(1)
        return _by_definition(p).definition(p, packing, Epilogue.of(spec))

    def prepack(self, spec: ConvSpec, facts: Mapping[str, Any]) -> tirx.PrimFunc:
        """See ``Family``: of 8-bit integers, for NumPy packs floats (``baking``)."""
        p, dot = _problem(spec), None if facts["dot"] is None else DOTS[facts["dot"]]
        prepack = _by_definition(p, dot).prepack(p, Packing(**facts["packing"]), Epilogue.of(spec))
        if "otherwise" not in facts:
            return prepack
        check = check_func(p, DOTS[facts["dot"]], Epilogue.of(spec))
        return packing_both(prepack, self.prepack(spec, facts["otherwise"]), check, len(spec.weights))

    def _made(self, spec: ConvSpec, p: Problem, plan: Plan) -> Scheduled:
        made = super()._made(spec, p, plan)
        if plan.otherwise is None:
            return made
        check = check_func(p, DOTS[made.schedule["dot"]], Epilogue.of(spec))
        return either(made, super()._made(spec, p, plan.otherwise), check)


FAMILY = Convolutions()


def _problem(spec: ConvSpec) -> Problem:
    """The canonical problem of ``spec``."""
    return transposed_problem_of(spec) if spec.transposed else problem_of(spec)


def _by_definition(p: Problem, dot: Any = None) -> Algorithm:
    """The algorithm that is ``p``'s definition."""
    algorithm = PhaseSums() if "transposed" in p.family else direct.ALGORITHM
    return over_words(algorithm, dot) if "integer" in p.family else algorithm
