"""Targets that are not presets: ``triple=aarch64-linux-gnu,cpu=cortex-a78,features=+dotprod+fullfp16``.

Schedules read the row of the nearest preset; what the CPU must have at run time follows from the features
that LLVM assumes for the CPU.
"""

from __future__ import annotations

import re
from dataclasses import replace

from tvmconv.base.errors import TargetError
from tvmconv.schedules import llvm
from tvmconv.schedules.cpu_machines import Machine, dots_of, near, presets

_KEYS = ["triple", "cpu", "features"]
_GENERIC = {"x86_64": "x86-64", "aarch64": "generic", "armv7": "generic", "riscv64": "generic-rv64"}

# LLVM's names of features that generated code may use -> those of runtime/cpu.py. What LLVM uses only for
# intrinsics that nothing here calls (cryptography, CRC), or for scheduling, is left out.
_REQUIRED: dict[str, dict[str, str]] = {
    "x86_64": {
        "cx16": "cx16", "sahf": "lahf_lm", "popcnt": "popcnt", "sse3": "sse3", "ssse3": "ssse3",
        "sse4.1": "sse4_1", "sse4.2": "sse4_2", "sse4a": "sse4a", "avx": "avx", "avx2": "avx2", "bmi": "bmi1",
        "bmi2": "bmi2", "f16c": "f16c", "fma": "fma", "fma4": "fma4", "xop": "xop", "tbm": "tbm",
        "lzcnt": "abm", "movbe": "movbe", "gfni": "gfni", "avx512f": "avx512f", "avx512bw": "avx512bw",
        "avx512cd": "avx512cd", "avx512dq": "avx512dq", "avx512vl": "avx512vl", "avx512ifma": "avx512ifma",
        "avx512vbmi": "avx512vbmi", "avx512vbmi2": "avx512_vbmi2", "avx512vnni": "avx512_vnni",
        "avx512bitalg": "avx512_bitalg", "avx512vpopcntdq": "avx512_vpopcntdq", "avx512bf16": "avx512_bf16",
        "avx512fp16": "avx512_fp16", "avxvnni": "avx_vnni", "amx-tile": "amx_tile", "amx-int8": "amx_int8",
    },
    "aarch64": {
        "fp-armv8": "fp", "neon": "asimd", "lse": "atomics", "rdm": "asimdrdm", "dotprod": "asimddp",
        "rcpc": "lrcpc", "jsconv": "jscvt", "complxnum": "fcma", "sha3": "sha3", "fp16fml": "asimdfhm",
        "sve": "sve", "sve2": "sve2", "i8mm": "i8mm", "bf16": "bf16", "fptoint": "frint", "flagm": "flagm",
    },
    # Arm's version 8 shows only by the features that came with it.
    "armv7": {"neon": "neon", "vfp3": "vfpv3", "vfp4": "vfpv4", "hwdiv-arm": "idiva", "hwdiv": "idivt",
              "fp-armv8": "crc32", "fullfp16": "asimdhp", "dotprod": "asimddp"},
    "riscv64": {name: name for name in ("i", "m", "a", "f", "d", "c", "v")},
}  # fmt: skip

# Features that LLVM would use but that not every kernel reports: no code uses them.
_UNTOLD: dict[str, tuple[str, ...]] = {
    "x86_64": ("avxvnniint8", "avxvnniint16", "avxifma", "avxneconvert", "avx10.1", "avx10.2", "egpr", "ndd",
               "ccmp", "nf", "cf", "zu", "push2pop2", "ppx", "movrs"),
    "aarch64": ("cssc", "mops", "hbc", "lut", "faminmax", "sve2p1", "sme"),
}  # fmt: skip
# On RISC-V everything not implied by the letters that the system reports: multi-letter extensions, vectors
# longer than V's minimum, and accesses that other CPUs do not support.
_TOLD = re.compile(r"zaamo|zalrsc|zca|zcd|zicsr|zifencei|zmmul")
_TOLD_BY_V = re.compile(r"zve(32|64).|zvl(32|64|128)b")
_EXTENSION = re.compile(r"[bh]|[zx][a-z]\w*|unaligned-\w+-mem|experimental-\S+")


def _untold(arch: str, have: frozenset[str]) -> list[str]:
    """Those of the features that cannot be detected at run time."""
    if arch == "riscv64":
        told = [_TOLD, *([_TOLD_BY_V] if "v" in have else [])]
        found = {name for name in have if _EXTENSION.fullmatch(name)}
        return sorted(name for name in found if not any(pattern.fullmatch(name) for pattern in told))
    if arch == "armv7":  # implied by vfp4
        return ["fp16"] if "fp16" in have and "vfp4" not in have else []
    return [name for name in _UNTOLD.get(arch, ()) if name in have]


def machine(text: str) -> Machine:
    """The machine of ``triple=T[,cpu=C][,features=+a-b]``. Raises TargetError for anything LLVM does not
    know."""
    given: dict[str, str] = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key not in _KEYS or not value or key in given:
            expected = f"expected triple=, cpu= and features= once each{near(key, _KEYS)}"
            raise TargetError(f"target: {part!r} in {text!r}, {expected}")
        given[key] = value
    if "triple" not in given:
        raise TargetError(f"target: {text!r}, expected a triple=, as triple=aarch64-linux-gnu,{text}")
    arch = llvm.arch_of(given["triple"])
    plain = next(m for m in presets() if m.arch == arch)
    cpu = given.get("cpu", _GENERIC[arch])
    features = _features(given.get("features", ""), arch)
    if arch == "riscv64" and cpu == _GENERIC[arch]:
        features = tuple(dict.fromkeys((*plain.features, *features)))
    asked = replace(plain, name=text, triple=given["triple"], cpu=cpu, features=features)
    have = llvm.features_of(asked)
    untold = _untold(arch, have)
    for name in features:
        if name in untold:
            raise TargetError(f"feature: {name!r}, expected one that {arch} systems tell of at run time")
    if untold:
        features = (*features, *(f"-{name}" for name in untold))
        have = llvm.features_of(replace(asked, features=features))
    needs = [name for feature, name in _REQUIRED[arch].items() if feature in have]
    if arch == "aarch64" and "fullfp16" in have:
        needs += ["fphp", "asimdhp"]
    row = _nearest(arch, cpu, frozenset(needs))
    return replace(row, name=text, triple=given["triple"], cpu=cpu, features=features, requires=tuple(needs),
                   part=0, int8_dots=dots_of(arch, tuple(needs)), amx="amx_int8" in needs)  # fmt: skip


def _features(text: str, arch: str) -> tuple[str, ...]:
    known = "|".join(map(re.escape, llvm.known(arch)[1]))  # some have a hyphen in them
    if not re.fullmatch(rf"([+-]({known}))*", text):
        for name in re.findall(r"[+-]([^+-]+)", text):
            llvm.check_feature(name, arch)
        raise TargetError(f"features: {text!r}, expected a sign and a name each, as +dotprod+fullfp16")
    found = re.findall(rf"([+-])({known})(?=[+-]|$)", text)
    return tuple(("-" if sign == "-" else "") + name for sign, name in found)


_LITTLE = re.compile(r"cortex-(a3\d+|a5[35]|a5[12]0)|kryo-?silver")
_MIDDLE = re.compile(r"cortex-a(57|72|73)|exynos-m\d|thunderx\w*|falkor|kryo")


def _nearest(arch: str, cpu: str, needs: frozenset[str]) -> Machine:
    """The preset whose numbers schedules should read: the required features give the width of its vectors,
    and on ARM its name how many it multiplies at a time."""
    rows = {m.name: m for m in presets() if m.arch == arch}
    if cpu in rows:
        return rows[cpu]
    if arch == "aarch64":
        if _LITTLE.match(cpu):
            return rows["cortex-a53"]
        if _MIDDLE.match(cpu):
            return rows["cortex-a72"]
        if cpu.startswith(("neoverse", "ampere")):
            return rows["neoverse-n1"]
        return rows["aarch64-generic"] if cpu == "generic" else rows["cortex-a76"]
    able = [row for row in rows.values() if needs.issuperset(row.requires)]
    return max(able or list(rows.values())[:1], key=lambda row: len(row.requires))
