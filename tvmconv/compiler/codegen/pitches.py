"""Kernels over rows that lie apart: the strides of their parameters, which nothing but lowering looks at.

So the algorithm and its schedule are those of dense arrays. What a kernel reads or writes is what it would
there, element by element: nothing between the rows is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from tvm import tirx

from tvmconv.base.errors import TargetError
from tvmconv.compiler.codegen.family import Scheduled
from tvmconv.compiler.codegen.params import with_params
from tvmconv.formats.kernel import Param
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import AnyMachine
from tvmconv.specs.work import Work


def apart(made: Scheduled, work: Work, machine: AnyMachine) -> Scheduled:
    """A kernel of ``work`` from that of dense arrays. Raises TargetError for a GPU, SpecError for a pitch
    below the length of a row."""
    pitches = work.pitches
    if not pitches:
        return made
    if isinstance(machine, GpuMachine):
        raise TargetError(f"{work}: pitches for {machine.name}, expected a CPU")

    def pitched(param: Param) -> Param:
        return replace(param, pitch=pitches.get(param.name, 0))

    fresh = []
    for param, buffer in zip((*made.inputs, *made.packed, made.output), made.kernel.params, strict=True):
        if param.name in pitches:
            steps = strides(pitched(param), [int(n) for n in buffer.shape])
            buffer = tirx.decl_buffer(buffer.shape, buffer.dtype, buffer.name, strides=steps)
        fresh.append(buffer)
    return replace(
        made, kernel=with_params(made.kernel, fresh), inputs=tuple(map(pitched, made.inputs)),
        output=pitched(made.output),
    )  # fmt: skip


def strides(param: Param, shape: Sequence[int]) -> list[int]:
    """Elements from one to the next along each dim of ``shape``, in which a kernel sees an array: its inner
    dims are parts of a row."""
    dense = [prod(shape[dim + 1 :]) for dim in range(len(shape))]
    if any(step % param.width and param.width % step for step in dense):
        raise AssertionError(f"{param.name} of {param.shape} seen as {tuple(shape)}: in parts of rows")
    return [step if step < param.width else step // param.width * param.pitch for step in dense]
