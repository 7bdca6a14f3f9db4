"""What LLVM is told about a machine, checked against what it knows.

For an unknown CPU or feature LLVM prints a line on stderr and generates generic code, and TVM crashes on an
unknown triple.
"""

from __future__ import annotations

import re
from functools import lru_cache

import tvm
from tvm.target import Target

from tvmconv.base.errors import TargetError
from tvmconv.schedules.cpu_machines import Machine, near

_TRIPLES = {
    "x86_64": ("x86_64-linux-gnu", r"x86_64(-\w+)?-linux-gnu"),
    "aarch64": ("aarch64-linux-gnu", r"aarch64(-\w+)?-linux-gnu"),
    "armv7": ("armv7a-linux-gnueabihf", r"armv7a?(-\w+)?-linux-gnueabihf"),
    "riscv64": ("riscv64-linux-gnu", r"riscv64(-\w+)?-linux-gnu"),
}
_OPTIONS = [
    # LLVM 22 vectorises short loops with masks, and stores four bytes where a mask leaves a single one.
    "-vectorizer-min-trip-count:uint=0",
    # Schedules say what to unroll. LLVM's analysis of what unrolling might fold takes up to a sixth of its
    # time.
    "-unroll-max-iteration-count-to-analyze:uint=0",
]
_OPTIONS_OF = {
    # On 32-bit ARM, LLVM 22 (see llvm-project#223630) merges loads and stores by adding to a base register
    # that later ones still use, which then access the wrong elements.
    "armv7": ["-arm-load-store-opt:bool=0"],
}
_ABI = {"armv7": {"mfloat-abi": "hard"}, "riscv64": {"mabi": "lp64d"}}


def arch_of(triple: str) -> str:
    """The architecture of a supported target triple. Raises TargetError."""
    for arch, (_, pattern) in _TRIPLES.items():
        if re.fullmatch(pattern, triple):
            return arch
    plain = [name for name, _ in _TRIPLES.values()]
    raise TargetError(f"triple: {triple!r}, expected one of {', '.join(plain)}{near(triple, plain)}")


def llvm_target(machine: Machine) -> Target:
    """TVM's target for ``machine``. Raises TargetError for a CPU or feature that LLVM does not know."""
    arch = arch_of(machine.triple)
    cpus, _ = known(arch)
    if machine.cpu not in cpus:
        raise TargetError(
            f"cpu: {machine.cpu!r}, expected one that LLVM knows for {arch}{near(machine.cpu, sorted(cpus))}"
        )
    for name in machine.features:
        check_feature(name.lstrip("-"), arch)
    description = {"kind": "llvm", "mtriple": machine.triple, "mcpu": machine.cpu,
                   "cl-opt": [*_OPTIONS, *_OPTIONS_OF.get(arch, ())], **_ABI.get(arch, {})}
    if machine.features:
        description["mattr"] = [f if f.startswith("-") else f"+{f}" for f in machine.features]
    return Target(description)


def check_feature(name: str, arch: str) -> None:
    """Raises TargetError, with near names, for a feature that LLVM does not know."""
    features = known(arch)[1]
    if name not in features:
        hint = near(name, sorted(features))
        raise TargetError(f"feature: {name!r}, expected one that LLVM knows for {arch}{hint}")


def features_of(machine: Machine) -> frozenset[str]:
    """LLVM's names of all features that code for ``machine`` may use. Raises TargetError."""
    return frozenset(map(str, tvm.target.codegen.llvm_get_cpu_features(llvm_target(machine))))


@lru_cache
def known(arch: str) -> tuple[frozenset[str], frozenset[str]]:
    """LLVM's CPUs for an architecture, and the features that any of them has."""
    base = {"kind": "llvm", "mtriple": _TRIPLES[arch][0], **_ABI.get(arch, {})}
    cpus = frozenset(map(str, tvm.target.codegen.llvm_get_cpu_archlist(Target(base))))
    features: set[str] = set()
    for cpu in cpus:
        features.update(map(str, tvm.target.codegen.llvm_get_cpu_features(Target({**base, "mcpu": cpu}))))
    return cpus, frozenset(features)
