"""Measuring on this machine's GPU, in the same way as a round made elsewhere (``gpu_round``)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tvmconv.base.errors import Error, TuningError
from tvmconv.base.version import SOURCES
from tvmconv.formats.kernel import Kernel
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.tuning.measuring import gpu_round
from tvmconv.tuning.measuring.runner import Effort, Measured, on_library


class GpuRunner:
    """Runs on GPU 0, each candidate in its own process. Raises TuningError if there is no GPU, its compute
    capability is not ``machine``'s, or several are requested."""

    threads = 1

    def __init__(self, machine: GpuMachine) -> None:
        check_one(machine)
        try:
            gpu_round.check_gpu(machine.name)
        except Error as error:
            raise TuningError(f"{error}; expected a GPU of {machine.name}, or --offline-round") from None
        self.machine, self.cpu, self.emulated = machine, gpu_round.gpu_name(), False

    def measure(
        self, kernels: Mapping[str, Kernel], names: Sequence[str], effort: Effort
    ) -> Iterator[Measured]:
        """See ``Runner``."""
        def measure_all(path: Path) -> Iterator[Measured]:
            environment = self.environment(path)
            for name in names:
                yield Measured(**gpu_round.alone(path.parent, path.name, name, effort.rounds, environment))

        return on_library(kernels, self.machine, names, measure_all)

    def environment(self, path: Path) -> dict[str, str]:
        """Of the processes that run the library at ``path``."""
        package = str(SOURCES.parent)
        known = os.environ.get("PYTHONPATH")
        return {**os.environ, "PYTHONPATH": os.pathsep.join([package, *([known] if known else [])])}

    def stop(self) -> None:
        """Nothing is held between two candidates."""


def check_one(machine: GpuMachine) -> None:
    """Raise TuningError unless the target is one compute capability: what is best differs between them."""
    if len(machine.sms) > 1:
        raise TuningError(f"target: {machine.name!r}, expected one cuda target to tune for")
