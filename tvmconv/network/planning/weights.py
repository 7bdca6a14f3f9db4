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
from tvmconv.formats.program import Place

Array = np.ndarray[Any, Any]


class Constants:
    """Bytes that a program holds, and where: equal ones in one place."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays
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
            self._packed[key] = self._place(packed_weights(kernel, arrays))
        return self._packed[key]

    def _place(self, data: bytes) -> Place:
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._places:
            self._places[digest] = Place("constant", len(self.held))
            self.held.append(data)
        return self._places[digest]
