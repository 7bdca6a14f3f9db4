"""Blocks of 8-bit integers as TE computations, and what their kernels take in the place of weights, scales
and zero points.

Of each part: its weights, less their zero points in float32 for the depthwise one, in words for the others;
its biases, with what shifted factors add to a sum (``ops.words``); and what quantises its sums
(``ops.requantise``), ``shift`` for the zero point that the next part's factors, or the result, have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tvm import te, tirx

from tvmconv.compiler.ops import requantise, words
from tvmconv.compiler.ops.block import chained, placeholders
from tvmconv.compiler.ops.block_packing import ACC, BlockPacking
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import problem_of
from tvmconv.formats.kernel import Param
from tvmconv.schedules.dots import DOTS, Dot
from tvmconv.specs.activations import clamp_of
from tvmconv.specs.block import PREFIXES, BlockSpec

Arrays = Mapping[str, te.Tensor]


def packed(spec: BlockSpec, packing: BlockPacking) -> tuple[Param, ...]:
    """The packed arrays."""
    dot, one = _dot(packing), (1,)
    found = [Param("packed_x_zero_point", one, "int32")]
    for name, part in spec.parts().items():
        prefix = PREFIXES[name]
        width = packing.width(prefix)
        blocks, size = -(-part.out_channels // width), 1 if dot is None or not prefix else dot.size
        rows = -(-part.terms // size)
        each = (blocks, 1, width)
        arrays: dict[str, tuple[tuple[int, ...], str]] = {
            "w": ((blocks, rows, width), "int32" if prefix else ACC), "bias": (each, "int32")}
        if prefix and words.shifts(dot):
            arrays |= {"w_zero_point": (each, "int32"), "w_zero_points_matter": (one, "int32")}
        arrays |= {"multiplier": (each, ACC), "limits": ((2,), ACC), "shift": (one, "int32")}
        if clamp_of(part.activation) is None:
            arrays["y_scale"] = one, ACC
        found += [Param(f"packed_{prefix}{array}", *kind) for array, kind in arrays.items()]
        if part.residual:
            found += [Param("packed_r_multiplier", one, ACC), Param("packed_r_zero_point", one, "int32")]
    return tuple(found)


def prepack_func(spec: BlockSpec, packing: BlockPacking) -> tirx.PrimFunc:
    """``(weights..., packed...)``, in the order of the signature and of ``packed``."""
    given = {o.name: te.placeholder(o.shape, o.dtype, name=o.name) for o in spec.weights}
    names, made = spec.arguments(), {"x_zero_point": _one(given["x_zero_point"](0).astype("int32"))}
    for name, part in spec.parts().items():
        prefix = PREFIXES[name]
        own = {mine: given[theirs] for mine, theirs in names[name].items() if theirs in given}
        made |= {f"{prefix}{key}": value for key, value in _packed_part(name, part, packing, own).items()}
        if part.residual:
            scale = requantise.multiplier(part.activation, own["r_scale"](0), own["y_scale"](0))
            zero = own["r_zero_point"](0).astype("int32")
            made |= {"r_multiplier": _one(scale), "r_zero_point": _one(zero)}
    order = [made[param.name.removeprefix("packed_")] for param in packed(spec, packing)]
    return te.create_prim_func([*given.values(), *order])


def definition(spec: BlockSpec) -> tirx.PrimFunc:
    """As ``block.definition``: what lies between the parts is less its zero point."""
    arrays, names, parts = placeholders(spec), spec.arguments(), spec.parts()

    def at(name: str, *where: Any) -> tirx.Expr:
        zero = arrays[f"{name}_zero_point"]
        return arrays[name](*where).astype("int32") - zero(where[-1] if name != "x" else 0).astype("int32")

    def done(part: str, value: tirx.Expr, place: tuple[Any, ...]) -> tirx.Expr:
        own = {mine: arrays[theirs] for mine, theirs in names[part].items()}
        activation, y_scale, dtype = parts[part].activation, own["y_scale"], "int32"
        zero, added = tirx.const(0, "int32"), None
        if "bias" in own:
            value = value + own["bias"](place[-1])
        if part == "project":
            dtype, zero = spec.dtype, own["y_zero_point"](0)
        if "residual" in own:
            less = own["residual"](*place).astype("int32") - own["r_zero_point"](0).astype("int32")
            added = less.astype(ACC) * requantise.multiplier(activation, own["r_scale"](0), y_scale(0))
        limits = requantise.limits(activation, spec.dtype, y_scale, own["y_zero_point"])
        scale = requantise.multiplier(activation, own["x_scale"](0) * own["w_scale"](place[-1]), y_scale(0))
        return requantise.requantised(
            value, scale, limits(0), limits(1), requantise.shift(zero), activation=activation, added=added,
            y_scale=y_scale(0) if clamp_of(activation) is None else None, out_dtype=dtype,
        )  # fmt: skip

    return chained(spec, arrays, at, done, "int32")


def _packed_part(name: str, part: Any, packing: BlockPacking, own: Arrays) -> dict[str, te.Tensor]:
    prefix, dot = PREFIXES[name], _dot(packing)
    width, channels = packing.width(prefix), part.out_channels
    w, bias, p = own["w"], own.get("bias"), problem_of(part)

    def each(value: Callable[[Any], tirx.Expr], dtype: str, rows: int = 1) -> te.Tensor:
        """``value(channel)``, or of (row, channel), in blocks, filled up with zeros."""
        def at(block: Any, row: Any, lane: Any) -> tirx.Expr:
            channel = block * width + lane
            found = value(channel) if rows == 1 else value(row, channel)  # type: ignore[call-arg]
            if channels % width == 0:
                return found
            return te.if_then_else(channel < channels, found, tirx.const(0, dtype))

        return te.compute((-(-channels // width), rows, width), at, name=f"packed_{prefix}")

    def flat(_: Any, i: Any, out: Any) -> tirx.Expr:
        return w(0, 0, i, out)

    found = {}
    if not prefix:
        (_, long) = part.kernel

        def tap(*at: Any) -> tirx.Expr:
            row, channel = at if len(at) == 2 else (0, *at)
            value = w(te.indexdiv(row, long), te.indexmod(row, long), 0, channel).astype(ACC)
            return value - own["w_zero_point"](channel).astype(ACC)

        found["w"] = each(tap, ACC, part.taps)
    else:
        layout = Packing(width)
        laid: Any = words.packed_weights(p, layout, dot, flat, own["w_zero_point"])  # type: ignore[arg-type]
        _, blocks, _, rows, _ = laid.shape
        found["w"] = te.compute((blocks, rows, width), lambda *at: laid(0, at[0], 0, *at[1:]), name="w")
    if prefix and dot is not None and words.shifts(dot):
        whole = None if bias is None else lambda _, out: bias(out)
        offset, zeros, some = words.corrections(p, dot, flat, own["x_zero_point"], own["w_zero_point"], whole)  # type: ignore[arg-type]
        found["bias"] = each(lambda c: offset(0, c), "int32")
        found["w_zero_point"] = each(lambda c: zeros(0, c), "int32")
        found["w_zero_points_matter"] = some
    else:
        found["bias"] = each(lambda c: tirx.const(0, "int32") if bias is None else bias(c), "int32")
    y_scale, y_zero = own["y_scale"], own["y_zero_point"]
    found["multiplier"] = each(lambda c: requantise.multiplier(
        part.activation, own["x_scale"](0) * own["w_scale"](c), y_scale(0)), ACC)  # fmt: skip
    found["limits"] = requantise.limits(part.activation, part.out_dtype, y_scale, y_zero)
    found["shift"] = _one(requantise.shift(_next_zero(name, y_zero(0), dot)))
    if clamp_of(part.activation) is None:
        found["y_scale"] = _one(y_scale(0))
    return found


def _next_zero(name: str, zero: tirx.Expr, dot: Dot | None) -> tirx.Expr:
    """The zero point that a part's results have where they are read, or stored."""
    if name == "project":
        return zero
    if name == "depthwise" and dot is not None and words.shifts(dot):
        return words.shifted(zero, dot.x)
    return tirx.const(0, "int32")


def _dot(packing: BlockPacking) -> Dot | None:
    return None if packing.dot is None else DOTS[packing.dot]


def _one(value: tirx.Expr) -> te.Tensor:
    return te.compute((1,), lambda _: value, name="packed_one")
