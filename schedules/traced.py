"""Convolutions scheduled by a trace of meta_schedule's own space, ``post-order-apply``.

The trace belongs to one TE function: the direct convolution on weights in the channels-last layout. The trace
is all that a schedule's point holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace

from tvmconv.base.errors import TuningError
from tvmconv.compiler.ops.direct import ALGORITHM
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem
from tvmconv.formats.choice import META, TRACE
from tvmconv.formats.logs import trace_rules
from tvmconv.schedules.plan import Plan, Space

STRATEGY = META


def fits(p: Problem, machine: Any) -> bool:
    """Whether ``p`` is an ordinary convolution of floats, in the form to which traces belong."""
    return not p.flipped and not p.weights_first


def space(p: Problem, machine: Any) -> Space:
    """None: a trace is not a choice among values."""
    return {}


def plan_of(p: Problem, machine: Any, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for a trace. Raises ValueError if it does not fit, as far as can be told without replaying it;
    ``apply`` raises it as well."""
    point = point or {}
    text = point.get(TRACE)
    if len(point) != 1 or not isinstance(text, str):
        raise ValueError(f"strategy {META!r}: knobs {', '.join(point)}, expected {TRACE}")
    told = {TRACE: hashlib.sha256(text.encode()).hexdigest()[:12]}  # the record has it in full
    return Plan(STRATEGY, ALGORITHM, packing(p), lambda sch: replay(sch, text), told)


def packing(p: Problem) -> Packing:
    """That of the function to which traces belong."""
    return Packing(p.groups * p.out_group, across_groups=True) if p.groups > 1 else Packing(p.out_group)


def replay(sch: Schedule, text: str) -> None:
    """Schedule ``sch`` by a trace. Raises ValueError, and TuningError for one that holds more than
    meta_schedule's own do."""
    wrong = trace_rules.refusal(text)
    if wrong is not None:
        raise TuningError(f"{TRACE}: {wrong}")
    trace = json.loads(text)
    try:
        Trace.apply_json_to_schedule(trace, sch)
    except Exception as error:  # TVM has no exception class for errors in a trace
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"{TRACE}: {why}, expected one of this kernel") from None
    _, decided = plain(sch.trace.as_json())
    # TVM replaces decisions that do not fit.
    for given, made in zip(sorted(trace[1]), decided, strict=True):
        if given != made:
            raise ValueError(f"{TRACE}: decision {given}, expected one of this kernel, such as {made}")
    if _parallel_within(sch.mod["main"].body) > 1:
        raise ValueError(f"{TRACE}: a parallel loop in another, expected none within")


def _parallel_within(stmt: Any) -> int:
    """How many parallel loops lie within one another, at most."""
    found = [0]

    def count(loop: tirx.For) -> None:
        if loop.kind == tirx.ForKind.PARALLEL:
            found.append(1 + _parallel_within(loop.body))

    tvm_ffi.structural_walk(stmt, [(tirx.For, count)])
    return max(found)


def plain(value: Any) -> Any:
    """A trace's containers and numbers as Python has them, and JSON."""
    if value is None or isinstance(value, (str, int, float)):
        return str(value) if isinstance(value, str) else value
    return value.value if hasattr(value, "value") else [plain(part) for part in value]
