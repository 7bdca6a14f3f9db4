"""Deformable convolutions: offsets and masks are inputs of a call, weights and bias are packed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx

from tvmconv.compiler.codegen.family import Family
from tvmconv.compiler.ops.deform import Columns, DeformProblem
from tvmconv.compiler.ops.packing import Packing
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import Machine
from tvmconv.specs.deformable import DeformSpec


class Deformable(Family):
    """See ``Family``."""

    def problems(self, spec: DeformSpec, machine: Machine | GpuMachine) -> list[DeformProblem]:
        """See ``Family``."""
        return [DeformProblem(spec)]

    def definition(self, spec: DeformSpec, meta: bool = False) -> tirx.PrimFunc:
        """See ``Family``."""
        return Columns().definition(DeformProblem(spec), Packing(1), None)

    def prepack(self, spec: DeformSpec, facts: Mapping[str, Any]) -> tirx.PrimFunc:
        """See ``Family``."""
        return Columns().prepack(DeformProblem(spec), Packing(**facts["packing"]), None)


FAMILY = Deformable()
