"""Libraries for ARM and RISC-V, linked by zig and run under qemu-user: in a C program and in our runtime."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import edge
import numpy as np
import pytest
from cli_tools import tool
from places import SCRIPTS

import tvmconv
from tvmconv.compiler.baking import packed_weights
from tvmconv.compiler.codegen.kernel import assembly_of
from tvmconv.frontends.verify import random_arrays
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import parse_spec

# Target, zig's name of it, CPU models that must run it.
TARGETS = {
    "cortex-a53": ("aarch64-linux-gnu.2.17", ["cortex-a53"]),
    "cortex-a72": ("aarch64-linux-gnu.2.17", ["cortex-a72"]),
    "cortex-a76": ("aarch64-linux-gnu.2.17", ["cortex-a76", "neoverse-n1"]),
    "armv7-neon": ("arm-linux-gnueabihf.2.17", ["cortex-a7", "cortex-a15"]),
    "armv7-generic": ("arm-linux-gnueabihf.2.17", ["cortex-a8", "cortex-a9"]),
    "riscv64": ("riscv64-linux-gnu", [None]),
}


@pytest.fixture(scope="module", params=TARGETS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    path, library = edge.build(request.param, folder)
    return request.param, edge.Emulated(path, library.manifest, TARGETS[request.param][0]), path


def test_c_program_gives_what_the_reference_does(built: Any) -> None:
    target, emulated, _ = built
    for cpu in TARGETS[target][1]:
        emulated.assert_right(cpu)


@pytest.mark.parametrize("target, has", [("cortex-a72", False), ("cortex-a76", True)])
def test_what_runs_sums_integers_by_dot_products(target: str, has: bool) -> None:
    """The kernels of SPECS, which the tests here run, do so where the CPU can."""
    for name in ("int_pw", "int_conv"):
        assert ("\tsdot\t" in assembly_of(parse_spec(edge.SPECS[name]), resolve(target))) == has


def test_weights_are_packed_while_compiling_as_on_the_board(built: Any) -> None:
    target, emulated, _ = built
    cpu = TARGETS[target][1][0]
    for name, kernel in tvmconv.compile(edge.specs_for(target), target).functions.items():
        if not kernel.weights:
            continue
        entry = next(f for f in emulated.manifest["functions"] if f["name"] == name)
        arrays = random_arrays(parse_spec(kernel.descriptor), entry["arguments"], "normal", 0)
        code, said, _ = emulated.call(name, list(arrays.values()), cpu)
        assert code == 0, (name, said)
        there = (emulated.folder / "packed").read_bytes()
        here = packed_weights(kernel, {p.name: arrays[p.name] for p in kernel.weights})
        if kernel.schedule.get("combines"):  # sums of weights round
            here, there = np.frombuffer(here, np.float32), np.frombuffer(there, np.float32)
            np.testing.assert_allclose(here, there, rtol=1e-6, atol=1e-6)
        else:
            assert here == there, name


def test_needs_the_c_library_alone_and_an_old_one(built: Any) -> None:
    _, emulated, path = built
    text = edge.run("readelf", "--wide", "--dynamic", "--version-info", path).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", text))
    assert needed <= {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-armhf.so.3",
                      "ld-linux-riscv64-lp64d.so.1"}  # fmt: skip
    newest = max(tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", text))
    assert newest == ((2, 27) if emulated.arch == "riscv64" else (2, 17))
    assert emulated.manifest["libc"] == f"glibc {'.'.join(map(str, newest))}"


def test_a_cpu_without_the_features_is_refused(built: Any) -> None:
    target, emulated, _ = built
    lacking = {"cortex-a76": ("cortex-a53", "asimddp"), "armv7-neon": ("cortex-a9", "vfpv4")}
    if target not in lacking:
        pytest.skip("this CPU runs all models")
    cpu, feature = lacking[target]
    code, said, _ = emulated.call_random("dw", cpu)
    assert code == 4 and "this CPU lacks" in said and feature in said


RUNTIME = """
import json, sys, tvmconv
from tvmconv.frontends.verify import verify
names = json.loads(sys.argv[2])
try:
    checks = list(verify(tvmconv.load(sys.argv[1]), names))
except tvmconv.ArtifactError as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({"ok": [c.name for c in checks if c.ok], "wrong": [str(c) for c in checks if not c.ok]}))
"""


def run_python(arch: str, cpu: str, library: Path, names: list[str]) -> dict[str, Any]:
    """What RUNTIME prints in an emulated Python that has numpy and this source tree, and no compiler."""
    edge.emulator(arch)
    source = Path(tvmconv.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(source), "TVMCONV_QEMU_CPU": cpu}
    done = subprocess.run(
        [edge.root(arch) / "python3", "-c", RUNTIME, library, json.dumps(names)], env=environment,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_runtime_in_python(built: Any) -> None:
    target, emulated, path = built
    if target not in ("cortex-a53", "cortex-a76", "armv7-neon"):
        pytest.skip("this is tried on other targets")
    # NumPy has no bfloat16 of its own.
    names = [name for name in edge.specs_for(target) if name != "brain"]
    arch, cpu = emulated.arch, {"armv7-neon": "cortex-a15"}.get(target, target)
    found = run_python(arch, cpu, path, names)
    assert found.get("wrong") == [] and len(found["ok"]) == 2 * len(names), found
    lesser = {"cortex-a76": ("cortex-a53", "asimddp", "aarch64-generic"),
              "armv7-neon": ("cortex-a9", "vfpv4, idiva", "armv7-generic")}  # fmt: skip
    if target in lesser:
        cpu, lacks, better = lesser[target]
        refused = run_python(arch, cpu, path, names)
        assert "needs " in refused["error"] and lacks in refused["error"]
        assert refused["error"].endswith(f"--target {better}")


def test_sizes_of_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer, and a third of a network's: what goes over the wire to a board."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from network_layers import mobilenet_v2

    specs = list(dict.fromkeys(layer.spec(epilogue="full") for layer in mobilenet_v2()))
    depthwise = next(spec for spec in specs if spec.groups > 1)
    one = tvmconv.compile(depthwise, "cortex-a72").export(tmp_path / "one.so")
    third = tvmconv.compile(specs[::3], "cortex-a72").export(tmp_path / "third.so")
    assert one.stat().st_size < 64 << 10 and third.stat().st_size < (2 << 20) / 3


def test_run_on_the_wrong_architecture_says_what_to_do(tmp_path: Path) -> None:
    library = tvmconv.compile({"dw": edge.SPECS["dw"]}, "cortex-a53").export(tmp_path / "arm.so")
    done = tool("run", library)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "is for aarch64 (cortex-a53)" in done.stderr and "run it there" in done.stderr
