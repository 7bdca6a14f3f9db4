"""Constants of a network's program: what a layer's weights are once packed, what operators read; each held
once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tvmconv.base.dtypes import is_bfloat16
from tvmconv.compiler.baking import packed_weights
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.program import Place, Prepared, Step

Array = np.ndarray[Any, Any]


class Constants:
    """Bytes that a program holds, and where: equal ones in one place. ``raw``: weights are held as in the
    model, and ``prepared`` says how they are packed."""

    def __init__(self, arrays: Mapping[str, Array], *, raw: bool = False) -> None:
        self._arrays, self._raw = arrays, raw
        self.prepared: list[Prepared] = []
        self._places: dict[str, Place] = {}
        self._packed: dict[tuple[str, ...], Place] = {}
        self.held: list[bytes] = []

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def value(self, name: str) -> Place:
        """The place of a constant value, as the graph has it."""
        array = np.ascontiguousarray(self._arrays[name])
        array = array if is_bfloat16(array) else array.astype(array.dtype.newbyteorder("<"), copy=False)
        return self._place(array.tobytes())

    def packed(self, kernel: Kernel, weights: Mapping[str, str]) -> Place:
        """The place of a kernel's weights, packed; ``weights``: the constant values, by argument."""
        key = (kernel.symbol, *(weights[p.name] for p in kernel.weights))
        if key not in self._packed:
            arrays = {p.name: self._arrays[weights[p.name]] for p in kernel.weights}
            packed = packed_weights(kernel, arrays)
            self._packed[key] = self._prepare(kernel, weights, packed) if self._raw else self._place(packed)
        return self._packed[key]

    def _prepare(self, kernel: Kernel, weights: Mapping[str, str], packed: bytes) -> Place:
        """The place in which a kernel's weights will have been packed."""
        digest = hashlib.sha256(packed).hexdigest()
        known = {one.digest: number for number, one in enumerate(self.prepared)}
        place = Place("prepared", known.get(digest, len(self.prepared)))
        if digest not in known:
            read = [(param, self.value(weights[param.name])) for param in kernel.weights]
            parts = zip(kernel.packed, kernel.packed_offsets(), strict=True)
            written = [(part, place.after(offset)) for part, offset in parts]
            self.prepared.append(Prepared(Step(kernel, (*read, *written), prepack=True), digest))
        return place

    def _place(self, data: bytes) -> Place:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._places:
            self._places[digest] = Place("constant", len(self.held))
            self.held.append(data)
        return self._places[digest]
