"""Kernels that are there twice: a fast one for weights that are small enough, and one for any. Weights are
packed for both, with a flag that says which of them runs."""

from __future__ import annotations

from dataclasses import replace

import tvm_ffi
from tvm import s_tir, tirx

from tvmconv.compiler.codegen.family import Scheduled
from tvmconv.formats.kernel import Param

_SMALL = Param("packed_w_is_small", (1,), "int32")
_OTHER = "_otherwise"  # the end of names of what the second kernel takes


def either(small: Scheduled, other: Scheduled, check: tirx.PrimFunc) -> Scheduled:
    """``small`` if weights are, as ``check``, of them and the flag that it makes, finds; otherwise
    ``other``."""
    flag = tirx.decl_buffer((1,), "int32", _SMALL.name)
    inputs = len(small.inputs)
    *first, y = small.kernel.params
    mine = other.kernel.params[inputs:-1]
    body = tirx.IfThenElse(tirx.NE(flag[0], tirx.const(0, "int32")), small.kernel.body,
                           _with(other.kernel, [*first[:inputs], *mine, y]))
    assert small.prepack is not None and other.prepack is not None
    return replace(
        small, kernel=_func([*first, *mine, flag, y], body, small.kernel),
        prepack=packing_both(small.prepack, other.prepack, check, len(small.weights)),
        packed=(*small.packed, *(replace(p, name=p.name + _OTHER) for p in other.packed), _SMALL),
    )  # fmt: skip


def packing_both(
    small: tirx.PrimFunc, other: tirx.PrimFunc, check: tirx.PrimFunc, weights: int
) -> tirx.PrimFunc:
    """A function that packs for both kernels, of so many ``weights``, and packs the flag."""
    given, flag = small.params[:weights], check.params[-1]
    mine = other.params[weights:]
    body = tirx.SeqStmt([small.body, _with(other, [*given, *mine]), _with(check, [given[0], flag])])
    return _func([*small.params, *mine, flag], body, small)


def _with(func: tirx.PrimFunc, params: list) -> tirx.Stmt:
    """The body of ``func`` on other parameters."""
    pairs = list(zip(func.params, params, strict=True))

    def swap(var: tirx.Var) -> tirx.Var:
        return next((new for old, new in pairs if old.same_as(var)), var)

    return tvm_ffi.structural_map(func.body, [(tirx.Var, swap)])


def _func(params: list, body: tirx.Stmt, like: tirx.PrimFunc) -> tirx.PrimFunc:
    block = s_tir.SBlock([], [], [], "either", body)
    return tirx.PrimFunc(params, s_tir.SBlockRealize([], True, block), like.ret_type, like.attrs)
