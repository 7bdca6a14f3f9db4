"""Deformable convolutions: offsets and masks are inputs of a call, weights and bias are packed."""

from __future__ import annotations

from tvm.s_tir import Schedule

from tvmconv.compiler.codegen.family import Scheduled, rules_for
from tvmconv.compiler.codegen.params import params
from tvmconv.compiler.ops import deform
from tvmconv.formats.choice import Choice
from tvmconv.formats.kernel import Param
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Space
from tvmconv.specs.deformable import DeformSpec


def scheduled(spec: DeformSpec, machine: Machine, choice: Choice | None = None) -> Scheduled:
    """The scheduled kernel of ``spec``."""
    rules = rules_for(machine).deform
    p, point = rules.plan_of(spec, machine, choice)
    sch = Schedule(deform.kernel_func(p))
    rules.schedule(sch, p, machine, point)
    arrays = params(spec, {
        "offset": p.offset_shape, "mask": p.mask_shape, "w": p.weight_shape, "bias": p.bias_shape,
        "y": p.y_shape,
    })  # fmt: skip
    packed = [Param("packed_w", p.packed_shape, spec.dtype)]
    if spec.bias:
        packed.append(Param("packed_bias", spec.bias_shape, spec.dtype, "", p.bias_shape))
    return Scheduled(
        kernel=sch.mod["main"], prepack=deform.prepack_func(p), inputs=arrays.inputs,
        weights=arrays.weights, packed=tuple(packed), output=arrays.output,
        schedule={"source": "default", "strategy": rules.STRATEGY, "point": point,
                  "packing": {"block": p.block, "across_groups": p.across_groups}},
    )  # fmt: skip


def check(spec: DeformSpec, machine: Machine, choice: Choice) -> None:
    """Raise ValueError where ``choice`` does not fit."""
    rules_for(machine).deform.plan_of(spec, machine, choice)


def spaces(spec: DeformSpec, machine: Machine) -> dict[str, Space]:
    """The space of each strategy for ``spec``, by name."""
    rules = rules_for(machine).deform
    return {rules.STRATEGY: rules.space(spec, machine)}
