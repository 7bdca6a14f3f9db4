"""One library for several targets: the CPU chooses, and what it chooses is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import edge
import pytest

import tvmconv
from tvmconv.formats.cpu_features import host_arch, host_features
from tvmconv.schedules.machines import resolve

SPECS = {
    "dw": "conv2d:1x9x11x20:o20:k3x3:p1:g20:NHWC:float32:bias:relu6",
    "pw": "conv2d:1x7x6x18:o37:k1x1:NHWC:float32",
    "grouped": "conv2d:1x6x12x9:o8:k3x3:p1:g2:NCHW:float32",
}
X86 = ["x86-64-v2", "x86-64-v3", "x86-64-v4"]
# Targets, zig's name, CPU models of qemu and the target that each must choose; None: it can run none.
CASES = {
    "x86": (X86, "x86_64-linux-gnu.2.17",
            {"Nehalem": "x86-64-v2", "Haswell": "x86-64-v3", "Conroe": None}),
    "arm": (["cortex-a53", "cortex-a72", "cortex-a76"], "aarch64-linux-gnu.2.17",
            {"cortex-a53": "cortex-a53", "cortex-a72": "cortex-a72", "cortex-a57": "cortex-a53",
             "cortex-a76": "cortex-a76", "neoverse-n1": "cortex-a76"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_cpu_chooses(case: str, tmp_path: Path) -> None:
    targets, zig, models = CASES[case]
    library = tvmconv.compile(SPECS, ",".join(targets), cc=" ".join(edge.zig(zig)[:-2]))
    emulated = edge.Emulated(library.export(tmp_path / "edge.so"), library.manifest, zig)
    for cpu, target in models.items():
        if target is None:
            code, said, _ = emulated.call_random("dw", cpu)
            assert code == 4 and "this CPU lacks" in said
        else:
            assert emulated.variant(cpu) == target
            emulated.assert_right(cpu)


def test_the_cpu_chooses_by_its_family(tmp_path: Path) -> None:
    """Where features do not tell: qemu has no AVX-512, so a row for Zen 5 without it stands in."""
    base, zig = resolve("x86-64-v3"), "x86_64-linux-gnu.2.17"
    own = replace(base, name="own", part=resolve("znver5").part)
    library = tvmconv.compile({"pw": SPECS["pw"]}, [own, base], cc=" ".join(edge.zig(zig)[:-2]))
    emulated = edge.Emulated(library.export(tmp_path / "edge.so"), library.manifest, zig)
    chosen = {cpu: emulated.variant(cpu) for cpu in ("EPYC,family=26", "EPYC", "Haswell,family=26")}
    assert list(chosen.values()) == ["own", base.name, base.name], chosen


def test_packed_weights_have_room_for_every_variant(tmp_path: Path) -> None:
    library = tvmconv.compile(SPECS, X86[::-1])
    sizes = {v.machine.name: v.functions["pw"].packed_bytes for v in library.variants}
    assert len(set(sizes.values())) > 1, "the variants must differ, or this shows nothing"
    entry = next(f for f in library.manifest["functions"] if f["name"] == "pw")
    assert entry["packed_bytes"] == max(sizes.values()) and set(entry["schedules"]) == set(X86)
    assert f"#define PW_PACKED_BYTES {max(sizes.values())}" in library.header()


@pytest.mark.skipif(host_arch() != "x86_64", reason="this is not x86")
def test_runtime_uses_the_best_that_this_cpu_runs() -> None:
    module = tvmconv.compile(SPECS, X86).load()
    able = [name for name in X86 if host_features().issuperset(resolve(name).requires)]
    assert module.variant == able[-1]
    assert [variant["name"] for variant in module.manifest["variants"]] == X86[::-1]
    assert all(check.ok for check in tvmconv.frontends.verify.verify(module))
    for alike in (["znver5", "x86-64-v4-vnni", "znver4"], ["znver3", "x86-64-v3"]):
        if resolve("native").name in alike:
            assert tvmconv.compile(SPECS["pw"], ",".join(alike)).load().variant == resolve("native").name
    if host_features().issuperset(resolve("x86-64-v4").requires):  # on a Zen 4 too, of Zen 3's family
        assert tvmconv.compile(SPECS["pw"], "znver3,x86-64-v4").load().variant == "x86-64-v4"


def test_targets_that_do_not_go_together() -> None:
    for targets, said in (
        ("cortex-a53,x86-64-v3", "targets of one architecture"),
        ("aarch64-generic,triple=aarch64-linux-gnu,cpu=cortex-a57", "a CPU's features tell apart"),
        ("cortex-a53,cortex-a5", "did you mean cortex-a53"),
    ):  # fmt: skip
        with pytest.raises(tvmconv.TargetError, match=said):
            tvmconv.compile(SPECS["pw"], targets)
