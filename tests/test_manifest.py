"""What a library says of itself, and files that are damaged, foreign, newer, or for other machines."""

from __future__ import annotations

import dataclasses
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import libraries
import pytest
from libraries import ZIG, run

import tvmconv
from tvmconv.artifact import manifest as manifests
from tvmconv.artifact.library import Library
from tvmconv.runtime import cpu


def test_manifest(plain: Path) -> None:
    manifest = manifests.read(plain)
    keys = {"format", "abi", "tvmconv", "tvm", "prefix", "target", "functions", "sha256"}
    assert keys <= set(manifest)
    assert set(manifest["target"]) == {"name", "triple", "cpu", "arch", "requires"}
    assert [f["name"] for f in manifest["functions"]] == list(libraries.SPECS)
    dw = manifest["functions"][0]
    spec = libraries.SPECS["dw"]
    assert (dw["descriptor"], dw["flops"], dw["bytes"]) == (str(spec), spec.flops, spec.bytes)
    assert [(a["name"], a["role"]) for a in dw["arguments"]] == [
        ("x", "input"), ("w", "weight"), ("bias", "weight"), ("y", "output")
    ]  # fmt: skip
    assert [tuple(a["shape"]) for a in dw["arguments"]] == [
        spec.input_shape, spec.weight_shape, spec.bias_shape, spec.output_shape
    ]  # fmt: skip
    assert dw["arguments"][0]["layout"] == "NHWC" and dw["schedule"]["source"] in ("default", "tuned")
    assert re.fullmatch("[0-9a-f]{64}", manifest["sha256"]) and set(manifest["sha256"]) != {"0"}
    text = manifests.describe(manifest)
    assert str(spec) in text and manifest["sha256"] in text


def edited(path: Path, tmp_path: Path, at: int, value: bytes) -> Path:
    data = bytearray(path.read_bytes())
    assert data[at : at + len(value)] != value
    data[at : at + len(value)] = value
    (tmp_path / "edited.so").write_bytes(data)
    return tmp_path / "edited.so"


def test_damaged_files(plain: Path, tmp_path: Path) -> None:
    data = plain.read_bytes()
    bad = tmp_path / "bad.so"
    for size in (1, 3, 10, 63, 64, 1000, len(data) // 2, len(data) - 1):
        bad.write_bytes(data[:size])
        with pytest.raises(tvmconv.ArtifactError, match=r"truncated|not a shared library") as caught:
            tvmconv.load(bad)
        assert str(bad) in str(caught.value) and "\n" not in str(caught.value)
    text = data.find(manifests.MAGIC)
    for at, value, match in (
        (len(data) // 2, b"edit", "changed after"),  # code
        (data.find(b'"float32"', text), b'"float64"', "changed after"),  # what the manifest says
        (data.find(b'"sha256":"', text) + 12, b"zz", "changed after"),
        (text + len(manifests.MAGIC), b"zzzzzzzz", "no manifest"),
        (text, b"?", "no manifest"),
    ):
        with pytest.raises(tvmconv.ArtifactError, match=match):
            tvmconv.load(edited(plain, tmp_path, at, value))
    bad.write_bytes(data + b"more")
    with pytest.raises(tvmconv.ArtifactError, match="changed after"):
        tvmconv.load(bad)


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "empty.so").write_bytes(b"")
    (tmp_path / "text.so").write_text("not a library")
    foreign = next(Path(sys.prefix).rglob("*.so"), None) or Path(sys.executable)
    for path, match in (
        (tmp_path / "empty.so", "is empty"),
        (tmp_path / "text.so", "not a shared library"),
        (foreign, "was not made by tvmconv"),
        (tmp_path / "nowhere.so", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
    ):
        with pytest.raises(tvmconv.ArtifactError, match=match) as caught:
            tvmconv.load(path)
        assert str(path) in str(caught.value)


def test_newer_format_and_abi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "FORMAT", 99)
        newer = libraries.variant(names=["pw"]).export(tmp_path / "format.so")
    with pytest.raises(tvmconv.ArtifactError, match="format 99, expected 1: made by a newer tvmconv"):
        tvmconv.load(newer)
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "ABI", 99)
        newer = libraries.variant(names=["pw"]).export(tmp_path / "abi.so")
    with pytest.raises(tvmconv.ArtifactError, match="ABI version 99, expected 2"):
        tvmconv.load(newer)


STUB = """
int __tvm_ffi_{0}(void *self, const void *args, int n, void *ret) {{ return -1; }}
int __tvm_ffi_{0}_prepack(void *self, const void *args, int n, void *ret) {{ return -1; }}
"""


@pytest.mark.skipif(find_spec("ziglang") is None, reason="no ziglang")
@pytest.mark.parametrize(
    ("arch", "zig", "feature"),
    [("aarch64", "aarch64-linux-gnu.2.17", "asimd"), ("armv7", "arm-linux-gnueabihf.2.17", "neon"),
     ("riscv64", "riscv64-linux-gnu.2.27", "d")],
)  # fmt: skip
def test_library_for_another_architecture(arch: str, zig: str, feature: str, tmp_path: Path) -> None:
    """It is linked, and its manifest read, here; loading it says what it is for."""
    if cpu.host_arch() == arch:
        pytest.skip(f"this is {arch}")
    kernel = libraries.library().functions["dw"]
    (tmp_path / "stub.c").write_text(STUB.format(kernel.symbol))
    done = run(shlex.split(ZIG), "-target", zig, "-fPIC", "-c", "stub.c", "-o", "stub.o", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kernel = dataclasses.replace(kernel, object=(tmp_path / "stub.o").read_bytes())
    there = dataclasses.replace(libraries.machine(), name="there", arch=arch, zig=zig, requires=(feature,))
    path = Library({"dw": kernel}, there).export(tmp_path / "a.so")
    manifest = manifests.read(path)
    assert manifest["target"]["arch"] == arch and manifest["functions"][0]["descriptor"] == kernel.descriptor
    with pytest.raises(tvmconv.ArtifactError, match=f"is for {arch} \\(there\\), expected {cpu.host_arch()}"):
        tvmconv.load(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(tvmconv.ArtifactError, match="truncated"):
        manifests.read(path)
