"""The steps of a network's function, some at a time: how long each takes, and what it makes."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.dtypes import ITEMSIZE, numpy_dtype
from tvmconv.base.errors import ArtifactError, SpecError
from tvmconv.formats import manifest as manifests
from tvmconv.runtime import arrays
from tvmconv.runtime.program import ProgramFunction

if TYPE_CHECKING:
    from tvmconv.runtime.library import Module

Array = np.ndarray[Any, Any]


class Steps:
    """A function of several steps on given arrays, with results and a workspace of its own.

    ``facts``: what the library says of each step, see ``manifest.steps_of``; ``len`` of it is their number.
    ``outputs``: the results, in the order of the function's. Raises SpecError for a function of one step and
    for arrays that do not fit, ArtifactError for a library that does not say what its steps are.
    """

    def __init__(self, module: Module, name: str, *inputs: Any) -> None:
        function = module[name]
        if not isinstance(function, ProgramFunction):
            raise SpecError(f"function {name}: a single kernel, expected one of several steps")
        (entry,) = (facts for facts in module.manifest["functions"] if facts["name"] == function.name)
        self.facts = manifests.steps_of(entry, module.variant)
        if len(self.facts) != len(entry[manifests.STEPS]):
            raise ArtifactError(f"library: {module.path} does not say what its steps make; compile it again")
        self._function, self._path = function, module.path
        self._inputs, self.outputs = function._operands(inputs, None, copy=True)
        size = max(entry["workspace_bytes"], 1)
        self._workspace = arrays.empty((size,), np.dtype(np.uint8), size)
        self._workspace[...] = 0

    def __len__(self) -> int:
        return len(self.facts)

    def run(self, first: int = 0, last: int | None = None) -> list[float]:
        """Run the steps ``first`` to ``last`` - 1, counted from 0; the seconds that each took. What they read
        is what earlier ones have left. Raises SpecError for steps that there are not."""
        last = len(self) if last is None else last
        ns = (ctypes.c_int64 * max(last - first, 1))()
        function = self._function
        given, written = ([arrays.address(a) for a in each] for each in (self._inputs, self.outputs))
        function._check(function._some(function._in(*given), function._out(*written),
                                       arrays.address(self._workspace), first, last, ns))  # fmt: skip
        return [one / 1e9 for one in ns[: last - first]]

    def results(self, number: int) -> dict[str, Array]:
        """Copies of what the step ``number`` has just made, by the names of the values. Later steps may write
        there. Raises ArtifactError where the library states a place that there is not."""
        memory = {"workspace": self._workspace}
        for argument, out in zip(self._function._outputs, self.outputs, strict=True):
            memory[argument.name] = out.reshape(-1).view(np.uint8)
        found = {}
        for fact in self.facts[number]["results"]:
            shape, dtype = tuple(fact["shape"]), fact["dtype"]
            start, item, count = fact["offset"], ITEMSIZE[dtype], int(np.prod(shape, dtype=np.int64))
            row = shape[-1] if shape else 1
            pitch = max(fact.get("pitch", 0), row)
            rows = count // row if row else 0
            size = ((rows - 1) * pitch + row) * item if rows else 0
            room = memory.get(fact["at"])
            if room is None or start + size > room.size:
                what = f"library: {self._path}: step {number + 1} writes {size} bytes"
                raise ArtifactError(f"{what} at byte {start} of {fact['at']}, expected a place that there is")
            apart = np.lib.stride_tricks.as_strided(room[start:], (rows, row * item), (pitch * item, 1))
            found[fact["value"]] = apart.reshape(-1).copy().view(numpy_dtype(dtype)).reshape(shape)
        return found
