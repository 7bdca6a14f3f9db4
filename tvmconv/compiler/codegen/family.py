"""What a family of specs hands over for code generation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule

from tvmconv.formats.kernel import Param
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan


@dataclass(frozen=True)
class Scheduled:
    """A kernel before lowering: ``kernel(inputs..., packed..., output)`` scheduled, ``prepack(weights...,
    packed...)`` where there are weights, and the arrays of both in that order."""

    kernel: tirx.PrimFunc
    prepack: tirx.PrimFunc | None
    inputs: tuple[Param, ...]
    weights: tuple[Param, ...]
    packed: tuple[Param, ...]
    output: Param
    schedule: dict[str, Any] = field(default_factory=dict)


def rules_for(machine: Machine | GpuMachine) -> Any:
    """The package of strategies for ``machine``."""
    from tvmconv.schedules import cpu, cuda

    return cuda if isinstance(machine, GpuMachine) else cpu


def apply(plan: Plan, func: tirx.PrimFunc) -> tirx.PrimFunc:
    """``func`` as ``plan`` schedules it."""
    sch = Schedule(func)
    plan.apply(sch)
    return sch.mod["main"]
