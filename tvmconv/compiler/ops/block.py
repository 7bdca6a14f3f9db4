"""Blocks: a depthwise convolution between pointwise ones, as TE computations, and the layout of its weights.

Kernels walk over it in loop nests, ``codegen.bands`` and, on GPUs, ``codegen.halo_tiles``: TE has no ring of
rows, nor tiles whose halo is zero outside the image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from tvmconv.compiler.ops.block_packing import ACC, BlockPacking
from tvmconv.compiler.ops.casts import narrowed, widened
from tvmconv.compiler.ops.epilogue import finished
from tvmconv.formats.kernel import Param
from tvmconv.specs.block import PREFIXES, BlockSpec


def packed(spec: BlockSpec, packing: BlockPacking) -> tuple[Param, ...]:
    """The packed arrays."""
    return tuple(Param(f"packed_{name}", shape, ACC) for name, shape in packing.shapes(spec).items())


def prepack_func(spec: BlockSpec, packing: BlockPacking) -> tirx.PrimFunc:
    """``(weights..., packed...)``, in the order of the signature both."""
    given, made = [], []
    for name, shape in packing.shapes(spec).items():
        operand = next(operand for operand in spec.weights if operand.name == name)
        channels = operand.shape[-1]
        array = te.placeholder((operand.elements // channels, channels), spec.dtype, name=name)
        given.append(array)
        made.append(te.compute(shape, _packs(array, shape[-1]), name=f"packed_{name}"))
    return te.create_prim_func([*given, *made])


def _packs(array: te.Tensor, width: int) -> Callable[..., tirx.Expr]:
    channels = int(array.shape[1])

    def value(block: Any, row: Any, lane: Any) -> tirx.Expr:
        at = block * width + lane
        found = widened(array(row, at), ACC)
        return found if channels % width == 0 else te.if_then_else(at < channels, found, tirx.const(0, ACC))

    return value


def definition(spec: BlockSpec) -> tirx.PrimFunc:
    """``(arrays of the signature..., y)``, unscheduled: expanded, the depthwise sums, the result."""
    arrays = placeholders(spec)

    def at(name: str, *where: Any) -> tirx.Expr | None:
        return widened(arrays[name](*where), ACC) if name in arrays else None

    def done(part: str, value: tirx.Expr, place: tuple[Any, ...]) -> tirx.Expr:
        last, bias = part == "project", at(f"{PREFIXES[part]}bias", place[-1])
        added = at("residual", *place) if last else None
        found = finished(value, bias=bias, residual=added, activation=spec.parts()[part].activation)
        return narrowed(found, spec.dtype) if last else found

    return chained(spec, arrays, at, done, ACC)


def placeholders(spec: BlockSpec) -> dict[str, te.Tensor]:
    """The arrays of a call, by name; at least one image."""
    n = max(spec.batch, 1)
    shapes = {o.name: (n, *o.shape[1:]) if o.role == "input" else o.shape for o in spec.signature()[:-1]}
    return {o.name: te.placeholder(shapes[o.name], o.dtype, name=o.name) for o in spec.signature()[:-1]}


def chained(
    spec: BlockSpec, arrays: dict[str, te.Tensor], at: Callable[..., Any],
    done: Callable[[str, tirx.Expr, tuple[Any, ...]], tirx.Expr], acc: str,
) -> tirx.PrimFunc:  # fmt: skip
    """``(arrays..., y)`` of the parts: sums of type ``acc`` of what ``at(name, *where)`` says of x and
    weights, ``done(part, sum, place)`` of each."""
    (high, wide), inputs, middle = spec.in_spatial, spec.in_channels, spec.channels
    n = max(spec.batch, 1)

    def pointwise(x: Callable[..., Any], count: int, shape: tuple[int, ...], name: str) -> te.Tensor:
        k = te.reduce_axis((0, count), name=f"{name}_k")
        return te.compute(shape, lambda b, i, j, c: te.sum(
            x(b, i, j, k) * at(f"{name}_w", 0, 0, k, c), axis=k), name=name)  # fmt: skip

    def expanded(*place: Any) -> tirx.Expr:
        return done("expand", sums(*place), place) if spec.expand else at("x", *place)

    if spec.expand:
        sums = pointwise(lambda *p: at("x", *p), inputs, (n, high, wide, middle), "expand")
    inner = te.compute((n, high, wide, middle), expanded, name="expanded")
    (top, _), (left, _) = spec.padding
    ky, kx = (te.reduce_axis((0, size), name="tap") for size in spec.kernel)

    def tap(b: Any, i: Any, j: Any, c: Any) -> tirx.Expr:
        y = i * spec.stride[0] + ky * spec.dilation[0] - top
        x = j * spec.stride[1] + kx * spec.dilation[1] - left
        inside = te.all(y >= 0, y < high, x >= 0, x < wide)
        value = te.if_then_else(inside, inner(b, y, x, c), tirx.const(0, acc))
        return te.sum(value * at("w", ky, kx, 0, c), axis=[ky, kx])

    def scaled(value: tirx.Expr, place: tuple[Any, ...]) -> tirx.Expr:
        return value * at("scale", place[0], 0, 0, place[-1]) if spec.scale else value

    shape = (n, *spec.output_shape[1:])
    depthwise = te.compute((*shape[:-1], middle), tap, name="depthwise")
    filtered = te.compute(
        depthwise.shape, lambda *p: scaled(done("depthwise", depthwise(*p), p), p), name="filtered")
    project = pointwise(filtered, middle, shape, "project")
    y = te.compute(shape, lambda *p: done("project", project(*p), p), name="y")
    return te.create_prim_func([*arrays.values(), y])
