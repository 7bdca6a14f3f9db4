"""What reductions and normalisations do with the elements that are reduced together: in passes over them.

Where the innermost dim is reduced, a task has one such row, in vectors along it, and sums in several strands
that are joined in the end. Where it is not, a task has a block of rows side by side, in vectors across them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from tvm import tirx

from tvmconv.compiler.codegen.nest import Array, Index, Loop, held, in_blocks, moved, nest, tile, vectors
from tvmconv.compiler.codegen.nest import loop as loop_
from tvmconv.compiler.lower.rewrite import sequence

Join = Callable[[tirx.Expr, tirx.Expr], tirx.Expr]
Element = Callable[[tuple[Index, ...], Index], tirx.Expr]  # places, which of the rows side by side
_STRANDS = 4  # vectors


@dataclass(frozen=True)
class Rows:
    """Rows of a task. at: where they begin in each array; loops: over the elements of a row, without the
    innermost dim where a row goes along that; inner: the innermost dim, a row's own or that across rows."""

    at: tuple[Index, ...]
    loops: Sequence[Loop]
    inner: Loop
    along: bool
    lanes: int

    @property
    def count(self) -> int:
        """Rows side by side."""
        return 1 if self.along else self.inner.size

    def held(self, dtype: str) -> tuple[Array, tirx.Stmt]:
        """An array with a number for each row."""
        return held(self.count, dtype)

    def each(self, statement: Callable[[tuple[Index, ...], Index], tirx.Stmt]) -> tirx.Stmt:
        """``statement(places, row)`` for each element."""
        def inside(at: tuple[Index, ...]) -> tirx.Stmt:
            at = moved(at, self.at)
            return vectors(self.inner.size, self.lanes,
                           lambda i: statement(self._further(at, i), 0 if self.along else i))  # fmt: skip

        return nest(self.loops, inside, len(self.at))

    def every(self, statement: Callable[[Index], tirx.Stmt]) -> tirx.Stmt:
        """``statement(row)`` for each row."""
        return tile(self.count, self.lanes, statement)

    def folded(self, start: tirx.Expr, join: Join, element: Element) -> tuple[Array, list[tirx.Stmt]]:
        """An array with all elements of each row joined, and the statements that make it."""
        inner = self.inner.size
        span = self.count
        if self.along:
            span = self.lanes * _STRANDS
            while span >= 2 * max(inner, 1):
                span //= 2
        sums, made = held(span, str(start.ty.dtype), "sums")

        def joined(at: tuple[Index, ...], first: Index, width: int) -> tirx.Stmt:
            return tile(width, self.lanes, lambda i: sums.put(i, join(
                sums.at(i), element(self._further(at, first + i), 0 if self.along else i))))  # fmt: skip

        def inside(at: tuple[Index, ...]) -> tirx.Stmt:
            at = moved(at, self.at)
            if not self.along:
                return joined(at, 0, span)
            parts = [loop_(inner // span, lambda k: joined(at, k * span, span))] if inner >= span else []
            if inner % span:
                parts.append(joined(at, inner // span * span, inner % span))
            return sequence(parts or [loop_(0, lambda _: joined(at, 0, 0))])

        stmts = [made, tile(span, self.lanes, lambda i: sums.put(i, start)),
                 nest(self.loops, inside, len(self.at))]  # fmt: skip
        half = span // 2
        while self.along and half:
            stmts.append(tile(half, self.lanes,
                              lambda i, half=half: sums.put(i, join(sums.at(i), sums.at(i + half)))))
            half //= 2
        return sums, stmts

    def _further(self, at: tuple[Index, ...], i: Index) -> tuple[Index, ...]:
        return moved(at, tuple(i * step if step else 0 for step in self.inner.steps))


def by_rows(loops: Sequence[Loop], kept: Callable[[Loop], bool], lanes: int, arrays: int,
            task: Callable[[Rows], tirx.Stmt], work: float) -> tirx.Stmt:  # fmt: skip
    """``task(rows)`` for all rows: of the loops over x those that are not ``kept`` go over a row."""
    outer = [one for one in loops if kept(one)]
    reduced = [one for one in loops if not kept(one)]
    nothing = Loop(1, (0,) * arrays)
    if not loops or not kept(loops[-1]):
        *others, inner = reduced or [nothing]
        return in_blocks(outer, nothing, 1, lambda at, _: task(Rows(at, others, inner, True, lanes)), work)
    *outer, inner = outer

    def block(at: tuple[Index, ...], width: int) -> tirx.Stmt:
        return task(Rows(at, reduced, Loop(width, inner.steps), False, lanes))

    # Few rows in all are shared among the threads in smaller blocks.
    tasks = prod(one.size for one in outer) * -(-inner.size // (_STRANDS * lanes))
    return in_blocks(outer, inner, lanes * (_STRANDS if tasks >= _STRANDS else 2), block, work)
