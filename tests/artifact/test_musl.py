"""Libraries for musl: shared ones that zig links for it, and archives in a static program; run there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import edge
import libraries
import numpy as np
import pytest

import tvmconv
from tvmconv.formats import manifest as manifests
from tvmconv.formats.cpu_features import host_arch

MUSL_CC = "musl-gcc"
NAMES = [name for name, spec in libraries.SPECS.items() if 0 not in spec.input_shape]


@pytest.fixture
def musl_gcc() -> str:
    if host_arch() != "x86_64":
        pytest.skip("this is not an x86-64 machine")
    if shutil.which(MUSL_CC) is None:
        pytest.skip("no musl-gcc")
    return MUSL_CC


def assert_runs(program: Path, folder: Path) -> None:
    """The program of ``edge.c_program`` gives what the reference does; with threads, for musl's have small
    stacks."""
    for name in NAMES:
        x, w, bias, expected = libraries.case(name)
        arrays = [x, w] + ([bias] if bias is not None else [])
        (folder / "in").write_bytes(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays))
        done = libraries.run(program, name, *(folder / file for file in ("in", "out", "packed")),
                             env={"TVMCONV_NUM_THREADS": "4"})  # fmt: skip
        assert done.returncode == 0, done
        y = np.fromfile(folder / "out", np.float32)
        libraries.assert_right(y.reshape(expected.shape), expected)


def build(cc: str, library: Path, manifest: dict, *options: str) -> Path:
    program = library.with_suffix(".program")
    program.with_suffix(".c").write_text(edge.c_program(manifest, f"{library.stem}.h"))
    built = libraries.run(cc, "-O1", program.with_suffix(".c"), library, f"-Wl,-rpath,{library.parent}",
                          *options, "-o", program)  # fmt: skip
    assert built.returncode == 0, built.stderr
    return program


def test_shared_library(musl_gcc: str, tmp_path: Path) -> None:
    edge.zig("x86_64-linux-musl")
    library = libraries.variant(cc=f"{libraries.ZIG} -target x86_64-linux-musl", names=NAMES)
    path = library.export(tmp_path / "musl.so")
    assert manifests.read(path)["libc"] == library.manifest["libc"] == "musl"
    needed = re.findall(r"NEEDED.*\[(.*)\]", libraries.run("readelf", "-d", path).stdout)
    assert needed == ["libc.so"]
    assert_runs(build(musl_gcc, path, library.manifest), tmp_path)
    with pytest.raises(tvmconv.ArtifactError, match="linked for musl, this system has glibc") as caught:
        tvmconv.load(path)
    libraries.assert_one_line(caught)


@pytest.mark.parametrize("suffix", [".a", ".o"])
def test_in_a_static_program(suffix: str, musl_gcc: str, tmp_path: Path) -> None:
    """Built by the system's compiler, with glibc's headers."""
    library = libraries.variant(names=NAMES)
    path = library.export(tmp_path / f"fixed{suffix}")
    assert manifests.read(path)["libc"] is None
    program = build(musl_gcc, path, library.manifest, "-static", "-pthread", "-lm")
    assert "NEEDED" not in libraries.run("readelf", "-d", program).stdout
    assert_runs(program, tmp_path)


def test_musl_gcc_links_a_shared_library(musl_gcc: str, tmp_path: Path) -> None:
    """A compiler that says of itself what gcc says, for glibc."""
    library = libraries.variant(cc=musl_gcc, names=NAMES)
    path = library.export(tmp_path / "musl.so")
    assert library.manifest["libc"] == "musl"
    assert_runs(build(musl_gcc, path, library.manifest), tmp_path)
