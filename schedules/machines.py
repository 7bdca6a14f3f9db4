"""The table of machines: what a schedule may assume of each target. Adding a target is adding a row."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from tvmconv.errors import TargetError

_V2 = ("cx16", "lahf_lm", "popcnt", "sse3", "sse4_1", "sse4_2", "ssse3")
_V3 = (*_V2, "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
K = 1024


@dataclass(frozen=True)
class Machine:
    """One target: how LLVM is told of it, what a CPU needs to run its code, and what schedules read.

    ``features`` are LLVM attributes added to those of ``cpu``; ``requires`` are the names of the run-time
    check (``tvmconv.runtime.cpu``). Cache sizes in bytes a core (l3: the share that one core can count on).
    """

    name: str
    arch: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    vector_bits: int
    vector_registers: int
    fma_ports: int
    l1: int
    l2: int
    l3: int
    requires: tuple[str, ...]
    zig: str

    def lanes(self, itemsize: int = 4) -> int:
        """Elements of ``itemsize`` bytes in a vector register."""
        return self.vector_bits // (8 * itemsize)


def _x86(name: str, bits: int, registers: int, requires: tuple[str, ...], l2: int) -> Machine:
    return Machine(name, "x86_64", "x86_64-linux-gnu", name, (), bits, registers, 2, 32 * K, l2, 1024 * K,
                   requires, "x86_64-linux-gnu.2.17")


_PRESETS = {
    m.name: m
    for m in (
        _x86("x86-64-v2", 128, 16, _V2, 256 * K),
        _x86("x86-64-v3", 256, 16, _V3, 512 * K),
        _x86("x86-64-v4", 512, 32, _V4, 1024 * K),
        # For 8-bit integers; LLVM joins products and sums of pairs into one instruction.
        replace(_x86("x86-64-v4-vnni", 512, 32, (*_V4, "avx512_vnni"), 1024 * K),
                cpu="x86-64-v4", features=("avx512vnni",)),
    )
}


def names() -> list[str]:
    """Every name that ``resolve`` takes."""
    return ["native", *_PRESETS]


def resolve(name: str | Machine) -> Machine:
    """The machine of a target name; a Machine is returned as it is. Raises TargetError with near names."""
    if isinstance(name, Machine):
        return name
    if name == "native":
        return native()
    if isinstance(name, str) and name in _PRESETS:
        return _PRESETS[name]
    near = difflib.get_close_matches(str(name), names(), n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise TargetError(f"target: {name!r}, expected one of {', '.join(names())}{hint}")


def native() -> Machine:
    """The best preset that this CPU runs, of those that are good for every type."""
    from tvmconv.runtime.cpu import host_arch, host_features

    arch, features = host_arch(), host_features()
    general = [m for m in _PRESETS.values() if m.arch == arch and not m.features]
    able = [m for m in general if features.issuperset(m.requires)]
    if not able:
        have = ', '.join(_PRESETS)
        raise TargetError(f"target: 'native', but no preset fits this {arch} CPU; there are {have}")
    return max(able, key=lambda m: len(m.requires))


