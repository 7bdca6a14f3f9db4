"""Convolutions of 8-bit integers: their kernels' arrays, and the strategies of the float ones over words."""

from __future__ import annotations

from dataclasses import asdict

from tvmconv.artifact.kernel import Param
from tvmconv.codegen.family import Scheduled, apply, rules_for
from tvmconv.ops import conv, im2col, integer, words
from tvmconv.ops.problem import problem_of
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Choice
from tvmconv.spec import ConvSpec


def scheduled(spec: ConvSpec, machine: Machine, choice: Choice | None = None) -> Scheduled:
    """The scheduled kernel of ``spec``, whose x is of an 8-bit type."""
    p = problem_of(spec)
    plan, dot, lanes = rules_for(machine).integer_plan(p, machine, choice)
    q = integer.Quantised(spec.weight_dtype, spec.out_dtype, spec.bias, spec.activation)
    done, kept = words.in_words(p, dot), words.shifts(dot)
    seen_y = (im2col.flat(p) if plan.algorithm in conv.FLAT else p).result_shape
    seen, layout = (p.groups, p.out_group), "HWIO" if spec.channels_last else "OIHW"
    weights = [Param("w", spec.weight_shape, spec.weight_dtype, layout, p.weight_shape)]
    packed = [
        Param("packed_w", plan.packing.shape(done), "int32"),
        Param("packed_x_zero_point", (1,), dot.x if kept else spec.dtype),
    ]
    if spec.bias:
        weights.append(Param("bias", spec.bias_shape, "int32", "O", seen))
    if spec.bias or kept:
        packed.append(Param("packed_bias", spec.bias_shape, "int32", "", seen))
    if kept:
        packed += [
            Param("packed_w_zero_point", spec.bias_shape, "int32", "", seen),
            Param("packed_w_zero_points_matter", (1,), "int32"),
        ]
    one = (1,)
    if q.scaled:
        weights += [
            Param("x_scale", one, "float32"), Param("x_zero_point", one, spec.dtype),
            Param("w_scale", spec.bias_shape, "float32", "O"),
            Param("w_zero_point", spec.bias_shape, spec.weight_dtype, "O"),
            Param("y_scale", one, "float32"), Param("y_zero_point", one, spec.out_dtype),
        ]  # fmt: skip
        packed += [
            Param("packed_multiplier", spec.bias_shape, "float32", "", seen),
            Param("packed_limits", (2,), "float32"),
            Param("packed_y_zero_point", one, "int32"),
        ]
        if q.real:
            packed.append(Param("packed_y_scale", one, "float32"))
    else:
        weights += [
            Param("x_zero_point", one, spec.dtype),
            Param("w_zero_point", spec.bias_shape, spec.weight_dtype, "O"),
        ]
    return Scheduled(
        kernel=apply(plan, integer.kernel_func(p, plan.packing, dot, q, lanes)),
        prepack=integer.prepack_func(p, plan.packing, dot, q),
        inputs=(Param("x", spec.input_shape, spec.dtype, spec.layout, p.x_shape()),),
        weights=tuple(weights), packed=tuple(packed),
        output=Param("y", spec.output_shape, spec.out_dtype, spec.layout, seen_y),
        schedule={"source": "default", "strategy": plan.strategy, "point": plan.point,
                  "algorithm": plan.algorithm, "dot": None if dot is None else dot.name,
                  "packing": asdict(plan.packing)},
    )  # fmt: skip
