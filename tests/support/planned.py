"""A network run in the memory that was planned for it: values where they lie, one step after the other."""

from __future__ import annotations

import numpy as np

from tvmconv.network.views import width
from tvmconv.specs.operators import Copy


def run_planned(graph, views, memory, inputs):
    """The results, by public name. Memory begins as NaN; inputs and constants are never written."""
    workspace = np.full(max(memory.bytes, 8), 0xFF, np.uint8)
    held = {}

    def whole(name):
        """The elements of a buffer, flat."""
        if name in memory.offsets:
            type_ = graph.type(name)
            at = memory.offsets[name]
            return workspace[at : at + type_.bytes].view(type_.dtype)
        return held[name]

    def value(name):
        """A value in its place: rows apart where its buffer is wider."""
        type_, place = graph.type(name), views.places[name]
        flat = whole(place.buffer)
        channels = width(type_)
        rows = type_.size // channels if channels else 0
        item = flat.itemsize
        return np.lib.stride_tricks.as_strided(
            flat[place.offset :], (rows, channels), (place.pitch * item, item)
        )

    for name in (*graph.inputs, *graph.constants):
        array = inputs[name] if name in inputs else graph.constants[name]
        held[name] = np.ascontiguousarray(array).reshape(-1).copy()
        held[name].flags.writeable = False
    for name in graph.outputs.values():
        type_ = graph.type(name)
        if name not in held:
            held[name] = np.full(type_.size, 77, type_.dtype)
    for step in views.steps:
        arrays = [np.array(value(name)).reshape(graph.type(name).shape) for name in step.inputs]
        results = step.op.reference(arrays)
        for name, result in zip(step.outputs, results, strict=True):
            rows = value(name)
            if isinstance(step.op, Copy):
                mask = step.op.writes().reshape(rows.shape)
                rows[mask] = result.reshape(rows.shape)[mask]
            else:
                rows[...] = result.reshape(rows.shape)
    return {
        public: np.array(value(name)).reshape(graph.type(name).shape)
        for public, name in graph.outputs.items()
    }
