"""Each lowering pass on loop nests of a few lines: what it makes of them, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import tirx
from tvm.script import tirx as T

from tvmconv.compiler.lower import lower_cpu
from tvmconv.compiler.lower.copies import CopyInVectors
from tvmconv.compiler.lower.crossed import CrossTiles
from tvmconv.compiler.lower.dots import LowerDots, dot_product
from tvmconv.compiler.lower.guards import GuardSums, MoveGuards
from tvmconv.compiler.lower.loops import ShapeLoops
from tvmconv.compiler.lower.masks import BlankPadding
from tvmconv.compiler.lower.spills import KeepTiles
from tvmconv.compiler.lower.unrolled_choices import WriteOutChoices
from tvmconv.compiler.lower.windows import LoadWindows
from tvmconv.compiler.lower.words import LoadWords, word
from tvmconv.schedules.dots import DOTS

AVX512 = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "skylake-avx512"}
VNNI = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "cascadelake"}


def after(transform, before: tirx.PrimFunc, target: dict = AVX512) -> tirx.Stmt:
    """What the pass makes of the body."""
    with tvm.target.Target(target):
        return transform(tvm.IRModule({"f": before}))["f"].body


def check(transform, before: tirx.PrimFunc, expected: tirx.PrimFunc) -> None:
    """The pass makes ``expected`` of ``before``, whatever the variables are called."""
    tvm.ir.assert_structural_equal(after(transform, before), expected.body, map_free_vars=True)


def simple(body: tirx.Stmt) -> tirx.Stmt:
    """``body`` with its sums of indices in one form."""
    func = tirx.PrimFunc([], body)
    return tirx.transform.StmtSimplify()(tvm.IRModule({"f": func}))["f"].body


def nodes(body: tirx.Stmt, kind: type) -> list:
    """All nodes of a kind."""
    found: list = []
    tvm_ffi.structural_walk(body, [(kind, found.append)])
    return found


# ---- guards ----


def test_a_guard_of_one_loop_shortens_it() -> None:
    @T.prim_func
    def before(x: T.Buffer((16,), "float32"), y: T.Buffer((1,), "float32")):
        for i in range(16):
            y[0] = y[0] + T.if_then_else(i >= 3 and i < 8, x[i], T.float32(0))

    @T.prim_func
    def expected(x: T.Buffer((16,), "float32"), y: T.Buffer((1,), "float32")):
        for i in range(5):
            y[0] = y[0] + x[i + 3]

    check(MoveGuards, before, expected)


def test_a_guard_leaves_the_loops_it_does_not_depend_on() -> None:
    @T.prim_func
    def before(x: T.Buffer((512, 4), "float32"), y: T.Buffer((512,), "float32"), n: T.int32):
        for i in range(4):
            y[n] = y[n] + T.if_then_else(n < 100, x[n, i], T.float32(0)) * x[n, 0]

    @T.prim_func
    def expected(x: T.Buffer((512, 4), "float32"), y: T.Buffer((512,), "float32"), n: T.int32):
        if n < 100:
            for i in range(4):
                y[n] = y[n] + x[n, i] * x[n, 0]

    check(MoveGuards, before, expected)


def test_a_guard_that_always_holds_goes() -> None:
    @T.prim_func
    def before(x: T.Buffer((8,), "float32"), y: T.Buffer((1,), "float32")):
        for i in range(8):
            y[0] = y[0] + T.if_then_else(i < 8, x[i], T.float32(0))

    @T.prim_func
    def expected(x: T.Buffer((8,), "float32"), y: T.Buffer((1,), "float32")):
        for i in range(8):
            y[0] = y[0] + x[i]

    check(MoveGuards, before, expected)


def test_a_guard_that_never_holds_takes_all_with_it() -> None:
    @T.prim_func
    def before(x: T.Buffer((8,), "float32"), y: T.Buffer((1,), "float32")):
        for i in range(8):
            y[0] = y[0] + T.if_then_else(i > 8, x[i], T.float32(0))

    assert isinstance(after(MoveGuards, before), tirx.Evaluate)


def test_what_is_no_sum_with_a_zero_keeps_its_condition() -> None:
    @T.prim_func
    def before(x: T.Buffer((8,), "float32"), y: T.Buffer((8,), "float32")):
        for i in range(8):
            y[i] = T.if_then_else(i < 5, x[i], T.float32(0))  # a copy: zeros have to be written
        for i in range(8):
            y[0] = y[0] + T.if_then_else(i < 5, x[i], T.float32(1))  # another value than 0
        for i in range(8):
            y[0] = T.max(y[0], T.if_then_else(i < 5, x[i], T.float32(0)))  # 0 is not the least

    check(MoveGuards, before, before)


def test_a_maximum_with_the_least_value_is_guarded_too() -> None:
    @T.prim_func
    def before(x: T.Buffer((8,), "int8"), y: T.Buffer((1,), "int8")):
        for i in range(8):
            y[0] = T.max(y[0], T.if_then_else(i < 5, x[i], T.int8(-128)))

    @T.prim_func
    def expected(x: T.Buffer((8,), "int8"), y: T.Buffer((1,), "int8")):
        for i in range(5):
            y[0] = T.max(y[0], x[i])

    check(MoveGuards, before, expected)


def test_for_threads_a_masked_sum_becomes_a_branch_where_it_is() -> None:
    @T.prim_func
    def before(x: T.Buffer((8,), "float32"), y: T.Buffer((1,), "float32")):
        for i in range(8):
            y[0] = y[0] + T.if_then_else(i < 5, x[i], T.float32(0))

    @T.prim_func
    def expected(x: T.Buffer((8,), "float32"), y: T.Buffer((1,), "float32")):
        for i in range(8):
            if i < 5:
                y[0] = y[0] + x[i]

    check(GuardSums, before, expected)


# ---- copies ----


def test_a_short_copy_is_made_of_vectors() -> None:
    @T.prim_func
    def before(x: T.Buffer((80,), "float32"), y: T.Buffer((70,), "float32")):
        for i, j in T.grid(7, 10):
            y[i * 10 + j] = x[i * 11 + j + 1]

    @T.prim_func
    def expected(x: T.Buffer((80,), "float32"), y: T.Buffer((70,), "float32")):
        for i in range(7):
            for j in T.vectorized(4):
                y[i * 10 + j] = x[i * 11 + j + 1]
            for j in T.vectorized(4):
                y[i * 10 + (j + 4)] = x[i * 11 + (j + 4) + 1]
            for j in T.vectorized(2):
                y[i * 10 + (j + 8)] = x[i * 11 + (j + 8) + 1]

    made = after(CopyInVectors, before)
    tvm.ir.assert_structural_equal(simple(made), simple(expected.body), map_free_vars=True)


def test_copies_that_stay() -> None:
    @T.prim_func
    def before(x: T.Buffer((200,), "float32"), y: T.Buffer((400,), "float32")):
        for j in range(65):  # long enough for a loop of its own
            y[j] = x[j]
        for j in range(8):  # not of neighbours
            y[j] = x[j * 2]
        for j in range(8):
            y[j * 2] = x[j]
        for j in range(8):  # no copy
            y[j] = x[j] + T.float32(1)

    check(CopyInVectors, before, before)


# ---- loops ----


def test_a_peeled_loop_is_cut_and_parts_of_one_iteration_are_no_loops() -> None:
    @T.prim_func
    def before(y: T.Buffer((8,), "float32")):
        for i in T.serial(8, annotations={"tvmconv.peel": [1, 7]}):
            y[i] = T.float32(2)

    @T.prim_func
    def expected(y: T.Buffer((8,), "float32")):
        y[0] = T.float32(2)
        for i in range(6):
            y[i + 1] = T.float32(2)
        y[7] = T.float32(2)

    check(ShapeLoops, before, expected)


def test_vectors_and_a_shorter_last_one() -> None:
    @T.prim_func
    def before(y: T.Buffer((11,), "float32")):
        for i in T.serial(11, annotations={"tvmconv.vectors": 4}):
            y[i] = T.float32(2)

    @T.prim_func
    def expected(y: T.Buffer((11,), "float32")):
        for i in range(2):
            for lane in T.vectorized(4):
                y[i * 4 + lane] = T.float32(2)
        for i in range(1):
            for lane in T.vectorized(3):
                y[i * 3 + lane + 8] = T.float32(2)

    check(ShapeLoops, before, expected)


def test_one_parallel_loop_of_several() -> None:
    @T.prim_func
    def before(y: T.Buffer((3, 4), "float32")):
        for i in T.serial(3, annotations={"tvmconv.parallel": 2}):
            for j in range(4):
                y[i, j] = T.float32(2)

    @T.prim_func
    def expected(y: T.Buffer((3, 4), "float32")):
        for task in T.parallel(12):
            i: T.let[T.int32] = task // 4
            with T.attr(i, "tvmconv.range", 3):
                j: T.let[T.int32] = task % 4
                with T.attr(j, "tvmconv.range", 4):
                    y[i, j] = T.float32(2)

    check(ShapeLoops, before, expected)


def test_loops_without_a_mark_stay() -> None:
    @T.prim_func
    def before(y: T.Buffer((8,), "float32")):
        for i in T.unroll(2):
            for j in T.vectorized(4):
                y[i * 4 + j] = T.float32(2)

    check(ShapeLoops, before, before)


# ---- windows ----


def test_every_second_element_is_two_loads_and_a_shuffle() -> None:
    @T.prim_func
    def before(x: T.Buffer((16,), "float32"), y: T.Buffer((4,), "float32")):
        y[0:4] = x[T.Ramp(2, 2, 4)]

    (store,) = nodes(after(LoadWindows, before), tirx.BufferStore)
    assert isinstance(store.value, tirx.Shuffle)
    starts = [(int(load.indices[0].base), int(load.indices[0].lanes)) for load in store.value.vectors]
    assert starts == [(2, 4), (5, 4)]  # elements 2 to 8, not one more; the second overlaps the first
    assert [int(i) for i in store.value.indices] == [0, 2, 5, 7]
    elements = [start + lane for start, lanes in starts for lane in range(lanes)]
    assert [elements[int(i)] for i in store.value.indices] == [2, 4, 6, 8]


def test_one_element_for_all_lanes_is_a_broadcast() -> None:
    @T.prim_func
    def before(x: T.Buffer((16,), "float32"), y: T.Buffer((4,), "float32")):
        y[0:4] = x[T.Ramp(3, 1, 4) // T.Broadcast(8, 4)]

    @T.prim_func
    def expected(x: T.Buffer((16,), "float32"), y: T.Buffer((4,), "float32")):
        y[0:4] = T.Broadcast(x[0], 4)

    check(LoadWindows, before, expected)


def test_dense_scalar_and_far_apart_loads_stay() -> None:
    @T.prim_func
    def before(x: T.Buffer((512,), "float32"), y: T.Buffer((4,), "float32")):
        y[0:4] = x[T.Ramp(4, 1, 4)]
        y[0] = x[5]
        y[0:4] = x[T.Ramp(0, 100, 4)]

    check(LoadWindows, before, before)


# ---- words and dot products ----


def _words(places: list[int]) -> tirx.PrimFunc:
    """One word of four bytes of x into y."""
    x, y = tirx.decl_buffer((64,), "int8", "x"), tirx.decl_buffer((1,), "int32", "y")
    value = word([tirx.BufferLoad(x, [tirx.const(at, "int32")]) for at in places])
    return tirx.PrimFunc([x, y], tirx.BufferStore(y, value, [tirx.const(0, "int32")]))


def test_neighbours_are_one_load_of_a_word() -> None:
    (store,) = nodes(after(LoadWords, _words([8, 9, 10, 11])), tirx.BufferStore)
    assert store.value.op.name.endswith("reinterpret")
    (load,) = store.value.args
    assert (int(load.indices[0].base), int(load.indices[0].lanes)) == (8, 4)


@pytest.mark.parametrize("places", [[8, 9, 10, 12], [11, 10, 9, 8]])
def test_others_are_shifted_into_their_places(places: list[int]) -> None:
    (store,) = nodes(after(LoadWords, _words(places)), tirx.BufferStore)
    assert [int(load.indices[0]) for load in nodes(store.value, tvm.ir.TensorLoad)] == places
    assert not [call for call in nodes(store.value, tvm.ir.Call) if call.op.name == "tvmconv.word"]


def _dot(lanes: int) -> tirx.PrimFunc:
    kind = f"int32x{lanes}" if lanes > 1 else "int32"
    a, b, y = (tirx.decl_buffer((64,), "int32", name) for name in "aby")
    at = tirx.Ramp(0, 1, lanes) if lanes > 1 else tirx.const(0, "int32")
    vectors = [tirx.BufferLoad(buffer, [at]) for buffer in (y, a, b)]
    call = dot_product(DOTS["vpdpbusd"], vectors[1], vectors[2])
    call = tvm.ir.Call(call.op, list(call.args), ret_ty=kind)
    return tirx.PrimFunc([a, b, y], tirx.BufferStore(y, vectors[0] + call, [at]))


def intrinsics(body: tirx.Stmt) -> list[str]:
    named = (c for c in nodes(body, tvm.ir.Call) if c.op.name.endswith("call_llvm_pure_intrin"))
    return [tvm.target.codegen.llvm_get_intrinsic_name(int(c.args[0])) for c in named]


def test_a_dot_product_is_the_instruction_where_there_is_one() -> None:
    assert intrinsics(after(LowerDots, _dot(16), VNNI)) == ["llvm.x86.avx512.vpdpbusd.512"]
    assert intrinsics(after(LowerDots, _dot(1), VNNI)) == ["llvm.x86.avx512.vpdpbusd.128"]  # filled up
    assert intrinsics(after(LowerDots, _dot(16), AVX512)) == []  # written out


def test_a_shorter_dot_product_moves_none_of_its_lanes() -> None:
    func = _dot(14).with_attr("global_symbol", "f")
    code = lower_cpu(tvm.IRModule({"f": func}), tvm.target.Target(VNNI)).inspect_source("asm")
    assert "vpdpbusd" in code and "vperm" not in code


def test_a_dot_product_written_out_is_right() -> None:
    func = _dot(1).with_attr("global_symbol", "f")
    built = lower_cpu(tvm.IRModule({"f": func}), tvm.target.Target({**AVX512, "mcpu": "x86-64"}))
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-(2**31), 2**31, 64, "int64").astype("int32") for _ in range(2))
    y = np.full(64, 7, "int32")
    tensors = [tvm.runtime.tensor(v) for v in (a, b, y)]
    built["f"](*tensors)
    expected = 7 + int(a[:1].view("uint8").astype(int) @ b[:1].view("int8").astype(int))
    assert tensors[2].numpy()[0] == expected


# ---- tiles transposed in registers ----


def _across(height: int, width: int, dtype: str) -> tirx.PrimFunc:
    size = height * width

    @T.prim_func
    def func(x: T.Buffer((size,), dtype), y: T.Buffer((size,), dtype)):
        for o in T.unroll(width):
            y[T.Ramp(o * height, 1, height)] = x[T.Ramp(o, width, height)]

    return func


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("height", "width"), [(14, 32), (16, 16), (7, 24), (3, 5), (2, 2), (28, 16)])
def test_a_tile_is_loaded_by_rows_and_stored_by_columns(height: int, width: int, dtype: str) -> None:
    func = _across(height, width, dtype)
    body = after(CrossTiles, func)
    vectors = [load.indices[0] for load in nodes(body, tvm.ir.TensorLoad) if str(load.source.name) == "x"]
    assert all(not isinstance(at, tirx.Ramp) or int(at.stride) == 1 for at in vectors)
    lanes = [int(at.lanes) if isinstance(at, tirx.Ramp) else 1 for at in vectors]
    assert sum(lanes) == height * width and max(lanes) <= 16  # each element once
    built = lower_cpu(
        tvm.IRModule({"f": func.with_attr("global_symbol", "f")}),
        tvm.target.Target({**AVX512, "mcpu": "x86-64"}),
    )
    x = np.arange(height * width).astype(dtype)
    tensors = [tvm.runtime.tensor(v) for v in (x, np.zeros_like(x))]
    built["f"](*tensors)
    np.testing.assert_array_equal(tensors[1].numpy(), x.reshape(height, width).T.ravel())


def test_a_serial_loop_is_not_transposed() -> None:
    @T.prim_func
    def before(x: T.Buffer((64,), "float32"), y: T.Buffer((64,), "float32")):
        for o in range(8):
            y[T.Ramp(o * 8, 1, 8)] = x[T.Ramp(o, 8, 8)]

    check(CrossTiles, before, before)


# ---- choices, masks, tiles ----


def test_a_choice_by_an_unrolled_loop_is_made_while_compiling() -> None:
    @T.prim_func
    def before(x: T.Buffer((2,), "float32"), y: T.Buffer((2,), "float32")):
        for i in T.unroll(2):
            y[i] = T.Select(i == 0, x[0], x[1] * T.float32(2))

    @T.prim_func
    def expected(x: T.Buffer((2,), "float32"), y: T.Buffer((2,), "float32")):
        y[0] = x[0]
        y[1] = x[1] * T.float32(2)

    check(WriteOutChoices, before, expected)


def test_a_choice_by_a_serial_loop_stays() -> None:
    @T.prim_func
    def before(x: T.Buffer((2,), "float32"), y: T.Buffer((2,), "float32")):
        for i in range(2):
            y[i] = T.Select(i == 0, x[0], x[1] * T.float32(2))

    check(WriteOutChoices, before, before)


def test_a_vector_of_padded_x_in_a_sum_is_loaded_from_a_place_that_is_there() -> None:
    @T.prim_func
    def before(x: T.Buffer((64,), "float32"), y: T.Buffer((4,), "float32"), at: T.int32):
        y[0:4] = y[T.Ramp(0, 1, 4)] + T.if_then_else(
            at < 60, x[T.Ramp(at, 1, 4)], T.Broadcast(T.float32(0), 4)
        ) * T.Broadcast(T.float32(2), 4)  # fmt: skip

    @T.prim_func
    def expected(x: T.Buffer((64,), "float32"), y: T.Buffer((4,), "float32"), at: T.int32):
        y[0:4] = y[T.Ramp(0, 1, 4)] + T.Select(
            at < 60, x[T.Ramp(T.Select(at < 60, at, 0), 1, 4)], T.Broadcast(T.float32(0), 4)
        ) * T.Broadcast(T.float32(2), 4)  # fmt: skip

    check(BlankPadding, before, expected)


def test_a_copy_with_its_padding_keeps_the_branch() -> None:
    @T.prim_func
    def before(x: T.Buffer((64,), "float32"), y: T.Buffer((4,), "float32"), at: T.int32):
        y[0:4] = T.if_then_else(at < 60, x[T.Ramp(at, 1, 4)], T.Broadcast(T.float32(0), 4))

    check(BlankPadding, before, before)


def _tile(elements: int, scope: str) -> tirx.AllocBuffer:
    buffer = tirx.decl_buffer((elements,), "float32", "tile", scope=scope)
    store = tirx.BufferStore(buffer, tirx.const(0, "float32"), [tirx.const(0, "int32")])
    func = tirx.PrimFunc([], tirx.SeqStmt([tirx.AllocBuffer(buffer), store]))
    (found,) = nodes(after(KeepTiles, func), tirx.AllocBuffer)
    return found


def test_register_tiles_stay_on_the_stack_and_large_or_shared_buffers_do_not() -> None:
    assert "disable_lower_builtin" in _tile(64, "local").annotations
    assert "disable_lower_builtin" not in _tile(1 << 14, "local").annotations
    assert "disable_lower_builtin" not in _tile(64, "global").annotations
