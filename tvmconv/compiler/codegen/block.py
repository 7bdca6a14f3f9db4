"""Blocks: a depthwise convolution between pointwise ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx

from tvmconv.base.errors import TargetError
from tvmconv.compiler.codegen import bands, halo_tiles
from tvmconv.compiler.codegen.family import Family, Scheduled
from tvmconv.compiler.codegen.params import params
from tvmconv.compiler.ops import block, block_integers
from tvmconv.compiler.ops.block_packing import BlockPacking, BlockProblem
from tvmconv.formats.choice import Choice
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import Machine
from tvmconv.specs.block import BlockSpec


class Blocks(Family):
    """See ``Family``."""

    def problems(self, spec: BlockSpec, machine: Machine | GpuMachine) -> list[BlockProblem]:
        """See ``Family``. Raises TargetError for integers on a GPU."""
        if isinstance(machine, GpuMachine) and spec.is_integer:
            expected = "expected floats, or its parts one by one"
            raise TargetError(f"{spec}: a block of {spec.dtype} for {machine.name}, {expected}")
        return [BlockProblem(spec)]

    def definition(self, spec: BlockSpec, meta: bool = False) -> tirx.PrimFunc:
        """See ``Family``."""
        return (block_integers if spec.is_integer else block).definition(spec)

    def prepack(self, spec: BlockSpec, facts: Mapping[str, Any]) -> tirx.PrimFunc:
        """See ``Family``."""
        ops = block_integers if spec.is_integer else block
        return ops.prepack_func(spec, BlockPacking(**facts["packing"]))

    def scheduled(
        self, spec: BlockSpec, machine: Machine | GpuMachine, choice: Choice | None = None
    ) -> Scheduled:
        """See ``Family``. The kernel is a loop nest, written for the plan's point."""
        _, plan = self._planned(spec, machine, choice)
        arrays, ops = params(spec, {}), block_integers if spec.is_integer else block
        packed = ops.packed(spec, plan.packing)
        if isinstance(machine, Machine):
            kernel = bands.kernel_func(spec, plan.packing, packed, machine, **plan.point)
        else:
            kernel = halo_tiles.kernel_func(spec, plan.packing, packed, **plan.point)
        return Scheduled(
            kernel=kernel, prepack=ops.prepack_func(spec, plan.packing), inputs=arrays.inputs,
            weights=arrays.weights, packed=packed, output=arrays.output, schedule=plan.facts,
        )  # fmt: skip


FAMILY = Blocks()
