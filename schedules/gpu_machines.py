"""The table of NVIDIA GPUs by compute capability: what a schedule may assume of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

from tvmconv.base import messages
from tvmconv.base.errors import TargetError

PREFIX = "cuda-"


@dataclass(frozen=True)
class GpuMachine:
    """GPUs of one compute capability, or of several for which one library has code.

    ``sms``: compute capabilities, 80 for 8.0, ascending; the other numbers are those of the first. For the
    largest common chip: ``multiprocessors``, and memory ``bandwidth`` in GB/s; ``fma_lanes``: float32
    multiply-adds per clock and multiprocessor; ``threads`` and ``shared``: resident threads and bytes of
    shared memory per multiprocessor. ``arch``, ``triple`` and ``zig`` are of the CPU that calls the GPU: the
    one that compiles.
    """

    backend: ClassVar[str] = "cuda"  # the package of its strategies

    name: str
    sms: tuple[int, ...]
    multiprocessors: int
    fma_lanes: int
    threads: int
    shared: int
    bandwidth: int
    arch: str
    triple: str
    zig: str

    features: tuple[str, ...] = ()  # of the CPU: none beyond its baseline
    requires: tuple[str, ...] = ()
    part: int = 0

    @property
    def cpu(self) -> str:
        """The architectures as the CUDA tools name them."""
        return ",".join(f"sm_{sm}" for sm in self.sms)

    def bases(self) -> list[GpuMachine]:
        """As a CPU's: there are none."""
        return []


def _row(
    sm: int, multiprocessors: int, fma_lanes: int, threads: int, shared: int, bandwidth: int
) -> GpuMachine:  # fmt: skip
    from tvmconv.formats.cpu_features import host_arch  # needs numpy, which a table does not

    arch = host_arch()
    return GpuMachine(f"{PREFIX}sm_{sm}", (sm,), multiprocessors, fma_lanes, threads, shared << 10, bandwidth,
                      arch, f"{arch}-linux-gnu", f"{arch}-linux-gnu.2.17")


@cache
def _presets() -> dict[str, GpuMachine]:
    rows = (
        _row(75, 40, 64, 1024, 64, 320),  # T4
        _row(80, 108, 64, 2048, 164, 2039),  # A100
        _row(86, 84, 128, 1536, 100, 936),  # RTX 3090, A10
        _row(89, 128, 128, 1536, 100, 1008),  # RTX 4090, L4
        _row(90, 132, 128, 2048, 228, 4800),  # H100, H200
    )
    return {row.name: row for row in rows}


def names() -> list[str]:
    """Every single target; ``resolve`` takes several of them, joined by commas, as well."""
    return list(_presets())


def resolve(name: str) -> GpuMachine:
    """The machine of a name such as "cuda-sm_80" or "cuda-sm_80,cuda-sm_90". Raises TargetError."""
    rows = []
    for part in dict.fromkeys(name.split(",")):
        if part not in _presets():
            hint = messages.hint(messages.near(part, _presets(), cutoff=0.7))
            among = "" if part == name else f" in {name!r}"
            raise TargetError(f"target: {part!r}{among}, expected one of {', '.join(_presets())}{hint}")
        rows.append(_presets()[part])
    rows.sort(key=lambda row: row.sms)
    sms = tuple(row.sms[0] for row in rows)
    return replace(rows[0], name=",".join(row.name for row in rows), sms=sms)
