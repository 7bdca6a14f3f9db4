"""Channel shuffles put into the weights of what reads them: a copy then moves whole ranges of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import numpy as np

from tvmconv.network.graph import Array, Editor, Graph, Node
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.operators import Copy, Layer, Piece, Type

_PER_CHANNEL = ("w", "bias", "slopes")


def sorted_channels(graph: Graph) -> Graph:
    """Copies of channels give them in the order of what they read, where only convolutions read the result,
    whose weights can have another order, and other such copies."""
    return _Sorting(graph).graph()


class _Sorting:
    """orders: of values whose channels lie in another order: which channel each of them was."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._editor = graph, Editor.of(graph)
        self._readers = self._editor.consumers()
        self._orders: dict[str, Array] = {}
        self._origins: dict[str, list[tuple[str, int]]] = {}  # of copies: the value and channel of each
        self._known: dict[str, bool] = {}

    def graph(self) -> Graph:
        for node in self._graph.nodes:
            if isinstance(node.op, Copy):
                self._copy(node, node.op)
            elif node.inputs and node.inputs[0] in self._orders:
                self._layer(node, node.op)
        return self._editor.graph() if self._orders else self._graph

    def _copy(self, node: Node, op: Copy) -> None:
        channels = _channels_of(op)
        if channels is None:
            return
        absorbed = self._absorbed(node.output)
        origins = [(node.inputs[at], int(column)) for at, column in zip(*channels, strict=True)]
        if absorbed:  # what it reads of another such copy is read where that reads it
            origins = [self._origins[name][c] if name in self._origins else (name, c) for name, c in origins]
            self._origins[node.output] = origins
        names = list(dict.fromkeys(name for name, _ in origins))
        sources = np.array([names.index(name) for name, _ in origins])
        columns = np.array([self._column(name, column) for name, column in origins])
        order = np.arange(len(origins))
        if absorbed:
            order = np.lexsort((columns, sources))
        made = _copy_of(
            [self._graph.type(name) for name in names], op.shape, sources[order], columns[order]
        )  # fmt: skip
        if made != op:
            self._editor.put(Node(made, tuple(names), node.outputs, node.source))
        if (order != np.arange(len(order))).any():
            self._orders[node.output] = order

    def _column(self, name: str, channel: int) -> int:
        """Where a channel of a value lies."""
        return int(np.argsort(self._orders[name])[channel]) if name in self._orders else channel

    def _layer(self, node: Node, op: Any) -> None:
        order, depthwise = self._orders[node.inputs[0]], op.spec.groups > 1
        names = dict(zip(op.arguments, node.inputs, strict=True))
        for argument in _PER_CHANNEL if depthwise else ("w",):
            if argument in names:
                array = self._graph.constants[names[argument]]
                axis = array.ndim - (1 if depthwise else 2)
                names[argument] = self._editor.constant(np.take(array, order, axis), names[argument])
        self._editor.put(replace(node, inputs=tuple(names.values())))
        if depthwise:
            self._orders[node.output] = order

    def _absorbed(self, name: str) -> bool:
        """Whether the channels of a value may be in any order, for all that read it."""
        if name not in self._known:
            readers = self._readers.get(name, [])
            hidden = bool(readers) and not self._editor.is_output(name)
            self._known[name] = hidden and all(self._takes_any(node, name) for node in readers)
        return self._known[name]

    def _takes_any(self, node: Node, name: str) -> bool:
        op: Any = node.op
        if isinstance(op, Copy):
            return _channels_of(op) is not None
        if not isinstance(op, Layer) or op.spec.family != "conv" or not op.spec.channels_last:
            return False
        names, spec = dict(zip(op.arguments, node.inputs, strict=True)), cast(ConvSpec, op.spec)
        given = {argument for argument, value in names.items() if value == name}
        known = all(v in self._graph.constants for a, v in names.items() if a in _PER_CHANNEL)
        if given != {"x"} or not known:
            return False
        if spec.groups == 1:
            return True
        plain = spec.groups == spec.in_channels == spec.out_channels and spec.shuffle == 1
        if not plain or spec.transposed or spec.is_integer or spec.residual:
            return False
        return self._absorbed(node.output)


@lru_cache(maxsize=1024)
def _channels_of(op: Copy) -> tuple[Array, Array] | None:
    """(input, its channel) of each channel of a copy's result, if that is the same for every row; None for
    other copies."""
    types = (*op.inputs, *op.infer())
    if not op.is_full or any(not one.size or not one.shape for one in types):
        return None
    widths = np.array([one.shape[-1] for one in op.inputs])
    rows, width = op.infer()[0].size // op.shape[-1], op.shape[-1]
    if any(one.size // one.shape[-1] != rows for one in op.inputs):
        return None
    starts = np.cumsum([0, *(one.size for one in op.inputs)])
    places = [np.arange(one.size).reshape(one.shape) + start
              for one, start in zip(op.inputs, starts, strict=False)]  # fmt: skip
    (found,) = op.compute(places)
    found = found.reshape(rows, width)
    sources = np.searchsorted(starts, found[0], "right") - 1
    columns = found[0] - starts[sources]
    same = (columns < widths[sources]).all()
    same = same and (found == found[0] + np.arange(rows)[:, None] * widths[sources]).all()
    return (sources, columns) if same else None


def _copy_of(types: Sequence[Type], shape: tuple[int, ...], sources: Array, columns: Array) -> Copy:
    """The copy of these channels of its inputs."""
    pieces, at, width = [], 0, len(sources)
    while at < width:
        end = at + 1
        step = columns[end] - columns[at] if end < width and sources[end] == sources[at] else 1
        while end < width and sources[end] == sources[at] and columns[end] - columns[end - 1] == step:
            end += 1
        x = types[sources[at]]
        rows, steps = x.size // x.shape[-1], (x.shape[-1], int(step))
        pieces.append(Piece.of(int(sources[at]), int(columns[at]), steps, at, (width, 1), (rows, end - at)))
        at = end
    return Copy(tuple(types), shape, tuple(pieces))
