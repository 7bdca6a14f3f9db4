"""Convolutions: the TE definition meets the strategy that the machine's rules choose."""

from __future__ import annotations

from dataclasses import asdict, replace

from tvmconv.artifact.kernel import Param
from tvmconv.codegen.family import Scheduled, apply
from tvmconv.ops import conv
from tvmconv.ops.problem import problem_of
from tvmconv.schedules import cpu
from tvmconv.schedules.machines import Machine
from tvmconv.spec import ConvSpec


def scheduled(spec: ConvSpec, machine: Machine) -> Scheduled:
    """The scheduled kernel of ``spec``, one that ``check_supported`` lets pass."""
    problem = problem_of(spec)
    plan = cpu.plan(problem, machine)
    func = conv.kernel_func(problem, plan.packing, bias=spec.bias, residual=spec.residual,
                            activation=spec.activation)
    layout = "HWIO" if spec.channels_last else "OIHW"
    weights = [Param("w", spec.weight_shape, spec.dtype, layout, problem.weight_shape)]
    packed = [Param("packed_w", plan.packing.shape(problem), spec.dtype)]
    channel_arrays = [name for name in ("bias", "slopes") if getattr(spec, name)]
    for name in channel_arrays:
        seen = (problem.groups, problem.out_group)
        weights.append(Param(name, spec.bias_shape, spec.dtype, "O", seen))
        packed.append(Param(f"packed_{name}", spec.bias_shape, spec.dtype, "", seen))
    inputs = [Param("x", spec.input_shape, spec.dtype, spec.layout, problem.x_shape())]
    output = Param("y", spec.output_shape, spec.out_dtype, spec.layout, problem.y_shape)
    if spec.residual:
        inputs.append(replace(output, name="residual"))
    return Scheduled(
        kernel=apply(plan, func),
        prepack=conv.prepack_func(problem, plan.packing, channel_arrays=channel_arrays),
        inputs=tuple(inputs), weights=tuple(weights), packed=tuple(packed), output=output,
        schedule={"source": "default", "strategy": plan.strategy, "point": plan.point,
                  "algorithm": plan.algorithm, "packing": asdict(plan.packing)},
    )  # fmt: skip
