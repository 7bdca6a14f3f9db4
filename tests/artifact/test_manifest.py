"""What a library says of itself, and files that are damaged, foreign, newer, or for other machines."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import libraries
import pytest
from libraries import ZIG, run

import tvmconv
from tvmconv.compiler.artifact.library import Library
from tvmconv.formats import cpu_features as cpu
from tvmconv.formats import manifest as manifests


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


def forged(path: Path, to: Path, change: Any) -> Path:
    """A library whose manifest was changed, in as many bytes, and sealed anew."""
    data = path.read_bytes()
    start = data.find(manifests.MAGIC) + len(manifests.MAGIC) + 8
    length = int(data[start - 8 : start], 16)
    manifest = json.loads(data[start : start + length])
    manifest["functions"][0]["schedule"] = {}  # room for what may be longer
    change(manifest)
    manifest["sha256"] = manifest.pop("sha256", "0" * 64)  # last, as it was
    text = json.dumps(manifest, separators=(",", ":"))
    text = text.replace(f'"sha256":"{manifest["sha256"]}"', '"sha256":"' + "0" * 64 + '"')
    assert len(text) <= length, "no room"
    text = "{" + " " * (length - len(text)) + text[1:]
    zeroed = data[:start] + text.encode() + data[start + length :]
    at = start + length - 66
    sealed = zeroed[:at] + hashlib.sha256(zeroed).hexdigest().encode() + zeroed[at + 64 :]
    to.write_bytes(sealed)
    return to


def places(value: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a manifest: keys and indices, from its top."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*above, key)
        if isinstance(inner, (dict, list)) and "schedule" not in (*above, key):
            yield from places(inner, *above, key)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return libraries.variant(names=["dw"]).export(tmp_path_factory.mktemp("small") / "dw.so")


def test_forged_manifests(small: Path, tmp_path: Path) -> None:
    """Sealed anew after any key was taken away, or got a value of another kind: refused in one line, or what
    reads it finds all that is needed."""
    all_places, refused = list(places(manifests.read(small))), 0
    for place in all_places:
        *above, last = place
        for odd in ("gone", None, -1, []):

            def change(
                manifest: dict[str, Any], odd: Any = odd, above: Any = above, last: Any = last
            ) -> None:
                for key in above:
                    manifest = manifest[key]
                if odd == "gone":
                    del manifest[last]
                else:
                    manifest[last] = odd

            if place == ("sha256",):
                continue
            try:
                text = forged(small, tmp_path / "forged.so", change)
                manifests.describe(manifests.read(text))
                module = tvmconv.load(text)
                assert len(module["dw"].arguments) == 4
            except tvmconv.ArtifactError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 2 * len(all_places)


@pytest.mark.parametrize(("keys", "value", "said"), [
    (("kind",), ["shared"], "kind: ['shared'], expected one of shared, archive, object"),
    (("abi",), "2", "abi: '2', expected an integer"),
    (("prefix",), "", "prefix: '', expected a C identifier"),
    (("target", "requires"), None, "target.requires: None, expected a list"),
    (("functions", 0, "packed_bytes"), 64, "packed_bytes 64, expected "),
    (("functions", 0, "packed_bytes"), 0, "functions[0].packed_bytes: 0, expected some with weights"),
    (("functions", 0, "arguments", 0, "shape"), [1, 2, 3, 4], "dw: x does not fit"),
    (("functions", 0, "arguments", 0, "shape"), [1 << 40, 1 << 40], "an array that fits into memory"),
    (("functions", 0, "arguments", 0, "dtype"), "int32", "dw: x does not fit"),
    (("functions", 0, "arguments", 1, "shape"), [1], "dw_prepack: w does not fit"),
    (("functions", 0, "arguments", 3, "shape"), [1, 9, 11, 23], "dw: y does not fit"),
    (("functions", 0, "name"), "pw", "lacks what its manifest states: pw_packed_bytes"),
])  # fmt: skip
def test_a_manifest_that_states_something_else(
    keys: tuple[Any, ...], value: Any, said: str, small: Path, tmp_path: Path
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    with pytest.raises(tvmconv.ArtifactError, match=re.escape(said)) as caught:
        tvmconv.load(forged(small, tmp_path / "forged.so", change))
    libraries.assert_one_line(caught)


def test_a_manifest_nested_without_end(plain: Path, tmp_path: Path) -> None:
    data = plain.read_bytes()
    start = data.find(manifests.MAGIC) + len(manifests.MAGIC) + 8
    length = int(data[start - 8 : start], 16)
    (tmp_path / "deep.so").write_bytes(data[:start] + b"[" * length + data[start + length :])
    with pytest.raises(tvmconv.ArtifactError, match="its manifest is not readable"):
        tvmconv.load(tmp_path / "deep.so")


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
    with pytest.raises(tvmconv.ArtifactError, match="format 99, expected 1: tvmconv "):
        tvmconv.load(newer)
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "ABI", 99)
        newer = libraries.variant(names=["pw"]).export(tmp_path / "abi.so")
    with pytest.raises(tvmconv.ArtifactError, match="is here; update the one here"):
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
    """It can be linked and inspected here; loading it says which machine it is for."""
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
