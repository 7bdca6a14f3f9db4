"""Weights and x asked for ahead of their use: which of them, when, and by which instructions."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tvm
import tvm_ffi
from checking import assert_right, random_arrays
from tvm import tirx
from tvm.script import tirx as T

import tvmconv
from tvmconv.compiler.codegen import kernel
from tvmconv.compiler.lower import lower_cpu
from tvmconv.compiler.lower.ahead import AskAhead
from tvmconv.compiler.lower.rewrite import substitute
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import resolve
from tvmconv.specs.conv import ConvSpec

_LINE = 16  # floats of a cache line
_LARGE = "conv2d:1x72x89x101:o40:k1x1:NCHW:float32:bias"
_PLANES = "conv2d:1x160x60x61:o160:k7x7:s2:p3:g160:NCHW:float32:bias"
_TAPS = "conv2d:1x256x8x8:o144:k3x3:s2:p1:NCHW:float32:bias"
_TAPS_LAST = "conv2d:1x14x14x256:o272:k3x3:s2:p1:NHWC:float32:bias"
_STRIDED = "conv2d:1x14x14x1024:o592:k1x1:s2:NHWC:float32:bias"
_TRANSFORMED = "conv2d:1x8x8x256:o144:k3x3:p1:NHWC:float32:bias"
_ROWS = "conv2d:1x300x14x14:o300:k1x1:NCHW:float32:bias"
_BYTES = "conv2d:1x8x8x256:o72:k3x3:p1:NHWC:int8/int32"
_POINTWISE = "conv2d:1x7x7x512:o144:k1x1:NHWC:float32:bias:relu"


def test_each_iteration_asks_for_what_a_later_one_reads() -> None:
    @T.prim_func
    def before(x: T.Buffer((64,), "float32"), w: T.Buffer((64, 40), "float32"),
               y: T.Buffer((40,), "float32")):  # fmt: skip
        for i in T.serial(64, annotations={"tvmconv.ahead": [5, 160]}):
            for o in range(40):
                y[o] = y[o] + x[i] * w[i, o]

    first = [(i + 5) * 40 for i in range(64)]
    assert _asked(before) == [[at, at + 16, at + 32] for at in first]


@pytest.mark.parametrize("passes", [2, 3, 5, 17])
def test_the_passes_share_the_next_panel(passes: int) -> None:
    @T.prim_func
    def before(x: T.Buffer((17, 64), "float32"), w: T.Buffer((4, 64, 48), "float32"),
               y: T.Buffer((17, 48), "float32")):  # fmt: skip
        for n in T.serial(passes, annotations={"tvmconv.passes": 1}):
            for i in T.serial(64, annotations={"tvmconv.next": 64 * 48}):
                for o in range(48):
                    y[n, o] = y[n, o] + x[n, i] * w[2, i, o]

    asked = _asked(before)
    panel = range(3 * 64 * 48 // _LINE, 4 * 64 * 48 // _LINE)  # its lines: those of the last of four
    lines = [at // _LINE for each in asked for at in each]
    assert len(asked) == passes * 64 and set(panel) <= set(lines)
    assert len(set(lines)) <= 1.25 * len(panel), "little beyond the panel"
    assert max(map(len, asked)) == -(-48 // passes // _LINE) or max(map(len, asked)) == 1


def test_tiles_and_taps_within_a_pass_share_too() -> None:
    @T.prim_func
    def before(x: T.Buffer((6, 3, 32), "float32"), w: T.Buffer((4, 3, 32, 48), "float32"),
               y: T.Buffer((6, 48), "float32")):  # fmt: skip
        for n in T.serial(2, annotations={"tvmconv.passes": 1}):
            for t in range(3):
                for k in range(3):
                    for i in T.serial(32, annotations={"tvmconv.next": 3 * 32 * 48}):
                        for o in range(48):
                            y[n * 3 + t, o] += x[n * 3 + t, k, i] * w[2, k, i, o]

    lines = [at // _LINE for each in _asked(before) for at in each]
    assert set(lines) == set(range(3 * 3 * 32 * 48 // _LINE, 4 * 3 * 32 * 48 // _LINE))
    assert lines == sorted(lines)


@pytest.mark.parametrize(("blocks", "count"), [(1, 1), (2, 1), (3, 2), (7, 1)])
def test_all_that_a_strip_is_for_shares_the_next_one(blocks: int, count: int) -> None:
    strip, rows, length = 4 * 48, 6, 1000

    @T.prim_func
    def before(x: T.Buffer((rows, length), "float32"), w: T.Buffer((rows,), "float32"),
               y: T.Buffer((blocks, 1000), "float32")):  # fmt: skip
        for s in T.serial(3, annotations={"tvmconv.strips": strip}):
            for o in range(blocks):
                for t in range(4):
                    for i in T.serial(rows // count, annotations={"tvmconv.rows": [length, count]}):
                        for at in range(48):
                            y[o, s * 192 + t * 48 + at] += w[i] * x[i * count, s * 192 + t * 48 + at]

    asked = _asked(before)
    each = len(asked) // 3  # of a strip's
    for s in range(3):
        lines = {at // _LINE for one in asked[s * each : (s + 1) * each] for at in one}
        wanted = {
            (row * length + at) // _LINE
            for row in range(rows)
            for at in range((s + 1) * strip, (s + 2) * strip, _LINE)
        }
        assert wanted <= lines and len(lines) <= 1.35 * len(wanted)


def _asked(before: tirx.PrimFunc) -> list[list[int]]:
    """The places in w, or x, that each iteration of the innermost annotated loop asks for, in order."""
    func = AskAhead(tvm.IRModule({"f": before}))["f"]
    found: list[list[int]] = []

    def run(stmt: tirx.Stmt, values: dict) -> None:
        if isinstance(stmt, tirx.For):
            for at in range(int(stmt.extent)):
                run(stmt.body, {**values, stmt.loop_var: tirx.const(at, "int32")})
        elif isinstance(stmt, tirx.SeqStmt):
            loads: list[tvm.ir.TensorLoad] = []
            for ask in stmt.seq[:-1]:
                assert "prefetch" in str(ask)
                tvm_ffi.structural_walk(ask, [(tvm.ir.TensorLoad, loads.append)])
            found.append([_place(load, values) for load in loads])

    run(func.body, {})
    return found


def _place(load: tvm.ir.TensorLoad, values: dict) -> int:
    place = 0
    for index, size in zip(load.indices, load.source.shape, strict=True):
        for var, value in values.items():
            index = substitute(index, var, value)
        place = place * int(size) + int(tvm.sym.Analyzer().simplify(index))
    return place


@pytest.mark.parametrize("target, instruction", [
    ("x86-64-v4", r"\tprefetcht1\t(-?\d*)\((%\w+)\)"),
    ("cortex-a72", r"\tprfm\tpldl2keep, \[(x\d+), #2048\]"),
    ("riscv64", None),
])  # fmt: skip
def test_machine_code_asks(target: str, instruction: str | None) -> None:
    """Not where the target has no instruction."""

    @T.prim_func
    def before(x: T.Buffer((64,), "float32"), w: T.Buffer((4096,), "float32"), y: T.Buffer((16,), "float32")):
        for i in T.serial(64, annotations={"tvmconv.ahead": [32, 64]}):
            for o in T.vectorized(16):
                y[o] = y[o] + x[i] * w[i * 16 + o]

    func = before.with_attr("global_symbol", "f")
    code = lower_cpu(tvm.IRModule({"f": func}), llvm_target(resolve(target))).inspect_source("s")
    asked = re.findall(instruction or "prefetch", code)
    assert bool(asked) == (instruction is not None)
    if target == "cortex-a72":
        assert re.search(rf"\tldp?r?\t.*\[{asked[0]}\b", code)
    if target == "x86-64-v4":
        places, (base, *_) = [int(place or 0) for place, _ in asked], {register for _, register in asked}
        read = [int(place or 0) for place in re.findall(rf"\tv.*?(-?\d*)\({base}\)", code)]
        assert {place - 32 * 64 for place in places} <= set(read)


@pytest.mark.parametrize(("target", "text"), [
    ("x86-64-v4", _POINTWISE), ("znver4", _LARGE), ("x86-64-v3", _TAPS), ("sapphirerapids", _PLANES),
    ("sapphirerapids", _TAPS_LAST), ("x86-64-v4", _STRIDED), ("x86-64-v3", _TRANSFORMED),
    ("x86-64-v4", _ROWS), ("sapphirerapids", _BYTES),
])  # fmt: skip
def test_layers_of_many_weights_or_a_large_x_ask(target: str, text: str) -> None:
    machine, spec = resolve(target), ConvSpec.parse(text)
    module = kernel.module_of("f", kernel.scheduled(spec, machine))
    assert "prefetcht1" in lower_cpu(module, llvm_target(machine)).inspect_source("s")
    function = tvmconv.compile({"f": spec}).load()["f"]
    arrays = random_arrays(spec)
    assert_right(spec, np.asarray(function(*arrays)), *arrays)
