"""Convolutions scheduled by a trace of meta_schedule's own space, ``post-order-apply``, not by a strategy.

The trace belongs to one TE function: the direct convolution on weights that lie as channels-last ones do. It
is all that a schedule's point holds.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace

from tvmconv.base.dtypes import FLOATS
from tvmconv.base.errors import TuningError
from tvmconv.compiler.codegen.family import apply
from tvmconv.compiler.ops import conv
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, problem_of
from tvmconv.formats.choice import META, TRACE, Choice
from tvmconv.formats.logs import trace_rules
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan
from tvmconv.specs.conv import ConvSpec


def refusal(spec: Any, machine: Machine | GpuMachine) -> str | None:
    """Why meta_schedule's space does not take ``spec``; None if it does."""
    if not isinstance(spec, ConvSpec) or spec.transposed:
        return f"{spec}, expected a convolution that is not transposed"
    if spec.dtype not in FLOATS:
        return f"{spec}, expected floats (the sums of its 8-bit products may saturate)"
    if spec.algorithm not in (None, "direct"):
        return f"{spec}, expected no algorithm but direct"
    return None if spec.batch else f"{spec}, expected a batch"


def function(spec: ConvSpec) -> tirx.PrimFunc:
    """What a trace is of: ``spec``'s kernel, unscheduled."""
    p = problem_of(spec)
    return conv.kernel_func(
        p, _packing(p), bias=spec.bias, residual=spec.residual, activation=spec.activation,
        out_dtype=spec.out_dtype,
    )  # fmt: skip


def plan(spec: ConvSpec, machine: Machine | GpuMachine, choice: Choice) -> Plan:
    """The plan for a trace. Raises ValueError where it does not fit, as far as that shows without replaying
    it; ``apply`` raises it as well."""
    wrong = refusal(spec, machine)
    if wrong is not None:
        raise ValueError(f"strategy {META!r}: {wrong}")
    text = choice.point.get(TRACE)
    if len(choice.point) != 1 or not isinstance(text, str):
        raise ValueError(f"strategy {META!r}: knobs {', '.join(choice.point)}, expected {TRACE}")
    told = {TRACE: hashlib.sha256(text.encode()).hexdigest()[:12]}  # the record has it in full
    return Plan(META, _packing(problem_of(spec)), lambda sch: replay(sch, text), told)


def check(spec: ConvSpec, machine: Machine | GpuMachine, choice: Choice) -> None:
    """Raise ValueError where a trace does not fit."""
    apply(plan(spec, machine, choice), function(spec))


def replay(sch: Schedule, text: str) -> None:
    """Schedule ``sch`` by a trace. Raises ValueError, and TuningError for one that holds more than
    meta_schedule's own do."""
    wrong = trace_rules.refusal(text)
    if wrong is not None:
        raise TuningError(f"{TRACE}: {wrong}")
    trace = json.loads(text)
    try:
        Trace.apply_json_to_schedule(trace, sch)
    except Exception as error:  # TVM has no class for what a trace may get wrong
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"{TRACE}: {why}, expected one of this kernel") from None
    _, decided = plain(sch.trace.as_json())
    # TVM replaces a decision that does not fit.
    for given, made in zip(sorted(trace[1]), decided, strict=True):
        if given != made:
            raise ValueError(f"{TRACE}: decision {given}, expected one of this kernel, such as {made}")


def plain(value: Any) -> Any:
    """A trace's containers and numbers as Python has them, and JSON."""
    if value is None or isinstance(value, (str, int, float)):
        return str(value) if isinstance(value, str) else value
    return value.value if hasattr(value, "value") else [plain(part) for part in value]


def _packing(p: Problem) -> Packing:
    return Packing(p.groups * p.out_group, across_groups=True) if p.groups > 1 else Packing(p.out_group)
