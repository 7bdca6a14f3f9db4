"""Values as ranges of the channels of wider ones: concatenations and slices that need no copy.

A value's rows are its elements along the last dim, its channels. It lies in a buffer whose rows may be
longer: a producer writes, and readers read, every ``pitch`` elements, from ``offset`` on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from tvmconv.formats.program_checks import MOST_OPERANDS
from tvmconv.network.graph import Graph, Node
from tvmconv.specs.operators import Copy, Layer
from tvmconv.specs.operators.base import Type
from tvmconv.specs.operators.copy import Piece
from tvmconv.specs.work import Work

MOST_READ = MOST_OPERANDS - 1  # by a copy, beside its result
TakesPitch = Callable[[Node, str, bool], bool]


@dataclass(frozen=True)
class Place:
    """Where a value lies: rows of ``pitch`` elements of the value ``buffer``, from element ``offset`` on."""

    buffer: str
    offset: int
    pitch: int


@dataclass(frozen=True, eq=False)
class Views:
    """places: of every value. steps: the nodes that have work to do, copies with the pieces that are left; a
    piece's place in the result counts from the result's own first element, in rows of its own width."""

    places: Mapping[str, Place]
    steps: tuple[Node, ...]

    @property
    def copies(self) -> tuple[Node, ...]:
        """The copies that are left."""
        return tuple(node for node in self.steps if isinstance(node.op, Copy))


def place_values(graph: Graph, takes_pitch: TakesPitch | None = None) -> Views:
    """Where each value of a channels-last network lies, so that few copies are left.

    takes_pitch: whether a node can read a value (or write it, made) whose rows lie apart."""
    return _Placing(graph, takes_pitch or _takes_pitch).views()


def width(type_: Type) -> int:
    """Elements of a row."""
    return type_.shape[-1] if type_.shape else 1


class _Placing:
    def __init__(self, graph: Graph, takes_pitch: TakesPitch) -> None:
        self._graph, self._takes_pitch = graph, takes_pitch
        self._producers = {name: node for node in graph.nodes for name in node.outputs}
        self._readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in dict.fromkeys(node.inputs):
                self._readers.setdefault(name, []).append(node)
        self._fixed = {*graph.inputs, *graph.constants, *graph.outputs.values()}
        self._parents: dict[str, tuple[str, int]] = {}
        self._aliases: dict[str, str] = {}
        self._free: set[str] = set()  # results of reshapes that are where what they read is
        self._done: dict[str, set[int]] = {}  # of copies: the pieces that need no work

    def views(self) -> Views:
        copies = [node for node in self._graph.nodes if isinstance(node.op, Copy)]
        for node in copies:
            if _is_reshape(node):
                self._alias(node)
        rest = [node for node in copies if node.output not in self._free]
        for node in sorted(rest, key=lambda node: -self._graph.type(node.output).size):
            self._place_slice(node)
            if not self._place_whole(node):
                self._place_pieces(node)
        places = {name: self._place(name) for name in self._graph.values}
        steps = tuple(step for node in self._graph.nodes for step in self._left(node))
        return Views(places, steps)

    def _alias(self, node: Node) -> None:
        """A reshape as the same place: of what it reads, or where a caller's result is, there."""
        x, y = node.inputs[0], node.output
        root = self._root(x)[0]
        if y not in self._fixed:
            self._aliases[y] = x
        elif root not in self._fixed:
            self._aliases[root] = y
        else:
            return
        self._free.add(y)

    def _root(self, name: str) -> tuple[str, int]:
        """(the value in whose buffer one lies, the channel there at which it begins)."""
        offset = 0
        while True:
            if name in self._parents:
                name, more = self._parents[name]
                offset += more
            elif name in self._aliases:
                name = self._aliases[name]
            else:
                return name, offset

    def _place(self, name: str) -> Place:
        root, offset = self._root(name)
        pitched = self._is_pitched(name)
        own = width(self._graph.type(name))
        return Place(root, offset, width(self._graph.type(root)) if pitched else own)

    def _is_pitched(self, name: str) -> bool:
        while name in self._aliases:
            name = self._aliases[name]
        return name in self._parents

    def _may_lie_apart(self, name: str) -> bool:
        """Whether a value may have rows that are longer than it is: its maker and all readers can do that."""
        if name in self._fixed or name in self._parents or name in self._aliases:
            return False
        maker = self._producers.get(name)
        if maker is None or not self._takes_pitch(maker, name, True):
            return False
        if any(alias == name for alias in self._aliases.values()):  # its rows would not be the alias's
            return False
        return all(self._takes_pitch(node, name, False) for node in self._readers.get(name, ()))

    def _place_slice(self, node: Node) -> None:
        """A range of the channels of one value, as a view of it."""
        found = _range_of(node)
        if found is None or node.output in self._parents or node.output in self._fixed:
            return
        x, at = node.inputs[0], found
        if x in self._aliases or not all(
            self._takes_pitch(reader, node.output, False) for reader in self._readers.get(node.output, ())
        ):
            return
        if any(alias == node.output for alias in self._aliases.values()) or self._root(x)[0] == node.output:
            return
        self._parents[node.output] = (x, at)
        self._done[node.output] = {0}

    def _place_whole(self, node: Node) -> bool:
        """A concatenation whose parts lie side by side already, as a view of what they lie in."""
        if node.output in self._parents or node.output in self._fixed:
            return False
        assert isinstance(node.op, Copy)
        places = [_part_of(node, piece) for piece in node.op.pieces]
        if not node.op.is_full or None in places or len(places) < 2:
            return False
        roots = [self._root(node.inputs[piece.source]) for piece in node.op.pieces]
        first, base = roots[0][0], roots[0][1] - places[0]
        together = all(root == (first, base + at) for root, at in zip(roots, places, strict=True))
        if first == node.output or not together:
            return False
        if not self._may_lie_apart_as_result(node) or first in self._aliases:
            return False
        self._parents[node.output] = (first, base)
        self._done[node.output] = set(range(len(places)))
        return True

    def _may_lie_apart_as_result(self, node: Node) -> bool:
        readers = self._readers.get(node.output, ())
        aliased = any(alias == node.output for alias in self._aliases.values())
        return not aliased and all(self._takes_pitch(reader, node.output, False) for reader in readers)

    def _place_pieces(self, node: Node) -> None:
        """The parts of a concatenation whose makers can write into it."""
        assert isinstance(node.op, Copy)
        if not node.op.is_full:  # the copy that fills the rest would write over them
            return
        for number, piece in enumerate(node.op.pieces):
            at, name = _part_of(node, piece), node.inputs[piece.source]
            if at is None or not self._may_lie_apart(name) or self._root(node.output)[0] == name:
                continue
            roots = [self._root(node.inputs[other.source])[0] for other in node.op.pieces]
            if roots.count(name) > 1:  # a copy of the other would read where it writes
                continue
            self._parents[name] = (node.output, at)
            self._done.setdefault(node.output, set()).add(number)

    def _left(self, node: Node) -> list[Node]:
        """What of a node has to run: copies of few inputs each, of which those after the first, and all where
        something is in its place already, leave the rest of the result as it is."""
        if not isinstance(node.op, Copy):
            return [node]
        if node.output in self._free:
            return []
        done = self._done.get(node.output, set())
        pieces = [piece for number, piece in enumerate(node.op.pieces) if number not in done]
        if not pieces and done:
            return []
        sources = sorted({piece.source for piece in pieces})
        if not done and len(node.inputs) <= MOST_READ:
            return [node]
        found = []
        for first in range(0, max(len(sources), 1), MOST_READ):
            part = sources[first : first + MOST_READ] or [0]
            mine = [replace(p, source=part.index(p.source)) for p in pieces if p.source in part]
            fill = None if done or first or node.op.is_full else node.op.fill
            op = Copy(tuple(node.op.inputs[at] for at in part), node.op.shape, tuple(mine), fill)
            found.append(replace(node, op=op, inputs=tuple(node.inputs[at] for at in part)))
        return found


def _is_reshape(node: Node) -> bool:
    return isinstance(node.op, Copy) and node.op.is_reshape


def work_of(node: Node) -> Work:
    """What a kernel is compiled for, to run a node on dense values."""
    return node.op.spec if isinstance(node.op, Layer) else node.op


def arrays_of(node: Node) -> Iterator[tuple[str, str, bool]]:
    """(a value of a node, its kernel's array, whether that is written) for all that it reads and makes."""
    names = node.op.arguments if isinstance(node.op, Layer) else [f"x{k}" for k in range(len(node.inputs))]
    for value, array in zip(node.inputs, names, strict=True):
        yield value, array, False
    for number, value in enumerate(node.outputs):
        yield value, f"y{number or ''}", True


def _takes_pitch(node: Node, name: str, made: bool) -> bool:
    """Whether an operator can read (or write, made) a value whose rows lie apart."""
    able = work_of(node).takes_pitch()
    arrays = {array for value, array, written in arrays_of(node) if value == name and written == made}
    return not _is_reshape(node) and arrays <= able


def _part_of(node: Node, piece: Piece) -> int | None:
    """The channel of a copy's result at which a whole input lies row by row; None for other pieces."""
    x, wide = node.op.inputs[piece.source], width(node.op.infer()[0])
    narrow = width(x)
    if not narrow or not wide or piece.to + narrow > wide:
        return None
    rows = x.size // narrow
    whole = Piece.of(piece.source, 0, (narrow, 1), piece.to, (wide, 1), (rows, narrow))
    return piece.to if whole == piece and rows * wide == node.op.infer()[0].size else None


def _range_of(node: Node) -> int | None:
    """The channel at which a copy's result begins in its input, where it is such a range of each row."""
    if not isinstance(node.op, Copy) or len(node.op.pieces) != 1:
        return None
    (piece,) = node.op.pieces
    x, narrow = node.op.inputs[piece.source], width(node.op.infer()[0])
    wide = width(x)
    if not wide or not narrow or piece.start + narrow > wide:
        return None
    rows = x.size // wide
    whole = Piece.of(piece.source, piece.start, (wide, 1), 0, (narrow, 1), (rows, narrow))
    return piece.start if whole == piece and rows * narrow == node.op.infer()[0].size else None
