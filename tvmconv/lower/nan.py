"""Maxima that keep NaN: a reduction ``acc = max(acc, v)`` of floats takes over a v that is NaN.

A target's own maximum gives the other operand for one side or the other. The comparison with ``acc`` stays
a plain one, which is false where ``acc`` is NaN.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.lower.rewrite import func_pass


def _keeping(store: tirx.BufferStore) -> tirx.BufferStore:
    value = store.value
    if not (isinstance(value, tirx.Max) and value.ty.dtype.startswith("float")):
        return store
    acc, new = value.a, value.b
    if not (isinstance(acc, tvm.ir.TensorLoad) and acc.source.same_as(store.buffer)):
        return store
    larger = tirx.Select(tirx.GT(new, acc), new, acc)
    nan = tirx.const(float("nan"), new.ty.dtype)  # were it `new`, LLVM would make one choice of the two
    return tirx.BufferStore(store.buffer, tirx.Select(tirx.isnan(new), nan, larger), store.indices)


KeepNaN = func_pass(
    "tvmconv.KeepNaN", lambda body: tvm_ffi.structural_map(body, [(tirx.BufferStore, _keeping)])
)
