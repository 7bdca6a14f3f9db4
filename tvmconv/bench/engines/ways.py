"""How an engine runs a layer; and ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from tvmconv.base.dtypes import numpy_dtype, widened
from tvmconv.base.version import own_version
from tvmconv.bench.engines.layer_data import Layer, first, laid_out
from tvmconv.runtime.arrays import aligned


@dataclass(frozen=True)
class Way:
    """One way to run a layer: `call` does all that is timed, `result` fetches y channels-first afterwards.
    ``touch`` writes the inputs anew, as a preceding layer would; None where that cannot be done."""

    name: str
    call: Callable[[], object]
    result: Callable[[], np.ndarray]
    keep: tuple = ()  # memory that the engine uses without owning it
    touch: Callable[[], object] | None = None


def touching(arrays: Iterable[np.ndarray]) -> Callable[[], None]:
    """A function that writes to every byte of these contiguous arrays what is there."""
    flat = [array.reshape(-1).view(np.uint8) for array in arrays]

    def touch() -> None:
        for memory in flat:
            np.bitwise_or(memory, 0, out=memory)

    return touch


class Engine(Protocol):
    """What runs layers, in ways to choose from; ``modules`` that it needs; whether all its layers share one
    pool of threads."""

    modules: ClassVar[tuple[str, ...]]
    one_pool: ClassVar[bool]
    version: str

    def __init__(self, threads: int, options: dict): ...

    def ways(self, layer: Layer) -> Iterator[Way]: ...


class Ours:
    """tvmconv: a library that the parent compiled and exported; weights bound, hence prepacked, once."""

    modules = ("tvmconv",)
    one_pool = True

    def __init__(self, threads: int, options: dict):
        from tvmconv.runtime import load, set_num_threads

        self.version = f"tvmconv {own_version()}"
        self.module = load(options["library"])
        set_num_threads(threads)
        self.entries = {entry["descriptor"]: entry for entry in self.module.manifest["functions"]}

    def ways(self, layer: Layer) -> Iterator[Way]:
        from tvmconv.frontends.verify import operands

        spec, entry = layer.spec, self.entries[str(layer.spec)]
        arrays = {name: laid_out(spec, name, array) for name, array in layer.arrays.items()}
        weights, inputs = operands(entry["arguments"], arrays)
        function = self.module[entry["name"]].bind(*weights)
        inputs = [aligned(array) for array in inputs]  # as the other engines' own allocators do
        y = aligned(np.zeros(spec.output_shape, numpy_dtype(layer.out_dtype)))

        def result() -> np.ndarray:
            return widened(first(y) if spec.channels_last else y)

        yield Way(spec.layout, function.on(*inputs, out=y), result, touch=touching(inputs))
