"""What kernels take and give: their specs' signatures, in the shapes that the compiled code sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import NamedTuple

from tvm import tirx
from tvm.s_tir import Schedule

from tvmconv.compiler.codegen.family import Scheduled
from tvmconv.compiler.ops.conv import prepack_func
from tvmconv.compiler.ops.problem import Problem
from tvmconv.formats.kernel import Param
from tvmconv.schedules.plan import Plan
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.kinds import Spec
from tvmconv.specs.operand import ROLES


class Params(NamedTuple):
    """The arrays of a signature as a kernel has them."""

    inputs: tuple[Param, ...]
    weights: tuple[Param, ...]
    output: Param


def params(spec: Spec, kernel_shapes: Mapping[str, tuple[int, ...]]) -> Params:
    """The arrays of ``spec``'s signature; ``kernel_shapes``: by name, where the kernel sees another shape."""
    found: dict[str, list[Param]] = {role: [] for role in ROLES}
    for o in spec.signature():
        found[o.role].append(Param(o.name, o.shape, o.dtype, o.layout, kernel_shapes.get(o.name)))
    (output,) = found["output"]
    return Params(tuple(found["input"]), tuple(found["weight"]), output)


def channel_arrays(spec: ConvSpec) -> tuple[str, ...]:
    """Names of the arrays with one value an output channel."""
    return tuple(name for name in ("bias", "slopes") if getattr(spec, name))


def described(
    spec: ConvSpec,
    problem: Problem,
    plan: Plan,
    kernel: tirx.PrimFunc,
    x_shape: tuple[int, ...] | None = None,
) -> Scheduled:
    """``kernel`` with its arrays, and the function that packs its weights.

    ``x_shape``: what the kernel takes x to be, if not ``problem``'s.
    """
    seen = (problem.groups, problem.out_group)
    arrays = params(spec, {
        "x": x_shape or problem.x_shape(), "w": problem.given_weight_shape, "bias": seen, "slopes": seen,
        "residual": problem.result_shape, "y": problem.result_shape,
    })  # fmt: skip
    packed = [Param("packed_w", plan.packing.shape(problem), plan.packing.dtype(problem))]
    for name in channel_arrays(spec):
        packed.append(Param(f"packed_{name}", spec.bias_shape, problem.acc_dtype, "", seen))
    return Scheduled(
        kernel=kernel, prepack=_prepack(problem, plan.packing, channel_arrays(spec), plan.pack),
        inputs=arrays.inputs, weights=arrays.weights, packed=tuple(packed), output=arrays.output,
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
