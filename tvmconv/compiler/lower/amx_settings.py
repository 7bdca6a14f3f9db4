"""What shapes AMX's registers have.

They are set once for all the iterations of a parallel loop that a thread takes in a row, or, where the code
in it needs several settings, whenever those change.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.kept import LAUNCH
from tvmconv.compiler.lower.rewrite import func_pass, sequence, with_parts

SHAPES = "tvmconv.tile_shapes"  # AttrStmt: registers have these, as text
PRODUCT = "tvmconv.tile_product"  # AttrStmt: one of two tiles, which are loaded if need be

Shape = tuple[int, int]
"""Rows, and bytes of each."""
NONE = (0, 0)


def call(name: str, *args: int | tirx.Expr) -> tirx.Stmt:
    """An instruction; integers are registers."""
    given = [tirx.const(arg, "int8") if isinstance(arg, int) else arg for arg in args]
    return tirx.Evaluate(tirx.call_llvm_intrin("void", f"llvm.x86.{name}", *given))


def noted(key: str, value: tvm.ir.StringImm, stmt: tirx.Stmt) -> tirx.AttrStmt:
    return tirx.AttrStmt(tirx.const(0, "int32"), key, value, stmt)


def _shapes(stmt: tirx.Stmt) -> list[Shape] | None:
    """Those that all of ``stmt`` needs, none if nothing does; None if it needs different ones."""
    found: list[tuple[Shape, ...]] = []

    def note(attr: tirx.AttrStmt) -> None:
        if attr.attr_key == SHAPES:
            pairs = (one.split("x") for one in attr.value.value.split(","))
            found.append(tuple((int(rows), int(size)) for rows, size in pairs))

    tvm_ffi.structural_walk(stmt, [(tirx.AttrStmt, note)])
    each = [set(of_register) - {NONE} for of_register in zip(*found, strict=True)]
    return None if any(len(shapes) > 1 for shapes in each) else [max(s, default=NONE) for s in each]


def _set_up(stmt: tirx.Stmt) -> tirx.Stmt:
    """``stmt`` with the settings that it needs, each around as much as possible."""
    shapes = _shapes(stmt)
    if shapes == []:
        return stmt
    loop = stmt if isinstance(stmt, tirx.For) else None
    parallel = loop is not None and loop.kind == tirx.ForKind.PARALLEL
    if shapes is not None and (parallel or (loop and not _has_parallel(loop)) or is_products(stmt)):
        around = sequence([*_settings(shapes), _bare(stmt), call("tilerelease")])
    elif parallel:
        around = _switching(loop)
    else:
        return with_parts(stmt, _set_up)
    zero = tirx.const(0, "int32")
    return tirx.AttrStmt(zero, LAUNCH, zero, around) if parallel else around


def _switching(loop: tirx.For) -> tirx.Stmt:
    """``loop``, in which settings change: a thread knows those that it has."""
    current, first = tirx.decl_buffer((1,), "int32", "settings", scope="local"), [tirx.const(0, "int32")]
    known: list[list[Shape]] = [[]]

    def switched(stmt: tirx.Stmt) -> tirx.Stmt:
        shapes = _shapes(stmt)
        if not shapes:
            return stmt if shapes == [] else with_parts(stmt, switched)
        if shapes not in known:
            known.append(shapes)
        number = tirx.const(known.index(shapes), "int32")
        set_up = [*_settings(shapes), tirx.BufferStore(current, number, first)]
        change = tirx.IfThenElse(tirx.BufferLoad(current, first) != number, sequence(set_up), None)
        return sequence([change, _bare(stmt)])

    none = tirx.BufferStore(current, first[0], first)
    return sequence([tirx.AllocBuffer(current), none, switched(loop), call("tilerelease")])


def is_products(stmt: tirx.Stmt) -> bool:
    """Whether ``stmt`` is what ``MultiplyTiles`` makes of a nest."""
    return isinstance(stmt, tirx.AttrStmt) and stmt.attr_key == SHAPES


def is_product(stmt: tirx.Stmt) -> bool:
    """Whether ``stmt`` is one of two tiles."""
    return isinstance(stmt, tirx.AttrStmt) and stmt.attr_key == PRODUCT


def has_products(stmt: tirx.Stmt) -> bool:
    """Whether there is any in ``stmt``."""
    return _shapes(stmt) != []


def _bare(stmt: tirx.Stmt) -> tirx.Stmt:
    """``stmt`` without the notes of what it needs."""
    return tvm_ffi.structural_map(
        stmt, [(tirx.AttrStmt, lambda attr: attr.body if attr.attr_key in (SHAPES, PRODUCT) else attr)]
    )


def _has_parallel(stmt: tirx.Stmt) -> bool:
    found: list[tirx.For] = []
    tvm_ffi.structural_walk(stmt, [(tirx.For, found.append)])
    return any(loop.kind == tirx.ForKind.PARALLEL for loop in found)


def _settings(shapes: Sequence[Shape]) -> list[tirx.Stmt]:
    """What sets registers' shapes, until they are given back to the system."""
    settings = bytearray(64)
    settings[0] = 1  # the only palette
    for register, (rows, size) in enumerate(shapes):
        settings[16 + 2 * register], settings[48 + register] = size, rows
    words = struct.unpack("<8q", settings)
    buffer = tirx.decl_buffer((len(words),), "int64", "tile_shapes", scope="local")
    stores = [tirx.BufferStore(buffer, tirx.const(word, "int64"), [tirx.const(at, "int32")])
              for at, word in enumerate(words)]  # fmt: skip
    place = tirx.address_of(tirx.BufferLoad(buffer, [tirx.const(0, "int32")]))
    return [tirx.AllocBuffer(buffer), *stores, call("ldtilecfg", place)]


SetUpTiles = func_pass("tvmconv.SetUpTiles", _set_up)
"""After functions have their final form, before ``KeepTiles``."""
