"""A result stored at another index than where it was computed, which TE cannot express."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock

Place = Callable[[Sequence[tirx.Expr]], tuple[Sequence[tirx.Expr], list[tirx.Expr]]]


def with_placed_result(func: tirx.PrimFunc, shape: Sequence[int], place: Place) -> tirx.PrimFunc:
    """``func`` with its last parameter, the result, of another ``shape``.

    ``place(indices)`` maps the indices of a computed element to its indices in the result, and the conditions
    under which it is stored. Different elements must have different places.
    """
    old = func.params[-1]
    new = tirx.decl_buffer(shape, old.dtype, old.name)

    def moved(block: SBlock) -> SBlock:
        if len(block.writes) == 0 or not block.writes[0].source.same_as(old):
            return block
        store = block.body
        indices, conditions = place(store.indices)
        body = tirx.BufferStore(new, store.value, indices)
        if conditions:
            body = tirx.IfThenElse(tirx.all(*conditions), body, None)
        point = [tvm.ir.Range.from_min_extent(index, 1) for index in indices]
        return SBlock(
            block.iter_vars, block.reads, [tirx.BufferRegion(new, point)], block.name_hint, body, block.init,
            block.alloc_buffers, block.match_buffers, block.annotations,
        )  # fmt: skip

    func = tvm_ffi.structural_map(func, [(SBlock, moved)])
    return tvm_ffi.structural_map(func, [(tirx.Var, lambda var: new if var.same_as(old) else var)])
