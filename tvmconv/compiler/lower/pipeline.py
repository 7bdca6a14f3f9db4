"""The passes from a scheduled s_tir function to what LLVM takes, for a CPU."""

from __future__ import annotations

import tvm
from tvm import s_tir, tirx
from tvm.target import Target

from tvmconv.compiler.lower.ahead import AskAhead
from tvmconv.compiler.lower.amx import MultiplyTiles
from tvmconv.compiler.lower.amx_settings import SetUpTiles
from tvmconv.compiler.lower.beside import PipelineTiles
from tvmconv.compiler.lower.chosen_once import ChooseOnce
from tvmconv.compiler.lower.copies import CopyInVectors
from tvmconv.compiler.lower.crossed import CrossTiles, LetGo
from tvmconv.compiler.lower.dots import LowerDots
from tvmconv.compiler.lower.guards import MoveGuards
from tvmconv.compiler.lower.kept import KeepArrays
from tvmconv.compiler.lower.lets import SpellOutLets
from tvmconv.compiler.lower.loops import ShapeLoops
from tvmconv.compiler.lower.masks import BlankPadding
from tvmconv.compiler.lower.missing_instructions import WriteOut
from tvmconv.compiler.lower.nan import KeepNaN
from tvmconv.compiler.lower.spills import AlignSpills, KeepTiles
from tvmconv.compiler.lower.unrolled_choices import WriteOutChoices
from tvmconv.compiler.lower.windows import LoadWindows
from tvmconv.compiler.lower.words import LoadWords
from tvmconv.compiler.lower.workspace import check_indices


def lower_cpu(mod: tvm.IRModule, target: Target) -> tvm.runtime.Module:
    """An LLVM module from an IRModule of scheduled functions."""
    return generated(lowered(mod, target), target)


def lowered(mod: tvm.IRModule, target: Target) -> tvm.IRModule:
    """What LLVM takes of an IRModule of scheduled functions. Raises SpecError for an array with more elements
    than can be indexed."""
    target = _without_scalable_vectors(target)
    mod = tirx.transform.BindTarget(target.with_host(target))(mod)
    with target:
        mod = tvm.ir.transform.Sequential(_shaping())(mod)
        check_indices(mod)
        return tvm.ir.transform.Sequential(_passes(target))(mod)


def _without_scalable_vectors(target: Target) -> Target:
    """``target`` for TVM's passes: with RISC-V's V they would make vectors of other lengths than scheduled,
    and fail; LLVM takes fixed ones."""
    triple = str(target.attrs.get("mtriple", ""))
    if not triple.startswith("riscv64"):
        return target
    return Target({"kind": "llvm", "mtriple": triple, "mcpu": "generic-rv64", "mabi": "lp64d",
                   "mattr": [f"+{name}" for name in "mafdc"]})  # fmt: skip


def _has_tiles(target: Target) -> bool:
    return tvm.target.codegen.target_has_features("amx-int8", target)


def generated(mod: tvm.IRModule, target: Target) -> tvm.runtime.Module:
    """An LLVM module of what was lowered."""
    with target:
        return tvm.get_global_func("target.build.llvm")(mod, target)


def _shaping() -> list[tvm.ir.transform.Pass]:
    """Loops and arrays in their final form."""
    s, t = s_tir.transform, tirx.transform
    return [
        s.CanonicalizeLoop(), s.LowerInitBlock(), s.PlanAndUpdateBufferAllocationLocation(),
        s.ConvertBlocksToOpaque(), s.CompactBufferAllocation(), s.LowerMatchBuffer(),
        s.StmtSimplify(), s.LowerOpaqueBlock(),
        AskAhead, ChooseOnce, WriteOutChoices, ShapeLoops, t.ConvertSSA(), MoveGuards, t.ConvertSSA(),
    ]


def _passes(target: Target) -> list[tvm.ir.transform.Pass]:
    """The remaining passes, on flat arrays with 32-bit indices."""
    s, t = s_tir.transform, tirx.transform
    return [
        t.FlattenBuffer(), t.BF16ComputeLegalize(), t.NarrowDataType(32),
        *([MultiplyTiles, PipelineTiles, t.ConvertSSA()] if _has_tiles(target) else []),
        WriteOut, CopyInVectors, t.VectorizeLoop(True), KeepNaN,
        CrossTiles, LoadWords, LoadWindows, LowerDots,
        t.StorageRewrite(), t.StmtSimplify(), s.RenormalizeSplitPattern(), t.RemoveNoOp(),
        t.UnrollLoop(), t.StmtSimplify(),  # a second pass has little left to do, and by then the code is long
        LetGo, BlankPadding, t.VerifyMemory(),
        t.SplitHostDevice(), t.MakePackedAPI(), t.SkipAssert(),  # the library checks the arguments
        t.BF16StorageLegalize(),
        SpellOutLets, SetUpTiles, KeepTiles, KeepArrays, t.LowerTVMBuiltin(), t.LowerIntrin(),
        *([AlignSpills] if str(target.attrs["mtriple"]).startswith("x86_64") else []),
    ]
