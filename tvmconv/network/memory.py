"""One workspace for all values between inputs and results: where each lies, and how little is enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tvmconv.network.graph import Graph
from tvmconv.network.views import Views
from tvmconv.specs.operators import Map

ALIGNMENT = 64
_LARGE, _APART = 1 << 14, 256  # bytes


@dataclass(frozen=True, eq=False)
class MemoryPlan:
    """offsets: byte of the workspace at which each buffer begins, by the value that it is named after. bytes:
    of the workspace. bound: the largest sum of what is alive at once; no plan needs less."""

    offsets: Mapping[str, int]
    bytes: int
    bound: int


@dataclass
class _Buffer:
    """bytes: its size, aligned. first, last: the steps in which it is alive."""

    name: str
    bytes: int
    first: int
    last: int


def plan_memory(graph: Graph, views: Views) -> MemoryPlan:
    """The workspace of a network: buffers one after the other, large ones first or in another order, each at
    the lowest place that is free while it is alive. A map may write over an input that nothing reads
    later."""
    buffers = _lifetimes(graph, views)
    shared = _in_place(graph, views, buffers)
    roots = {name: shared.get(name, name) for name in buffers}
    merged: dict[str, _Buffer] = {}
    for name, buffer in buffers.items():
        root = roots[name]
        if root not in merged:
            merged[root] = _Buffer(root, buffer.bytes, buffer.first, buffer.last)
        one = merged[root]
        one.first, one.last = min(one.first, buffer.first), max(one.last, buffer.last)
        one.bytes = max(one.bytes, buffer.bytes)
    every = list(merged.values())
    plans = [_greedy(sorted(every, key=order)) for order in _ORDERS]
    totals = [max((plan[one.name] + one.bytes for one in every), default=0) for plan in plans]
    places = plans[totals.index(min(totals))]
    return MemoryPlan({name: places[roots[name]] for name in buffers}, min(totals), _bound(every))


_ORDERS: tuple[Callable[[_Buffer], tuple[int, ...]], ...] = (
    lambda one: (-one.bytes, one.first),
    lambda one: (-one.bytes, -one.last),
    lambda one: (one.first - one.last, -one.bytes),
    lambda one: (-one.bytes * (one.last - one.first + 1), one.first),
    lambda one: (one.first, -one.bytes),
)
"""In which buffers are placed; the order that needs least is taken, the first where several do."""


def _lifetimes(graph: Graph, views: Views) -> dict[str, _Buffer]:
    """Each buffer of the workspace, by its name: not those that a caller gives, or constants."""
    given = (*graph.inputs, *graph.constants, *graph.outputs.values())
    callers = {views.places[name].buffer for name in given}
    found: dict[str, _Buffer] = {}
    for number, step in enumerate(views.steps):
        for name in (*step.outputs, *step.inputs):
            root = views.places[name].buffer
            if root in callers:
                continue
            size = _staggered(-(-graph.type(root).bytes // ALIGNMENT) * ALIGNMENT)
            buffer = found.setdefault(root, _Buffer(root, size, number, number))
            buffer.last = number
    return found


def _staggered(size: int) -> int:
    """The bytes that a buffer of ``size`` takes. After one that ends near a multiple of 1024, the next would
    begin where the same places of both are a multiple of 4096 apart, for which CPUs take a load of one for
    a load of what was just stored to the other: a depthwise layer took 1.4 times as long."""
    while size >= _LARGE and not _APART <= size % 1024 <= 1024 - _APART:
        size += ALIGNMENT
    return size


def _in_place(graph: Graph, views: Views, buffers: Mapping[str, _Buffer]) -> dict[str, str]:
    """The buffer that another one shares, by its name: of a map's result and an input that ends with it."""
    shared: dict[str, str] = {}
    ends = {name: buffer.last for name, buffer in buffers.items()}
    for number, step in enumerate(views.steps):
        if not isinstance(step.op, Map):
            continue
        y = views.places[step.output]
        if y.buffer not in buffers or y.buffer != step.output or buffers[y.buffer].first != number:
            continue
        wanted = graph.type(step.output)
        for name in step.inputs:
            x = views.places[name]
            free = x.buffer in buffers and ends[x.buffer] == number and x.buffer == name
            if free and graph.type(name).shape == wanted.shape and graph.type(name).bytes == wanted.bytes:
                shared[y.buffer] = shared.get(x.buffer, x.buffer)
                break
    return shared


def _greedy(buffers: Sequence[_Buffer]) -> dict[str, int]:
    placed: list[tuple[int, _Buffer]] = []
    for buffer in buffers:
        at = 0
        busy = sorted(
            (start, other.bytes) for start, other in placed
            if other.first <= buffer.last and buffer.first <= other.last
        )  # fmt: skip
        for start, size in busy:
            if at + buffer.bytes <= start:
                break
            at = max(at, start + size)
        placed.append((at, buffer))
    return {buffer.name: at for at, buffer in placed}


def _bound(buffers: Sequence[_Buffer]) -> int:
    """The largest sum of bytes of buffers that are alive in one step."""
    steps = max((buffer.last for buffer in buffers), default=-1) + 1
    change = [0] * (steps + 1)
    for buffer in buffers:
        change[buffer.first] += buffer.bytes
        change[buffer.last + 1] -= buffer.bytes
    alive = most = 0
    for step in change:
        alive += step
        most = max(most, alive)
    return most


