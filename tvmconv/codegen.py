"""One kernel: from a spec and a machine to an object file and the facts about it."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import asdict
from pathlib import Path

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.target import Target

from tvmconv.artifact.kernel import Kernel, Param
from tvmconv.errors import TargetError
from tvmconv.lower import lower_cpu
from tvmconv.ops import conv
from tvmconv.ops.problem import Problem, problem_of
from tvmconv.schedules import cpu
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan
from tvmconv.spec import ConvSpec


def symbol_of(spec: ConvSpec) -> str:
    """The C identifier that a kernel's object uses for ``spec``."""
    return "k_" + hashlib.sha256(str(spec).encode()).hexdigest()[:16]


def llvm_target(machine: Machine) -> Target:
    """TVM's target for ``machine``. Raises TargetError where LLVM does not know the CPU."""
    description = {"kind": "llvm", "mtriple": machine.triple, "mcpu": machine.cpu}
    if machine.features:
        description["mattr"] = [f"+{feature}" for feature in machine.features]
    known = tvm.target.codegen.llvm_get_cpu_archlist(Target({"kind": "llvm", "mtriple": machine.triple}))
    if machine.cpu not in known:
        raise TargetError(f"target: cpu {machine.cpu!r} of {machine.name}, expected one that LLVM knows")
    return Target(description)


def scheduled(spec: ConvSpec, machine: Machine) -> tuple[tvm.IRModule, Problem, Plan]:
    """The scheduled kernel and its prepack function, before lowering, as one module."""
    problem = problem_of(spec)
    plan = cpu.plan(problem, machine)
    func = conv.kernel_func(problem, plan.packing, bias=spec.bias, activation=spec.activation)
    sch = Schedule(_any_alignment(func))
    plan.apply(sch)
    prepack = _any_alignment(conv.prepack_func(problem, plan.packing, bias=spec.bias))
    symbol = symbol_of(spec)
    mod = tvm.IRModule({
        symbol: sch.mod["main"].with_attr("global_symbol", symbol),
        f"{symbol}_prepack": prepack.with_attr("global_symbol", f"{symbol}_prepack"),
    })
    return mod, problem, plan


def build_kernel(spec: ConvSpec, machine: Machine) -> Kernel:
    """Compile ``spec``, one that ``check_supported`` lets pass, for ``machine``. Raises TargetError."""
    mod, problem, plan = scheduled(spec, machine)
    module = lower_cpu(mod, llvm_target(machine))
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        path = Path(folder, "kernel.o")
        module.write_to_file(str(path), "o")
        code = path.read_bytes()
    layout = "HWIO" if spec.channels_last else "OIHW"
    weights = [Param("w", spec.weight_shape, spec.dtype, layout, problem.weight_shape)]
    packed = [Param("packed_w", plan.packing.shape(problem), spec.dtype)]
    if spec.bias:
        seen = (problem.groups, problem.out_group)
        weights.append(Param("bias", spec.bias_shape, spec.dtype, "O", seen))
        packed.append(Param("packed_bias", spec.bias_shape, spec.dtype, "", seen))
    return Kernel(
        symbol=symbol_of(spec), descriptor=str(spec), object=code,
        inputs=(Param("x", spec.input_shape, spec.dtype, spec.layout, problem.x_shape()),),
        weights=tuple(weights), packed=tuple(packed),
        output=Param("y", spec.output_shape, spec.out_dtype, spec.layout, problem.y_shape),
        schedule={"source": "default", "strategy": plan.strategy, "point": plan.point,
                  "packing": asdict(plan.packing)},
        flops=spec.flops,
    )


def _any_alignment(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """``func`` with its parameters aligned to one element: TVM would assume 64 bytes and load so."""
    fresh = [
        (b, tirx.decl_buffer(b.shape, b.dtype, b.name, data_alignment=tvm.DataType(b.dtype).itemsize))
        for b in func.params
    ]

    def swap(var: tirx.Var) -> tirx.Var:
        return next((new for old, new in fresh if old.same_as(var)), var)

    return tvm_ffi.structural_map(func, [(tirx.Var, swap)])
