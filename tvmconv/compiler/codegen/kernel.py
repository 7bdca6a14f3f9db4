"""One kernel: from a spec and a machine to an object file and the facts about it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.base import scratch
from tvmconv.base.errors import SpecError
from tvmconv.compiler.codegen.family import Scheduled, family_of
from tvmconv.compiler.codegen.params import with_params
from tvmconv.compiler.codegen.pitches import apart
from tvmconv.compiler.lower import generated, lower_cpu, lowered, parallel_loops, workspace_of
from tvmconv.formats.choice import Choice
from tvmconv.formats.kernel import Kernel
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import CHOSEN_BY_MODEL, Machine
from tvmconv.schedules.plan import Space
from tvmconv.specs.checks import most_workspace
from tvmconv.specs.kinds import Spec
from tvmconv.specs.work import Work


def symbol_of(spec: object) -> str:
    """The C identifier that a kernel's object uses for ``spec``."""
    return "k_" + hashlib.sha256(str(spec).encode()).hexdigest()[:16]


def scheduled(spec: Spec, machine: Machine | GpuMachine, choice: Choice | None = None) -> Scheduled:
    """The kernel of ``spec``, scheduled for ``machine`` and not yet lowered; by ``choice`` instead of the
    rules if there is one. Raises ValueError where that does not fit."""
    return family_of(spec).scheduled(spec, machine, choice)


def spaces(spec: Spec, machine: Machine | GpuMachine) -> dict[str, Space]:
    """The space of each strategy for ``spec`` on ``machine``, by name."""
    return family_of(spec).spaces(spec, machine)


def check_choice(spec: Spec, machine: Machine | GpuMachine, choice: Choice) -> None:
    """Raise ValueError where ``choice`` does not fit; cheaper than scheduling by it."""
    family_of(spec).check(spec, machine, choice)


def module_of(symbol: str, made: Scheduled) -> tvm.IRModule:
    """The kernel and its prepack function under the names that the object file gives them."""
    functions = {symbol: made.kernel}
    if made.prepack is not None:
        functions[f"{symbol}_prepack"] = made.prepack
    return named(functions)


def module_for(
    work: Work, machine: Machine | GpuMachine, choice: Choice | None = None
) -> tuple[tvm.IRModule, dict[str, Any]]:
    """What ``build_kernel`` lowers: the kernel, called ``symbol_of(work)``, and its prepack function; and how
    it is scheduled. Raises as it does."""
    spec: Any = work.dense
    made = apart(scheduled(spec, machine, choice), work, machine)
    return module_of(symbol_of(work), made), made.schedule


def named(functions: dict[str, tirx.PrimFunc]) -> tvm.IRModule:
    """A module that exports ``functions`` by their names."""
    return tvm.IRModule(
        {name: _any_alignment(func).with_attr("global_symbol", name) for name, func in functions.items()}
    )


def object_of(functions: dict[str, tirx.PrimFunc], machine: Machine) -> bytes:
    """An object file that exports ``functions`` by their names."""
    return written(lower_cpu(named(functions), llvm_target(machine)))


def written(built: tvm.runtime.Module) -> bytes:
    with scratch.memory_file("kernel.o") as path:  # on a full disk LLVM would end the process
        built.write_to_file(str(path), "o")
        return path.read_bytes()


def assembly_of(spec: Spec, machine: Machine, choice: Choice | None = None) -> str:
    """The machine code of the kernel alone, as text. Raises as ``build_kernel`` does."""
    functions = {symbol_of(spec): scheduled(spec, machine, choice).kernel}
    return lower_cpu(named(functions), llvm_target(machine)).inspect_source("asm")


class Packers:
    """Objects of prepack functions: candidates for one spec mostly differ only in the kernel."""

    def __init__(self) -> None:
        self._made: dict[tuple[Machine, int, int], tuple[str, bytes]] = {}  # and the symbol in it

    def get(self, prepack: tirx.PrimFunc, symbol: str, machine: Machine) -> bytes:
        """An object that exports ``prepack`` for ``symbol``."""
        key = machine, tvm_ffi.structural_hash(prepack), len(symbol)  # another length would move what follows
        if key not in self._made:
            self._made[key] = symbol, object_of({f"{symbol}_prepack": prepack}, machine)
        name, code = self._made[key]
        return code.replace(name.encode(), symbol.encode())


def build_kernel(
    work: Work, machine: Machine | GpuMachine, choice: Choice | None = None, symbol: str | None = None,
    packers: Packers | None = None,
) -> Kernel:  # fmt: skip
    """Compile a spec, or one with pitches, which has passed ``check_supported``, for ``machine``, by
    ``choice`` instead of the rules if there is one. ``symbol``: the object's, if not ``symbol_of(work)``.
    ``packers``: take the prepack function from there, for a CPU. Raises TargetError, SpecError where an array
    or the workspace is too large, and ValueError where a choice does not fit."""
    spec: Any = work.dense
    symbol = symbol or symbol_of(work)
    made = apart(scheduled(spec, machine, choice), work, machine)
    device, packer, parallel, workspace = None, b"", (), (0, 0)
    if isinstance(machine, GpuMachine):
        from tvmconv.compiler.codegen import cuda  # with it a GPU's schedules

        code, device = cuda.compiled(symbol, module_of(symbol, made), machine)
    else:
        if packers is not None and made.prepack is not None:
            packer = packers.get(made.prepack, symbol, machine)
            made = replace(made, prepack=None)
        target = llvm_target(machine)
        module = lowered(module_of(symbol, made), target)
        body = module[symbol].body
        parallel, workspace = parallel_loops(body), _bounded(spec, made, workspace_of(body))
        code = written(generated(module, target))
    schedule = made.schedule
    if choice is None and isinstance(machine, Machine) and machine.name in CHOSEN_BY_MODEL:
        schedule = {**schedule, "chosen_by": f"llvm-mca for {machine.cpu}"}
    return Kernel(
        symbol=symbol, descriptor=str(work), object=code, inputs=made.inputs, weights=made.weights,
        packed=made.packed, output=made.output, schedule=schedule, flops=spec.flops, device=device,
        packer=packer, parallel=parallel, workspace=workspace,
        order=tuple(operand.name for operand in spec.signature()),
    )  # fmt: skip


def _bounded(spec: Spec, made: Scheduled, workspace: tuple[int, int]) -> tuple[int, int]:
    """``workspace``. Raises SpecError if it is out of all proportion to the arrays."""
    most = most_workspace(sum(p.nbytes for p in (*made.inputs, *made.weights, made.output)))
    if sum(workspace) > most:
        what = f"workspace: {sum(workspace)} bytes for {spec}"
        raise SpecError(f"{what}, expected at most {most}: 8 times its arrays and 64 MiB")
    return workspace


def _any_alignment(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """``func`` with its parameters aligned to one element: TVM would assume 64 bytes and use aligned
    loads."""
    fresh = [
        tirx.decl_buffer(
            b.shape, b.dtype, b.name, strides=b.strides or None, data_alignment=tvm.DataType(b.dtype).itemsize
        )
        for b in func.params
    ]
    return with_params(func, fresh)
