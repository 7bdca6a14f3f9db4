"""Deformable convolution: sampled columns, then a matrix product with the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm import te, tirx

from tvmconv.compiler.ops.algorithm import Algorithm, Epilogue, Shapes
from tvmconv.compiler.ops.packing import Packing
from tvmconv.formats.kernel import Param
from tvmconv.specs.deformable import BORDER, DeformSpec

BEFORE = 2  # rows and columns of the border before the image: a position outside reads these two


@dataclass(frozen=True)
class DeformProblem:
    """A spec, and the register tile that shapes its arrays: pixels of the result come in tiles of ``width``
    (the last one padded with repeats of the last pixel), output channels of a group, or with
    ``across_groups`` those of all groups, in blocks."""

    spec: DeformSpec
    width: int = 1
    block: int = 1
    across_groups: bool = False

    family = "deform"  # the strategies that take it

    @property
    def batch(self) -> int:
        return max(self.spec.batch, 1)  # no kernel is run for an empty batch

    @property
    def pixels(self) -> int:
        rows, columns = self.spec.out_spatial
        return rows * columns

    @property
    def tiles(self) -> int:
        return -(-self.pixels // self.width)

    @property
    def in_group(self) -> int:
        return self.spec.in_channels // self.spec.groups

    @property
    def out_group(self) -> int:
        return self.spec.out_channels // self.spec.groups

    @property
    def row(self) -> int:
        """Output channels that are divided into blocks together."""
        return self.spec.out_channels if self.across_groups else self.out_group

    @property
    def macs(self) -> int:
        return self.spec.macs

    @property
    def offset_shape(self) -> tuple[int, ...]:
        return (self.batch, self.spec.offset_groups, self.spec.taps, 2, self.pixels)

    @property
    def mask_shape(self) -> tuple[int, ...]:
        return (self.batch, self.spec.offset_groups, self.spec.taps, self.pixels)

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.batch, self.spec.groups, self.out_group, self.pixels)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.spec.groups, self.out_group, self.in_group, self.spec.taps)

    @property
    def packed_shape(self) -> tuple[int, ...]:
        blocks = -(-self.row // self.block)
        return (self.spec.out_channels // self.row, blocks, self.spec.taps, self.in_group, self.block)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (self.spec.groups, self.out_group)


def kernel_func(p: DeformProblem) -> tirx.PrimFunc:
    """``(x, offset[, mask], packed weights[, bias], y)``, in stages.

    ``image``: x channels-last in its border of zeros. ``place0``, ``place1``, ``past0``, ``past1``: where a
    tap reads, as row and column of the upper left of four pixels, and the distance from it. ``columns``: what
    it reads. ``sums``, ``y``: the product with the weights.
    """
    spec = p.spec
    x = te.placeholder((p.batch, *spec.input_shape[1:]), spec.dtype, name="x")
    offset = te.placeholder(p.offset_shape, spec.dtype, name="offset")
    mask = te.placeholder(p.mask_shape, spec.dtype, name="mask") if spec.mask else None
    w = te.placeholder(p.packed_shape, spec.dtype, name="w")
    bias = te.placeholder(p.bias_shape, spec.dtype, name="bias") if spec.bias else None
    columns = _columns(p, _image(p, x), offset, mask)
    t = te.reduce_axis((0, spec.taps), name="t")
    i = te.reduce_axis((0, p.in_group), name="i")

    def product(n, pixel, g, o):
        row, at = (0, g * p.out_group + o) if p.across_groups else (g, o)
        weight = w(row, te.indexdiv(at, p.block), t, i, te.indexmod(at, p.block))
        return te.sum(columns(n, pixel, t, g * p.in_group + i) * weight, axis=[t, i])

    sums = te.compute((p.batch, p.tiles * p.width, spec.groups, p.out_group), product, name="sums")

    def finish(n, g, o, pixel):
        value = sums(n, pixel, g, o)
        return value if bias is None else value + bias(g, o)

    y = te.compute(p.y_shape, finish, name="y")
    return te.create_prim_func([a for a in (x, offset, mask, w, bias, y) if a is not None])


def prepack_func(p: DeformProblem) -> tirx.PrimFunc:
    """``(w[, bias], packed[, packed bias])``: the user's arrays into the ones that ``kernel_func`` reads."""
    w = te.placeholder(p.weight_shape, p.spec.dtype, name="w")

    def value(row, block, t, i, lane):
        at = block * p.block + lane
        g, o = (te.indexdiv(at, p.out_group), te.indexmod(at, p.out_group)) if p.across_groups else (row, at)
        if p.row % p.block == 0:
            return w(g, o, i, t)
        return te.if_then_else(at < p.row, w(g, o, i, t), tirx.const(0, w.dtype))

    packed = te.compute(p.packed_shape, value, name="packed")
    if not p.spec.bias:
        return te.create_prim_func([w, packed])
    bias = te.placeholder(p.bias_shape, p.spec.dtype, name="bias")
    copy = te.compute(bias.shape, lambda g, o: bias(g, o), name="packed_bias")
    return te.create_prim_func([w, bias, packed, copy])


def _image(p: DeformProblem, x: te.Tensor) -> te.Tensor:
    height, width = p.spec.in_spatial

    def value(n, r, q, c):
        inside = te.all(r >= BEFORE, r < BEFORE + height, q >= BEFORE, q < BEFORE + width)
        return te.if_then_else(inside, x(n, c, r - BEFORE, q - BEFORE), tirx.const(0, x.dtype))

    shape = (p.batch, height + BORDER, width + BORDER, p.spec.in_channels)
    return te.compute(shape, value, name="image")


def _columns(p: DeformProblem, image: te.Tensor, offset: te.Tensor, mask: te.Tensor | None) -> te.Tensor:
    spec = p.spec
    places = (p.batch, p.tiles * p.width, spec.offset_groups, spec.taps)

    def place(d, n, pixel, j, t):
        """Row (d = 0) or column (1) that a tap reads, in x; outside x, that of the border."""
        pixel = tirx.min(pixel, p.pixels - 1)
        out = (te.indexdiv, te.indexmod)[d](pixel, spec.out_spatial[1])
        tap = (te.indexdiv, te.indexmod)[d](t, spec.kernel[1])
        start = out * spec.stride[d] - spec.padding[d][0] + tap * spec.dilation[d]
        found = tirx.Cast("float32", start) + offset(n, j, t, d, pixel)
        inside = tirx.all(found > tirx.const(-1.0, "float32"),
                          found < tirx.const(float(spec.in_spatial[d]), "float32"))
        return found, tirx.Select(inside, found, tirx.const(float(-BEFORE), "float32"))  # NaN is not inside

    def floor(d):
        return lambda *at: tirx.Cast("int32", tirx.floor(place(d, *at)[1])) + BEFORE

    def past(d):
        def value(*at):
            found, kept = place(d, *at)
            return tirx.Select(tirx.isnan(found), found, kept - tirx.floor(kept))

        return value

    top, left = (te.compute(places, floor(d), name=f"place{d}") for d in (0, 1))
    down, right = (te.compute(places, past(d), name=f"past{d}") for d in (0, 1))
    one = tirx.const(1.0, "float32")

    def column(n, pixel, t, c):
        where = (n, pixel, te.indexdiv(c, spec.in_channels // spec.offset_groups), t)
        d, r = down(*where), right(*where)

        def row(by):
            return image(n, top(*where) + by, left(*where), c) * (one - r) + (
                image(n, top(*where) + by, left(*where) + 1, c) * r
            )

        value = row(0) * (one - d) + row(1) * d
        if mask is None:
            return value
        return value * mask(n, where[2], t, tirx.min(pixel, p.pixels - 1))

    return te.compute((p.batch, p.tiles * p.width, spec.taps, spec.in_channels), column, name="columns")


@dataclass(frozen=True)
class Columns(Algorithm):
    """Sampled columns, in tiles of ``width`` pixels. Packings are ``Packing``, of which only the fields are
    used."""

    width: int = 1

    def tiled(self, p: DeformProblem, packing: Packing) -> DeformProblem:
        """``p`` divided into register tiles."""
        return replace(p, width=self.width, block=packing.block, across_groups=packing.across_groups)

    def definition(self, p: DeformProblem, packing: Packing, does: Epilogue | None) -> tirx.PrimFunc:
        """See ``kernel_func``."""
        return kernel_func(self.tiled(p, packing))

    def prepack(self, p: DeformProblem, packing: Packing, does: Epilogue | None) -> tirx.PrimFunc:
        """See ``prepack_func``."""
        return prepack_func(self.tiled(p, packing))

    def shapes(self, p: DeformProblem, packing: Packing) -> Shapes:
        """See ``Algorithm``."""
        return {"offset": p.offset_shape, "mask": p.mask_shape, "w": p.weight_shape, "bias": p.bias_shape,
                "y": p.y_shape}  # fmt: skip

    def packed(self, p: DeformProblem, packing: Packing, does: Epilogue | None) -> tuple[Param, ...]:
        """See ``Algorithm``."""
        spec = p.spec
        bias = Param("packed_bias", spec.bias_shape, spec.dtype, "", p.bias_shape)
        return (Param("packed_w", self.tiled(p, packing).packed_shape, spec.dtype), *[bias] * spec.bias)
