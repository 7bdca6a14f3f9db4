"""A scheduled kernel into machine code for GPUs."""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.s_tir import Schedule

from tvmconv.compiler import cuda_toolchain
from tvmconv.compiler.lower.cuda import lower_cuda
from tvmconv.formats.device_code import DeviceCode
from tvmconv.schedules.cuda.tiles import spread_block
from tvmconv.schedules.gpu_machines import GpuMachine


def compiled(symbol: str, module: tvm.IRModule, machine: GpuMachine) -> tuple[bytes, DeviceCode]:
    """Cubins, one after the other, of the kernel ``symbol`` in ``module`` and its prepack function, which is
    not scheduled yet. Raises TargetError: no compiler, or one that does not know a compute capability."""
    prepack = f"{symbol}_prepack"
    functions = {v.name_hint: func for v, func in module.functions.items()}
    if prepack in functions:
        functions[prepack] = _an_element_a_thread(functions[prepack])
    source, launches = lower_cuda(tvm.IRModule(functions), machine.sms[0])
    cubins = [(sm, cuda_toolchain.cubin(source, sm)) for sm in machine.sms]
    return b"".join(code for _, code in cubins), DeviceCode(
        source=source, compiler=cuda_toolchain.find().name,
        sizes=tuple((sm, len(code)) for sm, code in cubins),
        run=launches[symbol], prepack=launches.get(prepack, ()),
    )  # fmt: skip


def _an_element_a_thread(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A thread for each element of the result of ``func``; it sums what its own element needs."""
    sch = Schedule(func)
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        for consumer in sch.get_consumers(block):
            sch.compute_at(block, sch.get_loops(consumer)[-1], preserve_unit_loops=True)
            sch.set_scope(block, 0, "local")
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        if not sch.get_consumers(block):
            spread_block(sch, block)
    return sch.mod["main"]
