"""The loop nest of a block on a GPU: tiles of the result, a block of threads each.

A tile's threads go through the depthwise part's channels in chunks. Of each chunk they expand what the tile
reads, with its halo, into shared memory, with the depthwise part's zeros outside the image; they filter that
into shared memory as well, and add what comes of it to the sums of the result, which stay in registers. So
nothing between the parts leaves the multiprocessor, and only halos are expanded more than once.

A pointwise part is a matrix product: neighbouring threads have neighbouring channels, and each has a few
pixels, far apart. Barriers come later, where ``ThreadSync`` finds that one thread reads what another wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd

import tvm
from tvm import tirx

from tvmconv.compiler.codegen.band_arithmetic import Floats
from tvmconv.compiler.codegen.block_arrays import block_arrays
from tvmconv.compiler.codegen.nest import Array, Index, as_expr, held, in_tiles, loop, named
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.ops.block_packing import ACC, MOST_TAPS, BlockPacking
from tvmconv.formats.kernel import Param
from tvmconv.schedules.cuda.block import VECTOR, halo
from tvmconv.schedules.cuda.tiles import divisor
from tvmconv.specs.block import BlockSpec

_THREAD_INDEX = 1  # IterVar's type
_UNROLLED, _VECTOR = tirx.ForKind.UNROLLED, tirx.ForKind.VECTORIZED


def kernel_func(
    spec: BlockSpec, packing: BlockPacking, packed: Sequence[Param], **point: int
) -> tirx.PrimFunc:
    """``(inputs..., packed..., y)``, not yet lowered, for a point of ``schedules.cuda.block``."""
    tiles = _Tiles(spec, packing, packed, point)
    return tirx.PrimFunc([array.buffer for array in tiles.arrays.values()], tiles.body())


class _Product:
    """How threads share a matrix product of ``pixels`` by ``channels``: each has some pixels, ``apart`` from
    each other, and ``lanes`` channels."""

    def __init__(self, thread: tirx.Var, threads: int, pixels: int, channels: int, lanes: int) -> None:
        vectors = -(-channels // lanes)
        self.pixels, self.lanes, self.apart = pixels, lanes, threads // vectors
        self.own = -(-pixels // self.apart)  # of a thread
        self.first, self.channel = tirx.floordiv(thread, vectors), tirx.floormod(thread, vectors) * lanes
        self.sums, self.made = held(self.own * lanes, ACC, "sums")

    def pixel(self, i: Index) -> Index:
        """Number i of a thread's; one that is another's as well where it has none."""
        return tirx.min(self.first + i * self.apart, self.pixels - 1)

    def each(self, body: Callable[[Index], tirx.Stmt]) -> tirx.Stmt:
        """``body(i)`` of a thread's pixels that are its alone."""
        able = tirx.LT(self.first, self.apart)  # else a thread too many
        parts = []
        for i in range(self.own):
            mine = tirx.And(able, tirx.LT(self.first + i * self.apart, self.pixels))
            parts.append(tirx.IfThenElse(mine, body(i), None))
        return sequence(parts)

    def start(self, value: Callable[[Index], tirx.Expr]) -> tirx.Stmt:
        """Make the sums, each with what its channel begins with."""
        lanes = self.lanes
        return loop(self.own, lambda i: _vectors(lanes, VECTOR, lambda j: self.sums.put(
            i * lanes + j, value(self.channel + j))), _UNROLLED)  # fmt: skip

    def add(self, count: int, left: Array, at: Callable[[Index], Index], w: Array,
            weight: Callable[[Index], Index]) -> tirx.Stmt:  # fmt: skip
        """The products of ``count`` channels of ``left``, which a pixel has from ``at(pixel)`` on, and
        weights, which begin at ``weight(k)``."""
        lanes, deep = self.lanes, divisor(count, VECTOR)
        read, made = held(self.own * deep, ACC, "read")
        weights, also = held(lanes, ACC, "weights")

        def term(k: Index) -> tirx.Stmt:
            def row(r: int) -> tirx.Stmt:
                start = weight(k * deep + r) + self.channel
                return sequence([
                    _vectors(lanes, VECTOR, lambda j: weights.put(j, w.at(start + j))),
                    loop(self.own, lambda i: _vectors(lanes, VECTOR, lambda j: self.sums.put(
                        i * lanes + j,
                        self.sums.at(i * lanes + j) + read.at(i * deep + r) * weights.at(j))), _UNROLLED),
                ])  # fmt: skip

            loads = loop(self.own, lambda i: _vectors(deep, deep, lambda j: read.put(
                i * deep + j, left.at(at(self.pixel(i)) + k * deep + j))), _UNROLLED)  # fmt: skip
            return sequence([loads, *(row(r) for r in range(deep))])

        return sequence([made, also, loop(count // deep, term)])


class _Tiles:
    def __init__(self, spec: BlockSpec, packing: BlockPacking, packed: Sequence[Param],
                 point: dict[str, int]) -> None:  # fmt: skip
        self.spec, self.packing, self.point = spec, packing, point
        self.arrays = block_arrays(spec, packed)
        self.does = Floats(spec, packing, self.arrays)
        self.rows, self.columns, self.threads = point["rows"], point["columns"], point["threads"]
        self.down, self.across = (
            -(-size // tile) for size, tile in zip(spec.out_spatial, (self.rows, self.columns), strict=True))
        self.panels = -(-spec.out_channels // packing.block)
        self.halo = halo(spec, self.rows, self.columns)
        self.seen = self.halo[0] * self.halo[1]  # pixels
        self.thread, self.block = tirx.Var("threadIdx_x", "int32"), tirx.Var("blockIdx_x", "int32")

    def body(self) -> tirx.Stmt:
        """All tiles, and of each the panels of the result's channels."""
        spec, chunk = self.spec, self.packing.chunk
        self.expanded, made = _shared(self.seen * chunk, "expanded")
        self.filtered, also = _shared(self.rows * self.columns * chunk, "filtered")
        kept = [made, also]
        if spec.expand:
            self.slice, more = _shared(self.seen * self.point["depth"], "slice")
            kept.append(more)
        tile = tirx.floordiv(self.block, self.panels)
        self.panel, panels = named("panel", tirx.floormod(self.block, self.panels))
        self.n, images = named("n", tirx.floordiv(tile, self.down * self.across))
        row = tirx.floormod(tirx.floordiv(tile, self.across), self.down)
        self.row, rows = named("row", row * self.rows)
        self.column, columns = named("column", tirx.floormod(tile, self.across) * self.columns)
        size = self.rows * self.columns
        result = _Product(self.thread, self.threads, size, self.packing.block, self.point["lanes"])
        start = result.start(lambda j: self.does.start("project_", self.panel * self.packing.block + j))
        stmt = sequence([
            *kept, panels, images, rows, columns, result.made, start,
            in_tiles(spec.channels, chunk, lambda first, count: self._chunk(first, count, result)),
            self._store(result),
        ])  # fmt: skip
        blocks = max(spec.batch, 1) * self.down * self.across * self.panels
        axes = (self.thread, self.threads, "threadIdx.x"), (self.block, blocks, "blockIdx.x")
        for var, extent, tag in axes:
            axis = tirx.IterVar(tvm.ir.Range(0, extent), var, _THREAD_INDEX, tag)
            stmt = tirx.AttrStmt(axis, "thread_extent", tirx.const(extent, "int32"), stmt)
        return stmt

    def _chunk(self, first: Index, count: int, result: _Product) -> tirx.Stmt:
        """``count`` channels of the depthwise part, from ``first`` on, which begin a chunk."""
        spec, chunk, block = self.spec, self.packing.chunk, self.packing.block
        expands = self._expand(first, count) if spec.expand else self._load(
            self.expanded, chunk, first, count)  # fmt: skip
        adds = result.add(
            count, self.filtered, lambda pixel: pixel * chunk, self.arrays["packed_project_w"],
            lambda k: (self.panel * spec.channels + first + k) * block)  # fmt: skip
        return sequence([expands, self._filter(first, count), adds])

    def _seen(self, p: Index) -> tuple[tirx.Expr, tirx.Expr]:
        """Which pixel of x number p of the tile with its halo is; whether there is such."""
        spec, (high, wide) = self.spec, self.spec.in_spatial
        (top, _), (left, _) = spec.padding
        y = self.row * spec.stride[0] - top + tirx.floordiv(p, self.halo[1])
        x = self.column * spec.stride[1] - left + tirx.floormod(p, self.halo[1])
        inside = tirx.all(y >= 0, y < high, x >= 0, x < wide)
        return (self.n * high + y) * wide + x, inside

    def _inside(self, inside: tirx.Expr, to: Array, at: Index, lanes: int,
                value: Callable[[Index], tirx.Expr]) -> tirx.Stmt:  # fmt: skip
        """A vector stored, of zeros outside of the image."""
        return tirx.IfThenElse(
            inside,
            loop(lanes, lambda j: to.put(at + j, value(j)), _VECTOR),
            loop(lanes, lambda j: to.put(at + j, tirx.const(0, ACC)), _VECTOR))

    def _load(self, to: Array, pitch: int, first: Index, count: int) -> tirx.Stmt:
        """The tile of x with its halo, ``count`` of its channels from ``first`` on; zeros outside."""
        x = self.arrays["x"]
        lanes = divisor(gcd(count, self.spec.in_channels), VECTOR)  # ``first`` is a multiple of VECTOR
        vectors = count // lanes

        def one(i: Index) -> tirx.Stmt:
            p, c = tirx.floordiv(i, vectors), tirx.floormod(i, vectors) * lanes
            pixel, inside = self._seen(p)
            return self._inside(
                inside, to, p * pitch + c, lanes, lambda j: x.at(pixel, first + c + j))

        return self._together(self.seen * vectors, one)

    def _expand(self, first: Index, count: int) -> tirx.Stmt:
        """Channels of the tile with its halo; x goes by in slices of its channels."""
        spec, chunk, depth = self.spec, self.packing.chunk, self.point["depth"]
        sums = _Product(self.thread, self.threads, self.seen, count, VECTOR)
        block = tirx.floordiv(as_expr(first), chunk)

        def part(k: Index, deep: int) -> tirx.Stmt:
            return sequence([
                self._load(self.slice, depth, k, deep),
                sums.add(deep, self.slice, lambda pixel: pixel * depth, self.arrays["packed_expand_w"],
                         lambda r: (block * spec.in_channels + k + r) * chunk),
            ])  # fmt: skip

        def store(i: Index) -> tirx.Stmt:
            p, c = sums.pixel(i), sums.channel
            _, inside = self._seen(p)
            return self._inside(inside, self.expanded, p * chunk + c, VECTOR, lambda j: self.does.done(
                "expand_", sums.sums.at(i * VECTOR + j), first + c + j))  # fmt: skip

        return sequence([
            sums.made, sums.start(lambda j: self.does.start("expand_", first + j)),
            in_tiles(spec.in_channels, depth, part), sums.each(store),
        ])  # fmt: skip

    def _filter(self, first: Index, count: int) -> tirx.Stmt:
        """Channels of the tile's depthwise part: a thread has a vector of them, of a few pixels in a row."""
        spec, chunk, width = self.spec, self.packing.chunk, self.point["width"]
        (tall, long), w = spec.kernel, self.arrays["packed_w"]
        vectors, parts = -(-count // VECTOR), self.columns // width
        unrolled = _UNROLLED if spec.taps <= MOST_TAPS else tirx.ForKind.SERIAL
        chunks = tirx.floordiv(as_expr(first), chunk)

        def one(i: Index) -> tirx.Stmt:
            c, part = tirx.floormod(i, vectors) * VECTOR, tirx.floordiv(i, vectors)
            r, column = tirx.floordiv(part, parts), tirx.floormod(part, parts) * width
            at = (r * (spec.stride[0] * self.halo[1]) + column * spec.stride[1]) * chunk + c
            sums, made = held(width * VECTOR, ACC, "sums")
            weights, also = held(VECTOR, ACC, "weights")

            def tap(ky: Index, kx: Index) -> tirx.Stmt:
                seen = at + (ky * (spec.dilation[0] * self.halo[1]) + kx * spec.dilation[1]) * chunk
                row = (chunks * spec.taps + ky * long + kx) * chunk + c
                return sequence([
                    loop(VECTOR, lambda j: weights.put(j, w.at(row + j)), _VECTOR),
                    loop(width, lambda p: loop(VECTOR, lambda j: sums.put(
                        p * VECTOR + j, sums.at(p * VECTOR + j) + self.expanded.at(
                            seen + p * (spec.stride[1] * chunk) + j) * weights.at(j)), _VECTOR), _UNROLLED),
                ])  # fmt: skip

            def value(p: Index, j: Index) -> tirx.Expr:
                done = self.does.done("", sums.at(p * VECTOR + j), first + c + j)
                if not spec.scale:
                    return done
                channel = tirx.min(first + c + j, spec.channels - 1)  # the last vector's may be fewer
                return done * self.arrays["scale"].at(self.n * spec.channels + channel)

            return sequence([
                made, also,
                loop(width, lambda p: loop(VECTOR, lambda j: sums.put(
                    p * VECTOR + j, self.does.start("", first + c + j)), _VECTOR), _UNROLLED),
                loop(tall, lambda ky: loop(long, lambda kx: tap(ky, kx), unrolled), unrolled),
                loop(width, lambda p: loop(VECTOR, lambda j: self.filtered.put(
                    (r * self.columns + column + p) * chunk + c + j, value(p, j)), _VECTOR), _UNROLLED),
            ])  # fmt: skip

        return self._together(self.rows * parts * vectors, one)

    def _store(self, result: _Product) -> tirx.Stmt:
        """The tile of the result, as far as there are pixels and channels."""
        spec, (high, wide) = self.spec, self.spec.out_spatial
        y, residual = self.arrays["y"], self.arrays.get("residual")
        lanes = divisor(spec.out_channels, VECTOR)
        channel = self.panel * self.packing.block + result.channel

        def pixel(i: Index) -> tirx.Stmt:
            p = result.pixel(i)
            row = self.row + tirx.floordiv(p, self.columns)
            column = self.column + tirx.floormod(p, self.columns)
            at = (self.n * high + row) * wide + column

            def put(j: Index) -> tirx.Stmt:
                to = at, channel + j
                added = None if residual is None else residual.at(*to)
                value = self.does.done("project_", result.sums.at(i * result.lanes + j), to[1], added)
                return y.put(to, value)

            def vector(v: Index) -> tirx.Stmt:
                stored = loop(lanes, lambda j: put(v * lanes + j), _VECTOR)
                return tirx.IfThenElse(channel + v * lanes < spec.out_channels, stored, None)

            inside = tirx.And(row < high, column < wide)
            return tirx.IfThenElse(inside, loop(result.lanes // lanes, vector, _UNROLLED), None)

        return result.each(pixel)

    def _together(self, count: int, body: Callable[[Index], tirx.Stmt]) -> tirx.Stmt:
        """``body`` for each index below ``count``, shared among the threads."""

        def part(i: Index) -> tirx.Stmt:
            at = self.thread + i * self.threads
            stmt = body(at)
            return stmt if count % self.threads == 0 else tirx.IfThenElse(at < count, stmt, None)

        return loop(-(-count // self.threads), part)


def _vectors(size: int, lanes: int, body: Callable[[Index], tirx.Stmt]) -> tirx.Stmt:
    """``body`` for each index, a vector at a time."""
    return loop(size // lanes, lambda v: loop(lanes, lambda j: body(v * lanes + j), _VECTOR), _UNROLLED)


def _shared(size: int, name: str) -> tuple[Array, tirx.Stmt]:
    """An array of a block of threads, and the statement that makes it."""
    buffer = tirx.decl_buffer((size,), ACC, name, scope="shared")
    return Array(buffer, ACC), tirx.AllocBuffer(buffer)
