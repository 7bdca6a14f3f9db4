"""Vectors of padded x within a sum: loaded from a valid place, and blanked.

``inside ? x[at] : 0`` would be a branch for each such vector. As ``inside ? x[inside ? at : 0] : 0``, where
both choices select values rather than branch, it is one load, masked if the machine supports it. TVM's
simplifier would drop the inner choice, so this pass comes after it.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.rewrite import func_pass, is_choice


def _blanked(call: tvm.ir.Call) -> tirx.Expr:
    if not is_choice(call):
        return call
    inside, value, otherwise = call.args
    if tvm.DataType(str(inside.ty.dtype)).lanes > 1 or not _is_vector_of_x(value):
        return call
    (index,) = value.indices
    start = tirx.Select(inside, index.base, tirx.const(0, index.base.ty.dtype))
    there = tirx.BufferLoad(value.source, [tirx.Ramp(start, index.stride, index.lanes)])
    return tirx.Select(inside, there, otherwise)


def _is_vector_of_x(value: tirx.Expr) -> bool:
    if not isinstance(value, tvm.ir.TensorLoad) or len(value.indices) != 1:
        return False
    (index,) = value.indices
    return isinstance(index, tirx.Ramp) and isinstance(index.stride, tirx.IntImm) and index.stride.value == 1


def _in_sums(store: tirx.BufferStore) -> tirx.BufferStore:
    if isinstance(store.value, tvm.ir.Call):  # a copy: there is nothing but the branch
        return store
    value = tvm_ffi.structural_map(store.value, [(tvm.ir.Call, _blanked)])
    return tirx.BufferStore(store.buffer, value, store.indices)


def _blank_padding(body: tirx.Stmt) -> tirx.Stmt:
    calls: list[tvm.ir.Call] = []
    tvm_ffi.structural_walk(body, [(tvm.ir.Call, calls.append)])
    if not any(map(is_choice, calls)):  # which is cheaper to check than visiting all stores
        return body
    return tvm_ffi.structural_map(body, [(tirx.BufferStore, _in_sums)])


BlankPadding = func_pass("tvmconv.BlankPadding", _blank_padding)
