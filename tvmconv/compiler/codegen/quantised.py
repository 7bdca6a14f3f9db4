"""Convolutions of 8-bit integers: their kernels' arrays, and the strategies of the float ones over words."""

from __future__ import annotations

from dataclasses import asdict

from tvmconv.compiler.codegen.family import Scheduled, apply, rules_for
from tvmconv.compiler.codegen.params import params
from tvmconv.compiler.ops import conv, im2col, integer, words
from tvmconv.compiler.ops.integer_result import Quantised
from tvmconv.compiler.ops.problem import Problem, problem_of
from tvmconv.compiler.ops.transposed_problem import transposed_problem_of
from tvmconv.formats.choice import Choice
from tvmconv.formats.kernel import Param
from tvmconv.schedules.cpu import transposed_planes
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Space
from tvmconv.specs.conv import ConvSpec


def scheduled(spec: ConvSpec, machine: Machine, choice: Choice | None = None) -> Scheduled:
    """The scheduled kernel of ``spec``, whose x is of an 8-bit type."""
    p, q = integer_problem_of(spec), quantised_of(spec)
    plan, dot, lanes = rules_for(machine).integer_plan(p, machine, choice)
    if spec.transposed:
        planes = plan.strategy == transposed_planes.STRATEGY
        func = integer.transposed_func(p, plan.packing, dot, q, planes)
    else:
        func = integer.kernel_func(p, plan.packing, dot, q, lanes)
    done, kept, one = words.in_words(p, dot), words.shifts(dot), (1,)
    seen = (p.groups, p.out_group)
    seen_y = (im2col.flat(p) if plan.algorithm in conv.FLAT else p).result_shape
    arrays = params(spec, {
        "x": p.x_shape(), "w": p.given_weight_shape, "bias": seen, "residual": seen_y, "y": seen_y,
    })  # fmt: skip
    packed = [
        Param("packed_w", plan.packing.shape(done), "int32"),
        Param("packed_x_zero_point", one, dot.x if kept else spec.dtype),
    ]
    if spec.bias or kept:
        packed.append(Param("packed_bias", spec.bias_shape, "int32", "", seen))
    if kept:
        packed += [
            Param("packed_w_zero_point", spec.bias_shape, "int32", "", seen),
            Param("packed_w_zero_points_matter", one, "int32"),
        ]
    if q.scaled:
        packed += [
            Param("packed_multiplier", spec.bias_shape, "float32", "", seen),
            Param("packed_limits", (2,), "float32"),
            Param("packed_y_zero_point", one, "int32"),
        ]
        if q.real:
            packed.append(Param("packed_y_scale", one, "float32"))
        if spec.residual:
            packed += [
                Param("packed_r_multiplier", one, "float32"), Param("packed_r_zero_point", one, "int32"),
            ]  # fmt: skip
    return Scheduled(
        kernel=apply(plan, func), prepack=integer.prepack_func(p, plan.packing, dot, q),
        inputs=arrays.inputs, weights=arrays.weights, packed=tuple(packed), output=arrays.output,
        schedule={"source": "default", "strategy": plan.strategy, "point": plan.point,
                  "algorithm": plan.algorithm, "dot": None if dot is None else dot.name,
                  "packing": asdict(plan.packing)},
    )  # fmt: skip


def check(spec: ConvSpec, machine: Machine, choice: Choice) -> None:
    """Raise ValueError where ``choice`` does not fit."""
    rules_for(machine).integer_plan(integer_problem_of(spec), machine, choice)


def spaces(spec: ConvSpec, machine: Machine) -> dict[str, Space]:
    """The space of each strategy for ``spec``, by name."""
    return rules_for(machine).integer_spaces(integer_problem_of(spec), machine)


def integer_problem_of(spec: ConvSpec) -> Problem:
    """The canonical problem of ``spec``, transposed or not."""
    return transposed_problem_of(spec) if spec.transposed else problem_of(spec)


def quantised_of(spec: ConvSpec) -> Quantised:
    """What a kernel of ``spec`` does beside its sums."""
    return Quantised(spec.weight_dtype, spec.out_dtype, spec.bias, spec.residual, spec.activation)
