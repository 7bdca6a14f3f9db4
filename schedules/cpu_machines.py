"""The table of CPUs: what a schedule may assume of each target. Adding a target is adding a row."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar

from tvmconv.base import messages
from tvmconv.schedules.gpu_machines import PREFIX

_V2 = ("cx16", "lahf_lm", "popcnt", "sse3", "sse4_1", "sse4_2", "ssse3")
_V3 = (*_V2, "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_ARM8 = ("fp", "asimd")
_ARM8_2 = (*_ARM8, "atomics", "asimdrdm", "fphp", "asimdhp", "asimddp", "lrcpc")
_ARM7 = ("neon", "vfpv4", "idiva")
_RV64 = ("i", "m", "a", "f", "d", "c")
# In ``Machine.part``: Arm as the implementer, AMD as the vendor with a family.
_ARM, _AMD = 0x41 << 12, 0x414D44 << 8
_ZEN3 = _ZEN4 = _AMD | 25  # of which Zen 4 alone has AVX-512
_ZEN5 = _AMD | 26
K = 1024


@dataclass(frozen=True)
class Machine:
    """One target: how it is described to LLVM, what a CPU needs to run its code, and what schedules read.

    ``features`` are LLVM attributes besides those of ``cpu`` ("dotprod", or "-dotprod" to leave one out);
    ``requires`` are the names of the run-time check (``tvmconv.formats.cpu_features``). ``fma_ports``:
    full-vector multiply-adds started per cycle, with ``fma_latency`` cycles from sum to sum. Cache sizes in
    bytes per core (of a shared one, the share that one core can count on; 0 for none); ``l1_ways``:
    associativity. ``part``: which CPU this is, if its features do not tell
    (``tvmconv.formats.cpu_features.host_part``). ``int8_dots``: names of ``tvmconv.schedules.dots.DOTS``.
    ``base``: the target whose tuned records for floats are used where this one has none: they differ only for
    8-bit integers, or that one's CPU is the nearest measured. ``adds_apart``: whether additions have ports of
    their own beside those of multiply-adds; ``halved``: whether half a vector takes half the time.
    ``amx``: whether it multiplies tiles of 8-bit integers, of 16 rows of 64 bytes. ``far_l3``: whether the
    shared cache is so far away that sums wait long for what was not asked for.
    """

    backend: ClassVar[str] = "cpu"  # the package of its strategies

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
    fma_latency: int = 5
    part: int = 0
    int8_dots: tuple[str, ...] = ()
    l1_ways: int = 8
    base: str = ""
    adds_apart: bool = False
    halved: bool = False
    amx: bool = False
    far_l3: bool = False

    @property
    def memory_operands(self) -> bool:
        """Whether a multiply-add takes a factor from memory, which then needs no register."""
        return self.arch == "x86_64"

    @property
    def avx512(self) -> bool:
        """Whether vectors are AVX-512's: 32 registers, each a cache line; masks; factors of multiply-adds
        broadcast from memory. What rules say of it beyond that was measured on Zen 4 and 5."""
        return self.arch == "x86_64" and self.vector_bits == 512

    @property
    def full_avx512(self) -> bool:
        """Whether a core multiplies two whole vectors of AVX-512 per cycle. What rules say of it beyond that
        was measured on a Zen 5, or on Intel's where ``far_l3``."""
        return self.avx512 and not self.halved

    @property
    def full_near_avx512(self) -> bool:
        """Whether it does, and the shared cache is near: as on a Zen 5, where what rules say was measured."""
        return self.full_avx512 and not self.far_l3

    @property
    def avx2(self) -> bool:
        """Whether vectors are AVX2's: 16 registers, each half a cache line, of which a core's second cache
        gives one a cycle. What rules say of it beyond that was measured on a Zen 3."""
        return self.arch == "x86_64" and self.vector_bits == 256

    def lanes(self, itemsize: int = 4) -> int:
        """Elements of ``itemsize`` bytes in a vector register."""
        return self.vector_bits // (8 * itemsize)

    def bases(self) -> list[Machine]:
        """The targets whose tuned records for floats are used where this one has none, nearest first."""
        base = preset_of(self.base)
        return [] if base is None else [base, *base.bases()]


def dots_of(arch: str, requires: tuple[str, ...]) -> tuple[str, ...]:
    """Dot products of 8-bit integers that a CPU with ``requires`` has."""
    names = ["pmaddwd"] if arch == "x86_64" else []
    if {"avx512_vnni", "avx_vnni"}.intersection(requires):
        names.append("vpdpbusd")
    elif "ssse3" in requires:
        names.append("pmaddubsw")
    if "asimddp" in requires:
        names.append("sdot")
    return tuple(names)


def _x86(name: str, bits: int, registers: int, requires: tuple[str, ...], l2: int) -> Machine:
    return Machine(name, "x86_64", "x86_64-linux-gnu", name, (), bits, registers, 2, 32 * K, l2, 1024 * K,
                   requires, "x86_64-linux-gnu.2.17", fma_latency=4, int8_dots=dots_of("x86_64", requires))


def _arm8(name: str, cpu: str, ports: int, latency: int, l1: int, l2: int, l3: int = 0, *,
          requires: tuple[str, ...] = _ARM8, part: int = 0, ways: int = 4) -> Machine:  # fmt: skip
    return Machine(name, "aarch64", "aarch64-linux-gnu", cpu, (), 128, 32, ports, l1 * K, l2 * K, l3 * K,
                   requires, "aarch64-linux-gnu.2.17", latency, part and _ARM | part,
                   dots_of("aarch64", requires), ways)


# LLVM's own models of Zen 3, 4 and 5 make no difference.
_V3_CPU = _x86("x86-64-v3", 256, 16, _V3, 512 * K)
# Without "fast-dpwssd" LLVM takes a multiplication and an addition in place of vpdpwssd.
_VNNI = replace(_x86("x86-64-v4", 512, 32, (*_V4, "avx512_vnni"), 1024 * K),
                features=("avx512vnni", "fast-dpwssd"))

_PRESETS = {
    m.name: m
    for m in (
        _x86("x86-64-v2", 128, 16, _V2, 256 * K),
        _V3_CPU,
        replace(_V3_CPU, name="znver3", part=_ZEN3, base="x86-64-v3", adds_apart=True),
        # Most CPUs with AVX-512 multiply two full vectors per cycle, as Zen 5 does; Zen 4 two halves, and
        # what is best there took up to 1.4 times as long as necessary on Zen 5.
        replace(_x86("x86-64-v4", 512, 32, _V4, 1024 * K), base="znver5"),
        replace(_VNNI, name="x86-64-v4-vnni", base="x86-64-v4"),
        replace(_VNNI, name="znver4", part=_ZEN4, adds_apart=True, halved=True),
        replace(_VNNI, name="znver5", part=_ZEN5, l1=48 * K, l1_ways=12, adds_apart=True),
        # All CPUs with AMX (Sapphire, Emerald and Granite Rapids) have these caches, on a mesh of cores.
        replace(_VNNI, name="sapphirerapids", features=(*_VNNI.features, "amx-tile", "amx-int8"),
                requires=(*_VNNI.requires, "amx_tile", "amx_int8"), l1=48 * K, l1_ways=12, l2=2048 * K,
                amx=True, far_l3=True),
        # Cortex-A53 and A72 have two 64-bit pipes, equivalent to one of 128; from A76 on there are two of
        # 128.
        _arm8("aarch64-generic", "generic", 1, 4, 32, 256),
        _arm8("cortex-a53", "cortex-a53", 1, 4, 32, 128, part=0xD03),  # Raspberry Pi 3
        _arm8("cortex-a72", "cortex-a72", 1, 4, 32, 256, part=0xD08, ways=2),  # Raspberry Pi 4
        _arm8("cortex-a76", "cortex-a76", 2, 4, 64, 512, 512, requires=_ARM8_2, part=0xD0B),  # Raspberry Pi 5
        _arm8("neoverse-n1", "neoverse-n1", 2, 4, 64, 1024, 1024, requires=_ARM8_2, part=0xD0C),
        # NEON with fused multiply-add (Cortex-A7, A15, and 64-bit cores in 32-bit mode), hard-float calls.
        # LLVM's tuning for A7 separates multiplications and additions, that for A15 fuses them.
        Machine("armv7-neon", "armv7", "armv7a-linux-gnueabihf", "cortex-a15", (), 128, 16, 1, 32 * K,
                128 * K, 0, _ARM7, "arm-linux-gnueabihf.2.17", 4),
        # Plain NEON (Cortex-A8, A9): separate multiplications and additions, no integer division. A8 lacks
        # the float16 conversions that A9 has.
        Machine("armv7-generic", "armv7", "armv7a-linux-gnueabihf", "cortex-a9", ("-fp16",), 128, 16, 1,
                32 * K, 128 * K, 0, ("neon",), "arm-linux-gnueabihf.2.17"),
        # No vectors: LLVM scalarises them; 32 registers hold 8 times 4.
        Machine("riscv64", "riscv64", "riscv64-linux-gnu", "generic-rv64", ("m", "a", "f", "d", "c"), 128, 8,
                1, 32 * K, 256 * K, 0, _RV64, "riscv64-linux-gnu"),
    )
}  # fmt: skip


# Default schedules of these were chosen by a model of the CPU (``tvmconv bench --static``), not measured.
CHOSEN_BY_MODEL = ("cortex-a72", "neoverse-n1")


def presets() -> tuple[Machine, ...]:
    """The rows of the table."""
    return tuple(_PRESETS.values())


def preset_of(name: str) -> Machine | None:
    """The row of a name."""
    return _PRESETS.get(name)


def near(name: object, known: list[str]) -> str:
    """The end of an error message: names that ``name`` may be a misspelling of."""
    gpu = re.fullmatch(r"(?:cuda|nvidia|gpu)?[-_:]?(?:sm|compute)?_?(\d*)", str(name).lower())
    gpus = [one for one in known if gpu and one.startswith(PREFIX) and one.endswith(gpu[1])]
    return messages.hint(gpus or messages.near(name, known, most=3))
