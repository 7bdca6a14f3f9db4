"""One workspace for all values between inputs and results: where each lies, and how little is enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tvmconv.base.memory import PAGE
from tvmconv.network.graph import Graph
from tvmconv.network.views import Views
from tvmconv.specs.operators import Map

ALIGNMENT = 64
_LARGE, _APART = 1 << 14, 256  # bytes


@dataclass
class Buffer:
    """bytes: its size, aligned. first, last: the steps in which it is alive."""

    name: str
    bytes: int
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class MemoryPlan:
    """offsets: byte of the workspace at which each buffer begins, by the value that it is named after. bytes:
    of the workspace. bound: the largest sum of what is alive at once; no plan needs less. buffers: those that
    have places of their own; a map's result may share one."""

    offsets: Mapping[str, int]
    bytes: int
    bound: int
    buffers: Sequence[Buffer]


def plan_memory(graph: Graph, views: Views) -> MemoryPlan:
    """The workspace of a network: buffers one after the other, large ones first or in another order, each at
    the lowest place that is free while it is alive. A map may write over an input that nothing reads
    later."""
    buffers = _lifetimes(graph, views)
    shared = _in_place(graph, views, buffers)
    roots = {name: shared.get(name, name) for name in buffers}
    merged: dict[str, Buffer] = {}
    for name, buffer in buffers.items():
        root = roots[name]
        if root not in merged:
            merged[root] = Buffer(root, buffer.bytes, buffer.first, buffer.last)
        one = merged[root]
        one.first, one.last = min(one.first, buffer.first), max(one.last, buffer.last)
        one.bytes = max(one.bytes, buffer.bytes)
    every = list(merged.values())
    plans = [_placed(sorted(every, key=order), _bound(every)) for order in _ORDERS]
    totals = [max((plan[one.name] + one.bytes for one in every), default=0) for plan in plans]
    most = _ROOM * min(totals, default=0)
    able = [(total, plan) for plan, total in zip(plans, totals, strict=True) if total <= most]
    total, places = min(able, key=lambda one: (_handed_over(every, one[1], one[0]), one[0]))
    return MemoryPlan({name: places[roots[name]] for name in buffers}, total, _bound(every), every)


_ORDERS: tuple[Callable[[Buffer], tuple[int, ...]], ...] = (
    lambda one: (-one.bytes, one.first),
    lambda one: (-one.bytes, -one.last),
    lambda one: (one.first - one.last, -one.bytes),
    lambda one: (-one.bytes * (one.last - one.first + 1), one.first),
    lambda one: (one.first, -one.bytes),
)
"""In which buffers are placed; the order is taken whose buffers' halves fit best, see `_placed`."""

_ROOM = 1.1  # how many times the least workspace, for halves that fit


def _lifetimes(graph: Graph, views: Views) -> dict[str, Buffer]:
    """Each buffer of the workspace, by its name: not those that a caller gives, or constants."""
    given = (*graph.inputs, *graph.constants, *graph.outputs.values())
    callers = {views.places[name].buffer for name in given}
    found: dict[str, Buffer] = {}
    for number, step in enumerate(views.steps):
        for name in (*step.outputs, *step.inputs):
            root = views.places[name].buffer
            if root in callers:
                continue
            size = _staggered(-(-graph.type(root).bytes // ALIGNMENT) * ALIGNMENT)
            buffer = found.setdefault(root, Buffer(root, size, number, number))
            buffer.last = number
    return found


def _staggered(size: int) -> int:
    """The bytes that a buffer of ``size`` takes. After one that ends near a multiple of 1024, the next would
    begin where the same places of both are a multiple of 4096 apart, for which CPUs take a load of one for
    a load of what was just stored to the other: a depthwise layer took 1.4 times as long."""
    while size >= _LARGE and not _APART <= size % 1024 <= 1024 - _APART:
        size += ALIGNMENT
    return size


def _in_place(graph: Graph, views: Views, buffers: Mapping[str, Buffer]) -> dict[str, str]:
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


def _placed(buffers: Sequence[Buffer], bound: int) -> dict[str, int]:
    """Each buffer's place: where a thread's part of it is the same thread's part of what lay there before;
    else, as long as there is room, where nothing has lain; else the lowest that is free. Kernels give each
    thread neighbouring rows of an image, so halves fit where the centre is one of another buffer. (What two
    cores write in turns goes from cache to cache each time.)"""
    placed: list[tuple[int, Buffer]] = []
    centres: list[int] = []
    top = 0
    for buffer in buffers:
        busy = sorted(
            (start, start + other.bytes) for start, other in placed
            if other.first <= buffer.last and buffer.first <= other.last
        )  # fmt: skip
        lowest = 0
        for start, end in busy:
            if lowest + buffer.bytes <= start:
                break
            lowest = max(lowest, end)
        half = buffer.bytes // 2 // ALIGNMENT * ALIGNMENT
        free = [at for centre in centres for at in _near(centre - half, buffer.bytes, busy)[:1]]
        at = min(free, default=top)
        if at + buffer.bytes > max(top, lowest + buffer.bytes, _ROOM * bound):
            at = lowest
        placed.append((at, buffer))
        centres += [at + half] * (at + half not in centres)
        top = max(top, at + buffer.bytes)
    return {buffer.name: at for at, buffer in placed}


def _near(at: int, size: int, busy: Sequence[tuple[int, int]]) -> list[int]:
    """Places near this one that are free, those first whose distance to what is alive is as of `_staggered`
    buffers."""
    free = [
        near for near in (at, *(at + step * _APART for step in (1, -1, 2, -2, 3, -3)))
        if near >= 0 and not any(start < near + size and near < end for start, end in busy)
    ]  # fmt: skip
    return sorted(free, key=lambda near: any(
        not _APART <= (near - start) % 1024 <= 1024 - _APART for start, _ in busy))  # fmt: skip


def _handed_over(buffers: Sequence[Buffer], places: Mapping[str, int], total: int) -> int:
    """How often two threads that halve each buffer write to memory that was the other's, in pages."""
    owner = np.full(total // PAGE + 1, -1, np.int8)
    count = 0
    for buffer in sorted(buffers, key=lambda one: one.first):
        at, half = places[buffer.name], buffer.bytes // 2
        for thread, start in enumerate((at, at + half)):
            part = owner[start // PAGE : (start + half) // PAGE]
            count += int(np.count_nonzero(part == 1 - thread))
            part[:] = thread
    return count


def _bound(buffers: Sequence[Buffer]) -> int:
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


