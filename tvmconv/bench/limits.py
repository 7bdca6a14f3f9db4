"""This machine's limits for one layer, measured in turns with it: in our engine's process, on its threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tvmconv.base.clock import Clock
from tvmconv.base.dtypes import ACCUMULATORS
from tvmconv.bench.roofline import clock_of
from tvmconv.schedules.machines import Machine
from tvmconv.specs.kinds import Spec


def probe_names(spec: Spec) -> dict[str, str]:
    """The functions of the probes' library that limit a layer: "fma", and "copy" of as many bytes."""
    names = {"fma": f"fma_{ACCUMULATORS[spec.dtype]}"} if spec.flops else {}
    return names | {"copy": f"copy_{spec.bytes}"}


def export(machine: Machine, specs: Iterable[Spec], path: Path) -> str:
    """Make the library of what limits ``specs``; its path. Raises tvmconv.Error."""
    from tvmconv.bench import probes

    specs = list(specs)
    dtypes = sorted({ACCUMULATORS[spec.dtype] for spec in specs})
    sizes = sorted({spec.bytes for spec in specs})
    return str(probes.library(machine, dtypes, sizes).export(path, header=False))


class Limits:
    """The process's side: clocks of the probes of a library. ``seconds``: of a sample."""

    def __init__(self, library: str, seconds: float):
        from tvmconv.runtime import load

        self.module, self.seconds = load(library), seconds
        self.entries = {entry["name"]: entry for entry in self.module.manifest["functions"]}
        self.clocks: dict[str, Clock] = {}

    def sample(self, names: Sequence[str]) -> list[dict]:
        """A sample of each, as `Clock` takes it, and its "rate": operations, or bytes, a second."""
        for name in self.clocks.keys() - set(names):
            del self.clocks[name]  # with its arrays
        return [self._sample(name) for name in names]

    def _sample(self, name: str) -> dict:
        function = self.module[name]
        if name not in self.clocks:
            self.clocks[name] = clock_of(function, self.seconds)
        taken = self.clocks[name].sample()
        work = self.entries[name]["flops"] or sum(argument.nbytes for argument in function.arguments)
        return {**taken, "rate": work / taken["seconds"]}


def fastest(samples: Mapping[str, Sequence[dict]]) -> dict[str, float]:
    """The best rate of each: disturbances only lower it."""
    return {name: max(sample["rate"] for sample in taken) for name, taken in samples.items()}


def doubtful(samples: Mapping[str, Sequence[dict]]) -> bool:
    """Whether all samples of one were disturbed."""
    return any(all(sample["disturbed"] for sample in taken) for taken in samples.values())
