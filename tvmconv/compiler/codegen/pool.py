"""Poolings: no weights, one input."""

from __future__ import annotations

from tvm import tirx

from tvmconv.compiler.codegen.family import Family
from tvmconv.compiler.ops.pool_problem import PoolProblem, problem_of
from tvmconv.compiler.ops.pooling import Pooling, windows_func
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import Machine
from tvmconv.specs.pooling import PoolSpec


class Poolings(Family):
    """See ``Family``."""

    def problems(self, spec: PoolSpec, machine: Machine | GpuMachine) -> list[PoolProblem]:
        """See ``Family``."""
        return [problem_of(spec)]

    def definition(self, spec: PoolSpec, meta: bool = False) -> tirx.PrimFunc:
        """See ``Family``."""
        return Pooling(windows_func).definition(problem_of(spec), None, None)


FAMILY = Poolings()
