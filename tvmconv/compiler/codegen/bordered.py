"""Convolutions whose padding is not zeros: a kernel without padding, and before it, in the same function, the
copy of x with its borders that it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import tvm_ffi
from tvm import s_tir, tirx
from tvm.s_tir import Schedule

from tvmconv.base.errors import TargetError
from tvmconv.compiler.codegen.family import Scheduled
from tvmconv.compiler.ops.border import bordered_func
from tvmconv.compiler.ops.problem import problem_of
from tvmconv.formats.kernel import Param
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import AnyMachine
from tvmconv.specs.conv import ConvSpec, without_borders


def scheduled(
    spec: ConvSpec, machine: AnyMachine, of_inner: Callable[[ConvSpec], Scheduled]
) -> Scheduled:
    """The scheduled kernel of ``spec``, given how to get that of its inner one. Raises TargetError."""
    if isinstance(machine, GpuMachine):
        what = f"padding_mode: {spec.padding_mode!r} for {machine.name}"
        raise TargetError(f"{what}, expected 'zeros' on a GPU, or x padded beforehand")
    from tvmconv.schedules.cpu import border

    inner = without_borders(spec)
    made = of_inner(inner)
    given, *others = made.inputs
    shape = given.kernel_shape or given.shape
    sch = Schedule(bordered_func(spec, shape))
    lo = spec.padding[-1][0]
    border.schedule(sch, problem_of(inner), machine, (lo, lo + spec.in_spatial[-1]))
    x = Param("x", spec.input_shape, spec.dtype, spec.layout)
    kernel = _after(sch.mod["main"], made.kernel)
    return replace(made, kernel=kernel, inputs=(x, *others))


def _after(first: tirx.PrimFunc, then: tirx.PrimFunc) -> tirx.PrimFunc:
    """``then`` on what ``first``, of two parameters, makes of its one: ``(first's, then's others...)``."""
    x, made = first.params
    read, *others = then.params
    between = tirx.decl_buffer(read.shape, read.dtype, "bordered")
    parts = _root(first, made, between), _root(then, read, between)
    buffers = [between, *(buffer for part in parts for buffer in part.alloc_buffers)]
    body = tirx.SeqStmt([part.body for part in parts])
    block = s_tir.SBlock([], [], [], "root", body, None, buffers)
    return tirx.PrimFunc([x, *others], s_tir.SBlockRealize([], True, block), then.ret_type, then.attrs)


def _root(func: tirx.PrimFunc, old: tirx.Var, new: tirx.Var) -> s_tir.SBlock:
    """The outermost block of ``func``, with ``new`` for its parameter ``old``."""
    body = tvm_ffi.structural_map(func.body, [(tirx.Var, lambda v: new if v.same_as(old) else v)])
    return body.block
