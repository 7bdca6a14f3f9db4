"""Tensor cores: a loop nest of products of tiles becomes a call of the function for it in ``mma.cuh``.

``tvmconv.mma = 1`` marks the outermost of five nested loops over row tiles, column tiles, the two rows and
the two columns of a tile that a thread has sums of, and the sums' length. The instruction defines which
thread has which: row ``threadIdx.y`` of eight, columns ``2 * threadIdx.x`` of eight and the next.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.rewrite import func_pass
from tvmconv.schedules.dots import GPU

MMA = "tvmconv.mma"
BYTES = 32  # of each factor of a sum, an instruction
_KINDS = {"float16": "tcv_f16", "bfloat16": "tcv_bf16"}


def _called(loop: tirx.For) -> tirx.Stmt:
    if int(loop.annotations.get(MMA, 0)) == 0:
        return loop
    loops = [loop]
    while len(loops) < 5:
        loops.append(loops[-1].body)
    store, extents = loops[-1].body, [int(each.extent) for each in loops]
    tile, row, half, pair, k = (each.loop_var for each in loops)
    kind, a, b = _factors(store.value)
    length = BYTES // tvm.DataType(str(a.ty.dtype)).itemsize
    if extents[2:] != [2, 2, length]:
        raise AssertionError(f"{MMA} of loops {extents}, expected [.., .., 2, 2, {length}]")
    sums = _strides(store.indices[0], (tile, half, row, pair), (k,))
    rows = _strides(a.indices[0], (tile, half), (row, pair), k)
    columns = _strides(b.indices[0], (row, pair), (tile, half), k)
    numbers = ", ".join(map(str, [*extents[:2], *sums, *rows, *columns]))
    first = {each.loop_var: tirx.const(0, each.loop_var.ty.dtype) for each in loops}
    operands: list[tirx.Expr] = []
    for buffer, indices, mask in ((store.buffer, store.indices, 3), (a.source, a.indices, 1),
                                  (b.source, b.indices, 1)):  # fmt: skip
        # Of the whole buffer, since together the threads read all of it: barriers are placed accordingly.
        operands += [buffer.access_ptr(mask), _at(indices[0], first)]
    return tirx.Evaluate(tirx.call_extern("void", f"tcv_mma<{kind}, {numbers}>", *operands))


def _factors(value: tirx.Add) -> tuple[str, tvm.ir.TensorLoad, tvm.ir.TensorLoad]:
    """(what multiplies, the rows' factor, the columns') of ``sum + cast(a) * cast(b)``, or of
    ``sum + dot(a, b)``."""
    product = value.b
    if isinstance(product, tvm.ir.Call):
        a, b = product.args
        return "tcv_" + product.op.name.partition(GPU)[2], a, b
    a, b = product.a.value, product.b.value
    return _KINDS[str(a.ty.dtype)], a, b


def _at(index: tirx.Expr, values: dict) -> tirx.Expr:
    def swap(var: tirx.Var) -> tirx.Expr:
        return next((value for known, value in values.items() if var.same_as(known)), var)

    return tvm_ffi.structural_map(index, [(tirx.Var, swap)])


def _strides(index: tirx.Expr, along: tuple, still: tuple, unit: tirx.Var | None = None) -> list[int]:
    """How far apart in memory neighbours along each variable are: 0 for ``still``, 1 for ``unit``."""
    analyzer, found = tvm.sym.Analyzer(), []
    for var in (*along, *still, *([] if unit is None else [unit])):
        zero, one = tirx.const(0, var.ty.dtype), tirx.const(1, var.ty.dtype)
        step = analyzer.simplify(_at(index, {var: one}) - _at(index, {var: zero}))
        if not isinstance(step, tirx.IntImm):
            raise AssertionError(f"{MMA}: {index} is not linear in {var}: {step}")
        found.append(int(step))
    expected = [0] * len(still) + [1] * (unit is not None)
    if found[len(along) :] != expected:
        raise AssertionError(f"{MMA}: strides {found} of {index}, expected {expected} last")
    return found[: len(along)]


LowerMma = func_pass(
    "tvmconv.LowerMma", lambda body: tvm_ffi.structural_map(body, [(tirx.For, _called)])
)
