"""The loop nest of a block: bands of output rows, a task each.

A task goes down its band a few rows at a time. For each chunk of the depthwise part's channels it expands the
rows that are new, into a ring of as many rows as a step reads, in the chunk's own zeros at the borders; from
there it computes depthwise rows, and then, for all channels, the result. So nothing between the parts leaves
the core's caches, and no row is expanded twice but those that two tasks both read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx

from tvmconv.base.memory import PAGE
from tvmconv.compiler.codegen.band_arithmetic import Floats, Integers
from tvmconv.compiler.codegen.band_filters import filter_in_place, filter_in_ring, in_rows
from tvmconv.compiler.codegen.band_scales import hold, only_scales, scaled_weights
from tvmconv.compiler.codegen.band_words import row_of_words
from tvmconv.compiler.codegen.block_arrays import block_arrays
from tvmconv.compiler.codegen.nest import (
    Array,
    Index,
    as_expr,
    counted,
    held,
    in_tiles,
    itemsize,
    loop,
    named,
    tile,
    vectors,
)  # fmt: skip
from tvmconv.compiler.lower.kept import BEFORE, KEPT, NONE
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.ops.block_packing import ACC, BlockPacking, reads_in_place
from tvmconv.formats.kernel import Param
from tvmconv.schedules.cpu.tiles import PARALLEL_MACS
from tvmconv.schedules.machines import Machine
from tvmconv.specs.block import BlockSpec

Stmts = list[tirx.Stmt]


def kernel_func(
    spec: BlockSpec, packing: BlockPacking, packed: Sequence[Param], machine: Machine, **point: int
) -> tirx.PrimFunc:
    """``(inputs..., packed..., y)``, not yet lowered, for a point of ``schedules.cpu.block``."""
    bands = _Bands(spec, packing, packed, machine.lanes(), point)
    return tirx.PrimFunc([array.buffer for array in bands.arrays.values()], bands.body())


class _Bands:
    def __init__(self, spec: BlockSpec, packing: BlockPacking, packed: Sequence[Param], lanes: int,
                 point: dict[str, int]) -> None:  # fmt: skip
        self.spec, self.packing, self.lanes, self.point = spec, packing, lanes, point
        self.batch = max(spec.batch, 1)
        self.arrays = block_arrays(spec, packed)
        self.does = (Integers if spec.is_integer else Floats)(spec, packing, self.arrays)
        self.only_scales = only_scales(spec)
        self.rows, self.in_place = point["rows"], reads_in_place(spec, lanes) or self.only_scales
        self.chunks = -(-spec.channels // packing.chunk)
        self.ring = spec.reach(0, self.rows)
        # Columns of a row of the ring, and those of them that x has.
        self.across = spec.reach(1, spec.out_spatial[1])
        self.first = min(spec.padding[1][0], self.across)
        self.seen = min(spec.in_spatial[1], self.across - self.first)
        wide = self.chunks * packing.chunk
        # Else every pixel's sums would compete for the same lines of the cache.
        bytes_ = wide * itemsize(self.does.element)
        self.wide = wide + lanes if bytes_ % (PAGE // 4) == 0 else wide
        # Channels of x, filled up to whole words.
        self.inputs = self.does.words(spec.in_channels) * self.does.size
        self.reads_words = isinstance(self.does, Integers) and spec.expand > 0  # rows of them, from x
        self.pitch = spec.in_spatial[1] * self.inputs  # of such a row

    def body(self) -> tirx.Stmt:
        """All tasks, over the threads if that is worth it. A thread's next task goes on from what the one
        before has left in the ring, if its band follows on that one's."""
        tasks, wide = self.point["tasks"], self.spec.out_spatial[1]
        rows = 0 if self.in_place else self.chunks * self.ring
        ring, made = held(max(rows * self.across * self.packing.chunk, 1), ACC, "ring")
        size = 1 if self.only_scales else self.rows * wide * self.wide
        filtered, also = held(size, self.does.element, "filtered")
        before, last = held(1, "int32", BEFORE)
        kept = [made, also, last]
        if self.reads_words:
            self.lines, more = held(self.ring * self.pitch, self.does.element, "lines")
            kept.append(more)
        if self.only_scales:
            kept += hold(self)
        elif self.spec.scale:
            self.scales, more = held(self.chunks * self.packing.chunk, ACC, "scales")
            kept.append(more)

        def task(t: Index) -> tirx.Stmt:
            return self._task(t, ring, filtered, before)

        if self.batch * tasks == 1 or self.spec.macs < PARALLEL_MACS:
            none = before.put(0, tirx.const(NONE, "int32"))
            return sequence([*kept, none, loop(self.batch * tasks, task)])
        var = tirx.Var("task", "int32")
        body = sequence([*kept, task(var)])
        return tirx.For(var, 0, self.batch * tasks, tirx.ForKind.PARALLEL, body, annotations={KEPT: 1})

    def _task(self, t: Index, ring: Array, filtered: Array, before: Array) -> tirx.Stmt:
        tasks, high = self.point["tasks"], self.spec.out_spatial[0]
        n, part = tirx.floordiv(as_expr(t), tasks), tirx.floormod(as_expr(t), tasks)
        start, starts = named("start", tirx.floordiv(part * high, tasks))
        stop, stops = named("stop", tirx.floordiv((part + 1) * high, tasks))
        first, firsts = named("first", before.at(0))
        follows = tirx.And(tirx.GT(part, 0), tirx.EQ(first, as_expr(t) - 1))
        goes_on, goes = named("goes_on", tirx.Select(follows, as_expr(1), as_expr(0)))
        longest = -(-high // tasks)
        steps = -(-longest // self.rows)
        nothing = tirx.Evaluate(tirx.const(0, "int32"))
        borders = [] if self.in_place else self._borders(ring)
        return sequence([
            firsts, goes, starts, stops,
            *([tirx.IfThenElse(tirx.EQ(first, NONE), sequence(borders), nothing)] if borders else []),
            *([self._scales(n, first)] if self.spec.scale else []),
            loop(steps, lambda i: self._step(n, start, stop, i, goes_on, ring, filtered)),
            before.put(0, as_expr(t)),
        ])  # fmt: skip

    def _borders(self, ring: Array) -> Stmts:
        """Zeros beside the rows of the ring; and in channels that only fill up the last chunk."""
        chunk, stmts = self.packing.chunk, []
        rows = self.chunks * self.ring
        for at, count in ((0, self.first), (self.first + self.seen, self.across - self.first - self.seen)):
            if count:
                stmts.append(loop(rows, lambda row, at=at, count=count: self._zeros(
                    ring, (row * self.across + at) * chunk, count)))  # fmt: skip
        if not self.spec.expand and self.spec.channels % chunk:
            last = (self.chunks - 1) * self.ring * self.across * chunk
            stmts.append(self._zeros(ring, last, self.ring * self.across))
        return stmts

    def _scales(self, n: Index, first: Index) -> tirx.Stmt:
        """Those of an image, with room for whole chunks, or the weights that have them, unless they are there
        from the task before, ``first``."""
        scale, wide = self.arrays["scale"], self.spec.channels
        if self.only_scales:
            other = tirx.NE(tirx.floordiv(first, self.point["tasks"]), n)
            return tirx.IfThenElse(other, scaled_weights(self, n), tirx.Evaluate(tirx.const(0, "int32")))
        return vectors(wide, self.lanes, lambda i: self.scales.put(i, scale.at(n * wide + i)))

    def filtered(self, value: tirx.Expr, channel: Index) -> tirx.Expr:
        """What the last part reads, from a depthwise sum."""
        found = self.does.done("", value, channel)
        return found * self.scales.at(channel) if self.spec.scale else found

    def _zeros(self, ring: Array, at: Index, count: int) -> tirx.Stmt:
        """So many pixels of a chunk."""
        zero = tirx.const(0, ACC)
        chunk = self.packing.chunk
        return loop(count, lambda p: tile(chunk, self.lanes, lambda i: ring.put(at + p * chunk + i, zero)))

    def _step(
        self, n: Index, start: Index, stop: Index, i: Index, goes_on: Index, ring: Array, filtered: Array
    ) -> tirx.Stmt:
        """The next rows, from ``start`` + ``i`` steps on, of image ``n``."""
        stride, extent = self.spec.stride[0], self.spec.extent(0)
        row, rows = named("row", as_expr(start + i * self.rows))
        count, counts = named("count", tirx.max(tirx.min(self.rows, stop - row), 0))
        seen = tirx.max(row * stride, (row - 1) * stride + extent)  # the first that is not in the ring yet
        afresh = tirx.And(tirx.EQ(as_expr(i), 0), tirx.EQ(goes_on, 0))
        new, news = named("new", tirx.Select(afresh, row * stride, seen))
        end = (row + count - 1) * stride + extent

        def chunk(c: Index) -> tirx.Stmt:
            return sequence([
                *([counted(end - new, lambda r: self._expand(n, new + r, c, ring))] if self.seen else []),
                in_rows(self, count, lambda o, rows: filter_in_ring(
                    self, row + o, o, rows, c, ring, filtered)),
            ])  # fmt: skip

        def panel(c: Index, width: int) -> tirx.Stmt:
            return counted(count, lambda o: self._project(n, row + o, o, c, width, filtered))

        whole, rest = divmod(self.spec.out_channels, self.packing.block)
        if self.only_scales:
            filters = tirx.Evaluate(tirx.const(0, "int32"))
        elif self.in_place:
            filters = in_rows(self, count, lambda o, rows: filter_in_place(
                self, n, row + o, o, rows, filtered))  # fmt: skip
        else:
            filters = loop(self.chunks, chunk)
        if self.reads_words and self.seen:
            filters = sequence([counted(end - new, lambda r: row_of_words(self, n, new + r)), filters])
        return sequence([
            rows, counts, news, filters,
            *([loop(whole, lambda c: panel(c, self.packing.block))] if whole else []),
            *([panel(whole, rest)] if rest else []),
        ])  # fmt: skip

    def _expand(self, n: Index, row: Index, c: Index, ring: Array) -> tirx.Stmt:
        """A row of the padded image into the ring, chunk ``c`` of it."""
        (high, wide), chunk, inputs = self.spec.in_spatial, self.packing.chunk, self.spec.in_channels
        top, does = self.spec.padding[0][0], self.does
        slot = tirx.truncmod(row, self.ring)
        at, ats = named("at", ((c * self.ring + slot) * self.across + self.first) * chunk)
        line = slot * self.pitch if self.reads_words else (n * high + row - top) * wide
        source, sources = named("source", line)

        def tile_of(p: Index, count: int) -> tirx.Stmt:
            def left(r: int, k: Index) -> tirx.Expr:
                if self.reads_words:
                    return self.lines.at(source + (p + r) * self.inputs + k)
                return self.arrays["x"].at(source + p + r, k)

            return self._product(
                (count, self.packing.chunk), "expand_", c, inputs, left,
                lambda r, i, v: ring.put(at + (p + r) * chunk + i, does.done("expand_", v, c * chunk + i)))

        def copied(width: int) -> Callable[[Index], tirx.Stmt]:
            return lambda p: tile(width, self.lanes, lambda i: ring.put(
                at + p * chunk + i, does.given(source + p, c * chunk + i)))  # fmt: skip

        rest = inputs % chunk
        if self.spec.expand:
            body = in_tiles(self.seen, self.point["expanded"], tile_of)
        elif not rest:
            body = loop(self.seen, copied(chunk))
        elif self.chunks == 1:
            body = loop(self.seen, copied(rest))
        else:
            body = tirx.IfThenElse(tirx.LT(c, self.chunks - 1), loop(self.seen, copied(chunk)),
                                   loop(self.seen, copied(rest)))  # fmt: skip
        if not any(self.spec.padding[0]):
            return sequence([ats, sources, body])
        inside = tirx.And(tirx.GE(row, top), tirx.LT(row, top + high))
        return sequence([ats, sources, tirx.IfThenElse(inside, body, self._zeros(ring, at, self.seen))])

    def _project(self, n: Index, row: Index, o: Index, c: Index, width: int, filtered: Array) -> tirx.Stmt:
        """A row of the result, panel ``c`` of it, ``width`` channels."""
        spec, (high, wide) = self.spec, self.spec.out_spatial
        at, ats = named("at", as_expr((n * high + row) * wide))
        source, sources = named("source", as_expr(o * (wide * self.wide)))
        residual, y = self.arrays.get("residual"), self.arrays["y"]

        def tile_of(p: Index, count: int) -> tirx.Stmt:
            def store(r: int, i: Index, v: tirx.Expr) -> tirx.Stmt:
                to = at + p + r, c * self.packing.block + i
                added = None if residual is None else residual.at(*to)
                return y.put(to, self.does.done("project_", v, to[1], added))

            def left(r: int, k: Index) -> tirx.Expr:
                if self.only_scales:
                    return self.arrays["x"].at(at + p + r, k)
                return filtered.at(source + (p + r) * self.wide + k)

            return self._product((count, width), "project_", c, spec.channels, left, store)

        return sequence([ats, sources, in_tiles(wide, self.point["projected"], tile_of)])

    def _product(
        self, shape: tuple[int, int], prefix: str, c: Index, inner: int,
        left: Callable[[int, Index], tirx.Expr], store: Callable[[int, Index, tirx.Expr], tirx.Stmt],
    ) -> tirx.Stmt:  # fmt: skip
        """A register tile of (pixels, channels) of a pointwise part: block ``c`` of its weights times
        ``left(pixel, channel)``. Of the sums in the block, ``store`` takes those of ``channels``."""
        (count, width), lanes, does = shape, self.lanes, self.does
        w, block, words = does.arrays[f"packed_{prefix}w"], self.packing.width(prefix), does.words(inner)
        half = max(lanes // 2, 1)
        full = -(-width // half) * half
        sums, made = held(count * full, does.sums, "sums")

        def term(k: Index, r: int) -> tirx.Stmt:
            value = does.factor(left, r, k)
            return tile(full, lanes, lambda i: sums.put(r * full + i, sums.at(r * full + i) + does.times(
                value, w.at((c * words + k) * block + i))))  # fmt: skip

        more, seen = does.windows(prefix, left, count, inner)
        return sequence([
            made, *self.start(sums, prefix, c * block, count, full),
            loop(words, lambda k: sequence([term(k, r) for r in range(count)])), *more,
            *(tile(width, lanes, lambda i, r=r: store(r, i, does.total(
                prefix, sums.at(r * full + i), c * block + i, seen, r))) for r in range(count)),
        ])  # fmt: skip

    def start(self, sums: Array, prefix: str, at: Index, count: int, width: int) -> Stmts:
        """Sums that begin with what they have from channel ``at`` on."""
        return [tile(width, self.lanes, lambda i, r=r: sums.put(
            r * width + i, self.does.start(prefix, at + i))) for r in range(count)]  # fmt: skip
