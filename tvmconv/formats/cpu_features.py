"""What this CPU can do, and the one table of ISA features that libraries are checked against.

The same table goes into the C source of a library, for callers that do not use Python.
"""

from __future__ import annotations

import platform
import struct
from functools import lru_cache
from typing import NamedTuple

from tvmconv.base.errors import TargetError


class Feature(NamedTuple):
    """Where to look a feature up.

    x86: cpuid ``leaf``, ``subleaf``, ``register`` (0 to 3: a, b, c, d), ``bit``, and ``os``, the bits of
    XCR0 that the system must have set. Elsewhere: ``leaf`` is AT_HWCAP or AT_HWCAP2, and ``bit``.
    """

    leaf: int
    subleaf: int
    register: int
    bit: int
    os: int


_HWCAP, _HWCAP2 = 16, 26  # keys of getauxval
_YMM, _ZMM, _TILES = 0x06, 0xE6, 0x60000  # XCR0: the system saves these registers
_A, _B, _C, _D = range(4)


def _cpuid(leaf: int, subleaf: int, register: int, os: int, **bits: int) -> dict[str, Feature]:
    return {name: Feature(leaf, subleaf, register, bit, os) for name, bit in bits.items()}


def _auxval(key: int, **bits: int) -> dict[str, Feature]:
    return {name: Feature(key, 0, 0, bit, 0) for name, bit in bits.items()}


# Names as in /proc/cpuinfo, but sse3 (there "pni").
FEATURES: dict[str, dict[str, Feature]] = {
    "x86_64": {
        **_cpuid(1, 0, _C, 0, sse3=0, ssse3=9, cx16=13, sse4_1=19, sse4_2=20, movbe=22, popcnt=23),
        **_cpuid(1, 0, _C, _YMM, fma=12, avx=28, f16c=29),
        **_cpuid(7, 0, _B, 0, bmi1=3, bmi2=8),
        **_cpuid(7, 0, _B, _YMM, avx2=5),
        **_cpuid(7, 0, _B, _ZMM, avx512f=16, avx512dq=17, avx512ifma=21, avx512cd=28, avx512bw=30,
                 avx512vl=31),
        **_cpuid(7, 0, _C, 0, gfni=8),
        **_cpuid(7, 0, _C, _ZMM, avx512vbmi=1, avx512_vbmi2=6, avx512_vnni=11, avx512_bitalg=12,
                 avx512_vpopcntdq=14),
        **_cpuid(7, 0, _D, _ZMM, avx512_fp16=23),
        **_cpuid(7, 0, _D, _ZMM | _TILES, amx_tile=24, amx_int8=25),
        **_cpuid(7, 1, _A, _YMM, avx_vnni=4),
        **_cpuid(7, 1, _A, _ZMM, avx512_bf16=5),
        **_cpuid(0x80000001, 0, _C, 0, lahf_lm=0, abm=5, sse4a=6, tbm=21),
        **_cpuid(0x80000001, 0, _C, _YMM, xop=11, fma4=16),
    },
    "aarch64": {
        **_auxval(_HWCAP, fp=0, asimd=1, atomics=8, fphp=9, asimdhp=10, asimdrdm=12, jscvt=13, fcma=14,
                  lrcpc=15, sha3=17, asimddp=20, sve=22, asimdfhm=23, flagm=27),
        **_auxval(_HWCAP2, sve2=1, frint=8, i8mm=13, bf16=14),
    },
    "armv7": {
        **_auxval(_HWCAP, vfp=6, neon=12, vfpv3=13, vfpv4=16, idiva=17, idivt=18, asimdhp=23, asimddp=24),
        **_auxval(_HWCAP2, crc32=4),
    },
    "riscv64": _auxval(_HWCAP, a=0, c=2, d=3, f=5, i=8, m=12, v=21),
}  # fmt: skip

# For an error's hint: targets that need no more than the baseline level, best last.
_LEVELS: dict[str, tuple[tuple[str, frozenset[str]], ...]] = {
    "x86_64": (
        ("x86-64-v2", frozenset({"cx16", "popcnt", "sse4_2", "ssse3"})),
        ("x86-64-v3", frozenset({"avx2", "bmi2", "f16c", "fma", "abm", "movbe"})),
        ("x86-64-v4", frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})),
    ),
    "aarch64": (("aarch64-generic", frozenset()),),
    "armv7": (("armv7-generic", frozenset({"neon"})), ("armv7-neon", frozenset({"neon", "vfpv4", "idiva"}))),
    "riscv64": (("riscv64", frozenset("imafdc")),),
}

_AMD = 0x414D44  # the letters
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armv8l": "armv7", "armv7l": "armv7"}


def host_arch() -> str:
    """Architecture of this process: x86_64, aarch64, armv7, riscv64, or what the system calls it."""
    machine = platform.machine().lower()
    arch = _MACHINES.get(machine, machine)
    if arch == "aarch64" and struct.calcsize("P") == 4:
        return "armv7"  # a 32-bit program on a 64-bit kernel
    return arch


@lru_cache(maxsize=1)
def host_features() -> frozenset[str]:
    """Features of this CPU, named as in ``FEATURES``; empty where they cannot be determined."""
    arch = host_arch()
    known = FEATURES.get(arch, {})
    if arch == "x86_64":
        tiles = {name for name, feature in known.items() if feature.os & _TILES}
        found = frozenset(known) & _cpuinfo_flags()
        return found if not found & tiles or _may_use_tiles() else found - tiles
    import ctypes

    getauxval = getattr(ctypes.CDLL(None), "getauxval", None)
    if getauxval is None:
        return frozenset()
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    return frozenset(name for name, feature in known.items() if getauxval(feature.leaf) >> feature.bit & 1)


def _may_use_tiles() -> bool:
    """Whether Linux lets this process use AMX's tiles, for which it wants to be asked (as libraries do when
    they check their CPU): not before 5.16, nor where a sandbox forbids it."""
    import ctypes

    arch_prctl, request, tile_data = 158, 0x1023, 18
    return ctypes.CDLL(None).syscall(arch_prctl, request, tile_data) == 0


def host_part() -> int:
    """Which CPU this is, 0 if unknown: on Arm implementer << 12 | part number (of the last core if they
    differ), on AMD vendor << 8 | family."""
    found: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in file)}
        if host_arch() == "x86_64":
            return _AMD << 8 | int(found["cpu family"]) if found["vendor_id"] == "AuthenticAMD" else 0
        return int(found["CPU implementer"], 16) << 12 | int(found["CPU part"], 16)
    except (OSError, KeyError, ValueError):
        return 0


def check_features(names: tuple[str, ...], arch: str) -> None:
    """Raises TargetError for a name that has no entry in the table of ``arch``."""
    for name in names:
        if name not in FEATURES.get(arch, {}):
            known = ", ".join(FEATURES.get(arch, {})) or f"none for {arch}"
            raise TargetError(f"CPU feature: {name!r}, expected one of {known}")


def suggest_target() -> str | None:
    """The best preset that this CPU can run, for an error's hint."""
    features, best = host_features(), None
    for name, needed in _LEVELS.get(host_arch(), ()):
        if not needed <= features:
            break
        best = name
    return best


def _cpuinfo_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line.partition(":")[2].split() for line in file if line.startswith("flags")), [])
    except OSError:
        return frozenset()
    return frozenset("sse3" if flag == "pni" else flag for flag in flags)
