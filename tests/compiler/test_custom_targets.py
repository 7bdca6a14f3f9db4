"""Targets given in full: code uses nothing that a library could not look for at run time, and it runs.
Targets that name another CPU."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import edge
import pytest

import tvmconv
from tvmconv.compiler.codegen.kernel import assembly_of
from tvmconv.formats import cpu_features
from tvmconv.schedules import llvm
from tvmconv.schedules.machines import resolve, warn_of_another_cpu
from tvmconv.specs.kinds import parse_spec
from tvmconv.tuning.search.tuner import runner_here

# What RISC-V's letters imply, as LLVM calls it, and names that only tune.
_IMPLIED = {"64bit", "zaamo", "zalrsc", "zca", "zcd", "zicsr", "zifencei", "zmmul"}
_BY_V = {"zve32f", "zve32x", "zve64d", "zve64f", "zve64x", "zvl32b", "zvl64b", "zvl128b"}


@pytest.mark.parametrize("cpu", ["sifive-p450", "sifive-u74", "sifive-x280", "spacemit-x60", "veyron-v1"])
def test_riscv_cpus_use_what_is_looked_for(cpu: str) -> None:
    machine = resolve(f"triple=riscv64-linux-gnu,cpu={cpu}")
    plain = llvm.features_of(replace(machine, features=()))
    left = llvm.features_of(machine)
    assert set(machine.requires) == left & set("imafdcv") == plain & set("imafdcv")
    extensions = {name for name in left if name[0] in "zxbh" and "-" not in name}
    assert extensions <= _IMPLIED | (_BY_V if "v" in left else set())
    assert extensions < {name for name in plain if name[0] in "zxbh"} or cpu == "sifive-u74"


@pytest.mark.parametrize(
    "target, name",
    [
        ("triple=riscv64-linux-gnu,features=+zba", "zba"),
        ("triple=riscv64-linux-gnu,cpu=sifive-u74,features=+v+zvl256b", "zvl256b"),
        ("triple=riscv64-linux-gnu,features=+zicond", "zicond"),
        ("triple=armv7a-linux-gnueabihf,cpu=cortex-a9,features=+fp16", "fp16"),
        ("triple=aarch64-linux-gnu,features=+mops", "mops"),
    ],
)
def test_features_that_nothing_tells_of(target: str, name: str) -> None:
    with pytest.raises(tvmconv.TargetError, match=f"feature: '{name}', expected one that") as caught:
        resolve(target)
    assert "\n" not in str(caught.value)


def test_32_bit_arm_of_version_8_needs_what_came_with_it() -> None:
    """Its rounding and selecting instructions are none of version 7's."""
    assert "crc32" in resolve("triple=armv7a-linux-gnueabihf,cpu=cortex-a53").requires
    assert "crc32" not in resolve("triple=armv7a-linux-gnueabihf,cpu=cortex-a15").requires


RISCV = (
    "dw", "dw_first", "pw", "half_dw", "half_pw", "brain", "int_pw", "int_dw", "pool", "winograd", "strassen",
)  # fmt: skip


@pytest.mark.parametrize(
    "target, cpus",
    [
        ("triple=riscv64-linux-gnu,features=+v",
         ["rv64,v=true,vext_spec=v1.0,vlen=128", "rv64,v=true,vext_spec=v1.0,vlen=512"]),
        ("triple=riscv64-linux-gnu,cpu=spacemit-x60", ["rv64,v=true,vext_spec=v1.0,vlen=128"]),
        ("triple=riscv64-linux-gnu,cpu=sifive-p450", ["sifive-u54"]),
    ],
)  # fmt: skip
def test_riscv_libraries_run(target: str, cpus: list[str], tmp_path: Path) -> None:
    library = tvmconv.compile({name: edge.SPECS[name] for name in RISCV}, target)
    path = library.export(tmp_path / "edge.so")
    emulated = edge.Emulated(path, library.manifest, "riscv64-linux-gnu")
    for cpu in cpus:
        emulated.assert_right(cpu)
    if "v" in library.machine.requires:
        code, said, _ = emulated.call_random("dw", "sifive-u54")
        assert code == 4 and said.endswith("this CPU lacks v, which the kernels were compiled for")


@pytest.mark.parametrize("name", ["dw", "half_dw", "pool"])
def test_riscv_vectors_are_used(name: str) -> None:
    assembly = assembly_of(parse_spec(edge.SPECS[name]), resolve("triple=riscv64-linux-gnu,features=+v"))
    assert "vsetivli" in assembly or "vsetvli" in assembly


def test_a_cortex_a9_that_is_asked_for_by_name(tmp_path: Path) -> None:
    """It has no division, and a compiler may know the ABI's name of that alone."""
    specs = {name: edge.SPECS[name] for name in ("dw", "transposed", "half_dw", "phases")}
    library = tvmconv.compile(specs, "triple=armv7a-linux-gnueabihf,cpu=cortex-a9")
    assert library.machine.requires == ("neon", "vfpv3")
    for suffix in (".so", ".a"):
        path = library.export(tmp_path / f"edge{suffix}")
        edge.Emulated(path, library.manifest, "arm-linux-gnueabihf.2.17").assert_right("cortex-a9")


@pytest.mark.parametrize(
    "here, target, warns",
    [
        ("znver5", "znver4", True),
        ("znver5", "znver5", False),
        ("znver5", "x86-64-v4-vnni", False),  # of any CPU with its features
        ("znver4", "znver3", True),  # the same family
        ("x86-64-v4-vnni", "znver4", True),  # Intel's
        ("cortex-a76", "cortex-a72", True),
        ("aarch64-generic", "aarch64-generic", False),
    ],
)
def test_timing_for_another_cpu_warns(
    here: str, target: str, warns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = resolve(here)
    facts = {"arch": machine.arch, "features": frozenset(machine.requires), "part": machine.part}
    for name, fact in facts.items():
        monkeypatch.setattr(cpu_features, f"host_{name}", lambda fact=fact: fact)
    assert resolve("native").name == here
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_of_another_cpu(resolve(target))
    assert len(told) == warns
    assert all(f"target {target}: this CPU is another, {here}" in str(one.message) for one in told)


def test_the_tuner_warns_of_another_cpu() -> None:
    model = replace(resolve("native"), name="model", part=1)
    with pytest.warns(RuntimeWarning, match=f"target model: this CPU is another, {resolve('native').name}"):
        runner_here(model, 1).stop()
