"""Where compiled kernels keep the vectors that do not fit the registers: never across two cache lines."""

from __future__ import annotations

import re

import pytest

from tvmconv.compiler.codegen.kernel import assembly_of
from tvmconv.compiler.lower import pipeline
from tvmconv.compiler.lower.rewrite import func_pass
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import parse_spec

SPECS = (
    "conv2d:1x28x28x3:o32:k3x3:s2:p1:NHWC:float32",
    "conv2d:1x14x14x32:o32:k3x3:p1:g32:NHWC:int8",
)
# A move of a whole ymm or zmm register to or from the stack: the instruction, the offset, y or z.
STORE = re.compile(r"^\s+(vmov[adu]\w*)\s+%([yz])mm\d+, (-?\d*)\(%r[sb]p\)", re.M)
LOAD = re.compile(r"^\s+(vmov[adu]\w*)\s+(-?\d*)\(%r[sb]p\), %([yz])mm", re.M)


def spills(spec: str, target: str) -> list[tuple[str, bool]]:
    """Of each vector that goes to the stack or comes from there: the instruction, and whether its place is at
    a multiple of its size."""
    found = []
    for function in assembly_of(parse_spec(spec), resolve(target)).split(".cfi_startproc"):
        aligned = max([16, *(int(n) for n in re.findall(r"andq\s+\$-(\d+), %rsp", function))])
        moves = STORE.findall(function) + [(how, reg, at) for how, at, reg in LOAD.findall(function)]
        for how, register, at in moves:
            size = {"y": 32, "z": 64}[register]
            found.append((how, aligned >= size and int(at or 0) % size == 0))
    return found


@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v4"])
def test_spilled_vectors_are_aligned(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [each for spec in SPECS for each in spills(spec, target)]
    assert found and all(aligned for _, aligned in found)
    monkeypatch.setattr(pipeline, "AlignSpills", func_pass("none", lambda body: body))
    assert not all(aligned for spec in SPECS for _, aligned in spills(spec, target)), "this is what it mends"


def test_only_where_spills_could_cross_a_line() -> None:
    """A vector register of 16 bytes is aligned as it is, and needs no frame pointer."""
    assert "prfm" not in assembly_of(parse_spec(SPECS[0]), resolve("aarch64-generic"))
