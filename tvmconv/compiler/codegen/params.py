"""What the kernels of convolutions, transposed or not, take and give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache

from tvm import tirx
from tvm.s_tir import Schedule

from tvmconv.compiler.codegen.family import Scheduled
from tvmconv.compiler.ops.conv import prepack_func
from tvmconv.compiler.ops.problem import Problem
from tvmconv.formats.kernel import Param
from tvmconv.schedules.plan import Plan
from tvmconv.specs.conv import ConvSpec


def channel_arrays(spec: ConvSpec) -> tuple[str, ...]:
    """Names of the arrays with one value an output channel."""
    return tuple(name for name in ("bias", "slopes") if getattr(spec, name))


def described(
    spec: ConvSpec,
    problem: Problem,
    plan: Plan,
    kernel: tirx.PrimFunc,
    weight_layout: str,
    x_shape: tuple[int, ...] | None = None,
) -> Scheduled:
    """``kernel`` with its arrays, and the function that packs its weights.

    ``x_shape``: what the kernel takes x to be, if not ``problem``'s.
    """
    weights = [Param("w", spec.weight_shape, spec.dtype, weight_layout, problem.given_weight_shape)]
    packed = [Param("packed_w", plan.packing.shape(problem), plan.packing.dtype(problem))]
    for name in channel_arrays(spec):
        seen = (problem.groups, problem.out_group)
        weights.append(Param(name, spec.bias_shape, spec.dtype, "O", seen))
        packed.append(Param(f"packed_{name}", spec.bias_shape, problem.acc_dtype, "", seen))
    inputs = [Param("x", spec.input_shape, spec.dtype, spec.layout, x_shape or problem.x_shape())]
    output = Param("y", spec.output_shape, spec.out_dtype, spec.layout, problem.result_shape)
    if spec.residual:
        inputs.append(replace(output, name="residual"))
    return Scheduled(
        kernel=kernel, prepack=_prepack(problem, plan.packing, channel_arrays(spec), plan.pack),
        inputs=tuple(inputs), weights=tuple(weights), packed=tuple(packed), output=output,
        schedule={"source": "default", "strategy": plan.strategy, "point": plan.point,
                  "algorithm": plan.algorithm, "exact": plan.exact, "packing": asdict(plan.packing)},
    )  # fmt: skip


@lru_cache(maxsize=16)
def _prepack(
    problem: Problem, packing, arrays: tuple[str, ...], schedule: Callable[[Schedule], None] | None
) -> tirx.PrimFunc:
    """The function that packs weights. Candidates for one spec mostly have it in common."""
    func = prepack_func(problem, packing, channel_arrays=arrays)
    if schedule is None:
        return func
    sch = Schedule(func)
    schedule(sch)
    return sch.mod["main"]
