"""One kernel of an operator: from the operator and a machine to an object file and the facts about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tvm
from tvm import tirx

from tvmconv.base.errors import SpecError, TargetError
from tvmconv.compiler.codegen.kernel import named, symbol_of, written
from tvmconv.compiler.codegen.nest import Array, parameter
from tvmconv.compiler.lower import generated, lowered, parallel_loops, workspace_of
from tvmconv.compiler.operators import copy, gather, matmul, normalise, recurrent, reduce, resize
from tvmconv.compiler.operators import map as map_
from tvmconv.formats.choice import Choice
from tvmconv.formats.kernel import Kernel, Param
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import AnyMachine, Machine
from tvmconv.specs.operators import (
    Copy,
    Gather,
    Map,
    MatMul,
    Normalise,
    Operator,
    Recurrent,
    Reduce,
    Resize,
    Scatter,
    Type,
)  # fmt: skip
from tvmconv.specs.work import Work

_BODIES: dict[type[Operator], Callable[[Any, Machine, list[Array], list[Array]], tirx.Stmt]] = {
    Map: map_.body, Copy: copy.body, Reduce: reduce.body,
    Normalise: normalise.body, Resize: resize.body, MatMul: matmul.body, Recurrent: recurrent.body,
    Gather: gather.gather_body, Scatter: gather.scatter_body,
}  # fmt: skip
# As what the kernel takes elements, where that is another type.
_STORED: dict[type[Operator], Callable[[Type], Type]] = {
    Copy: copy.stored, Gather: gather.stored, Reduce: reduce.stored,
}  # fmt: skip


def kernel_func(op: Operator, machine: Machine, pitches: Mapping[str, int] | None = None) -> tirx.PrimFunc:
    """``(inputs..., outputs...)``, not yet lowered. ``pitches``: of arrays whose rows lie apart. Raises
    SpecError for a kind that is no operator of its own, a layer."""
    pitches = pitches or {}
    if type(op) not in _BODIES:
        raise SpecError(f"operator: {op}, expected one of {', '.join(kind.kind for kind in _BODIES)}")
    stored = _STORED.get(type(op), lambda type_: type_)
    inputs = [
        parameter(f"x{number}", stored(type_), pitches.get(f"x{number}", 0))
        for number, type_ in enumerate(op.inputs)
    ]
    outputs = [
        parameter(f"y{number}", stored(type_), pitches.get(f"y{number or ''}", 0))
        for number, type_ in enumerate(op.infer())
    ]
    if any(type_.size for type_ in op.infer()):
        body = _BODIES[type(op)](op, machine, inputs, outputs)
    else:
        body = tirx.Evaluate(tirx.const(0, "int32"))
    return tirx.PrimFunc([array.buffer for array in (*inputs, *outputs)], body)


def module_for(
    work: Work, machine: AnyMachine, choice: Choice | None = None, symbol: str | None = None
) -> tuple[tvm.IRModule, dict[str, Any]]:
    """What ``build_kernel`` lowers, and how it is scheduled. Raises as it does."""
    op: Any = work.dense
    if isinstance(machine, GpuMachine):
        raise TargetError(f"{work}: for {machine.name}, expected a CPU")
    if choice is not None:
        raise ValueError(f"{work}: a recorded schedule, expected none")
    func = kernel_func(op, machine, work.pitches)
    return named({symbol or symbol_of(work): func}), {"source": "default", "strategy": op.kind}


def build_kernel(
    work: Work, machine: AnyMachine, choice: Choice | None = None, symbol: str | None = None
) -> Kernel:
    """Compile an operator, or one with pitches, for a CPU, with the one schedule it has. ``symbol``: the
    object's, if not ``symbol_of(work)``.

    The object exports ``__tvm_ffi_<symbol>(inputs..., outputs...)``; flags (bool) are bytes, 0 or 1. A map's
    result may lie where an input of its shape and element size does. Raises TargetError, and SpecError where
    an array has more elements than can be indexed.
    """
    op: Any = work.dense
    symbol = symbol or symbol_of(work)
    scheduled, schedule = module_for(work, machine, choice, symbol)
    assert isinstance(machine, Machine)  # as that has checked
    target = llvm_target(machine)
    module = lowered(scheduled, target)
    code = module[symbol].body
    inputs = tuple(_param(work, f"x{number}", type_) for number, type_ in enumerate(op.inputs))
    output, *more = (_param(work, f"y{number or ''}", type_) for number, type_ in enumerate(op.infer()))
    return Kernel(
        symbol=symbol, descriptor=str(work), object=written(generated(module, target)), inputs=inputs,
        weights=(), packed=(), output=output, more_outputs=tuple(more), parallel=parallel_loops(code),
        workspace=workspace_of(code), order=tuple(one.name for one in (*inputs, output, *more)),
        schedule=schedule,
    )  # fmt: skip


def _param(work: Work, name: str, type_: Type) -> Param:
    return Param(name, type_.shape, type_.dtype, pitch=work.pitches.get(name, 0))
