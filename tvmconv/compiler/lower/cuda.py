"""The passes from a scheduled s_tir function to CUDA source, and the launches of its kernels."""

from __future__ import annotations

import re
from importlib.resources import files

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.target import Target

from tvmconv.compiler.lower.dots import LowerDots
from tvmconv.compiler.lower.gpu_threads import SpreadLoops
from tvmconv.compiler.lower.guards import GuardSums
from tvmconv.compiler.lower.mma import LowerMma
from tvmconv.compiler.lower.nan import KeepNaNOnGpu
from tvmconv.compiler.lower.words import LoadWords
from tvmconv.formats.device_code import Launch

_AXES = tuple(f"{kind}.{axis}" for kind in ("blockIdx", "threadIdx") for axis in "xyz")
_REGISTERS = 1 << 16  # of a multiprocessor
_DEVICE = 2  # calling_conv of what runs on a GPU


def cuda_target(sm: int) -> Target:
    """TVM's target for the compute capability ``sm``."""
    return Target({"kind": "cuda", "arch": f"sm_{sm}", "max_threads_per_block": 1024, "thread_warp_size": 32,
                   "max_shared_memory_per_block": 48 << 10, "registers_per_block": _REGISTERS})


def lower_cuda(mod: tvm.IRModule, sm: int) -> tuple[str, dict[str, tuple[Launch, ...]]]:
    """CUDA source of an IRModule of scheduled functions, and the launches of each."""
    target = cuda_target(sm)
    mod = tirx.transform.BindTarget(target.with_host(Target("llvm")))(mod)
    with target:
        mod = tvm.ir.transform.Sequential(_passes())(mod)
        device = tvm.IRModule({v: f for v, f in mod.functions.items() if _on_device(f)})
        device = tvm.ir.transform.Sequential(_device_passes())(device)
        text = tvm.get_global_func("target.build.cuda")(device, target).inspect_source()
    host = {v.name_hint: f for v, f in mod.functions.items() if not _on_device(f)}
    return _source(text), {name: _launches(func) for name, func in host.items()}


def _on_device(func: tirx.PrimFunc) -> bool:
    return int(func.attrs.get("calling_conv", 0)) == _DEVICE


def _passes() -> list[tvm.ir.transform.Pass]:
    s, t = s_tir.transform, tirx.transform
    return [
        s.CanonicalizeLoop(), s.LowerCrossThreadReduction(), s.LowerInitBlock(),
        s.PlanAndUpdateBufferAllocationLocation(), s.ConvertBlocksToOpaque(), s.LiftThreadBinding(),
        s.CompactBufferAllocation(), s.UnifyThreadBinding(), s.LowerMatchBuffer(), s.StmtSimplify(),
        s.LowerOpaqueBlock(), SpreadLoops, t.ConvertSSA(), GuardSums, t.FlattenBuffer(),
        LowerMma, t.BF16ComputeLegalize(), t.NarrowDataType(32), t.VectorizeLoop(True), KeepNaNOnGpu,
        LoadWords, LowerDots, s.InjectVirtualThread(), t.StorageRewrite(), t.UnrollLoop(),
        s.RenormalizeSplitPattern(), t.StmtSimplify(), t.RemoveNoOp(), t.CommonSubexprElim(),
        t.VerifyMemory(), t.AnnotateEntryFunc(), s.ThreadSync("shared"), s.LowerThreadAllreduce(),
        t.SplitHostDevice(),
    ]


def _device_passes() -> list[tvm.ir.transform.Pass]:
    t = tirx.transform
    return [t.BF16StorageLegalize(), t.LowerWarpMemory(), t.StmtSimplify(), t.LowerIntrin()]


def _source(text: str) -> str:
    """TVM's kernels with our own prelude: TVM's needs headers that are missing if there is only NVRTC."""
    kernels = text[text.index('extern "C" __global__') :]
    kernels = re.sub(r'extern "C" __global__[^;{]*;\n', "", kernels)  # declarations
    kernels = re.sub(r"__launch_bounds__\((\d+)\)", _launch_bounds, kernels)
    parts = ["prelude.cuh", *(["mma.cuh"] if "tcv_mma<" in kernels else [])]
    before = [(files("tvmconv.compiler.lower") / part).read_text(encoding="ascii") for part in parts]
    return "\n".join([*before, kernels.strip(), ""])


def _launch_bounds(match: re.Match[str]) -> str:
    """The bounds with which a thread has up to 128 registers: with one more, only half as many threads would
    fit."""
    threads = int(match.group(1))
    blocks = _REGISTERS // (128 * threads)
    return f"__launch_bounds__({threads}, {blocks})" if 1 <= blocks <= 4 else match.group()


def _launches(func: tirx.PrimFunc) -> tuple[Launch, ...]:
    """The launches that a host function makes, in order; operands by their position in its parameters."""
    places = {param.name: i for i, param in enumerate(func.params)}
    aliases: dict[str, int] = {}
    found: list[Launch] = []

    def declared(stmt: tirx.DeclBuffer) -> None:
        data = stmt.data
        if isinstance(data, tvm.ir.Call):
            aliases[stmt.buffer.name] = places[data.args[0].name]

    def called(call: tvm.ir.Call) -> None:
        if call.op.name != "tirx.call_ffi_kernel":
            return
        name, *operands = call.args
        tags = list(call.attrs.launch_params)
        operands, extents = operands[: -len(tags)], operands[-len(tags) :]
        sizes = {str(tag): int(extent) for tag, extent in zip(tags, extents, strict=True)}
        gx, gy, gz, bx, by, bz = (sizes.pop(axis, 1) for axis in _AXES)
        if sizes:
            raise AssertionError(f"launch parameters {sizes}, expected none beyond grid and block")
        at = tuple(aliases[operand.args[0].name] for operand in operands)
        found.append(Launch(name.value, (gx, gy, gz), (bx, by, bz), at))

    tvm_ffi.structural_walk(func.body, [(tirx.DeclBuffer, declared), (tvm.ir.Call, called)], order="pre")
    return tuple(found)
