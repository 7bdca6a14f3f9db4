"""The exported file: it needs glibc alone, shows its own symbols only, and serves C, C++ and TVM alike."""

from __future__ import annotations

import dataclasses
import re
import resource
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import libraries
import numpy as np
import pytest

import tvmconv
from tvmconv.artifact import glue, linker
from tvmconv.artifact import manifest as manifests
from tvmconv.artifact.header import CODES
from tvmconv.artifact.library import Library
from tvmconv.runtime import cpu

Exported = tuple[Path, str | None]  # a library, and what it was linked with
ZIG = f"{sys.executable} -m ziglang cc"


def run(*command: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    words = [str(word) for part in command for word in (part if isinstance(part, list) else [part])]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, **options)


@pytest.fixture(scope="module", params=libraries.compilers())
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    cc = request.param
    return libraries.variant(cc=cc).export(tmp_path_factory.mktemp("exported") / "conv.so"), cc


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return libraries.library().export(tmp_path_factory.mktemp("plain") / "conv.so")


# ---- the file ----


def test_ldd_names_glibc_alone(exported: Exported) -> None:
    listed = run("ldd", exported[0])
    assert listed.returncode == 0, listed.stderr
    names = {Path(line.split()[0]).name for line in listed.stdout.splitlines()}
    glibc = re.compile(r"linux-vdso|linux-gate|lib(c|m|pthread)\.so|ld-linux")
    assert names and all(glibc.match(name) for name in names), names


def test_zig_links_for_an_old_glibc(exported: Exported) -> None:
    if exported[1] is None:
        pytest.skip("a system compiler links for its own glibc")
    versions = re.findall(r"GLIBC_([0-9.]+)", run("readelf", "-V", exported[0]).stdout)
    assert versions and max(tuple(map(int, v.split("."))) for v in versions) <= (2, 17)


def test_exports_only_what_is_stated(exported: Exported) -> None:
    lines = run("nm", "-D", "--defined-only", exported[0]).stdout.splitlines()
    stated = ["tvmconv_abi_version", "tvmconv_last_error", "tvmconv_set_num_threads", *glue.TVM_VARIABLES]
    for name in libraries.SPECS:
        stated += [name, f"{name}_prepack", f"{name}_packed_bytes"]
        stated += [f"__tvm_ffi_{name}", f"__tvm_ffi_{name}_prepack"]
    assert sorted(line.split()[-1] for line in lines) == sorted(stated)


def test_prefix(tmp_path: Path) -> None:
    path = libraries.variant(prefix="mine", names=["pw"]).export(tmp_path / "a.so")
    symbols = run("nm", "-D", "--defined-only", path).stdout
    assert " mine_last_error" in symbols and " tvmconv_" not in symbols
    module = tvmconv.load(path)
    x, w, bias, expected = libraries.case("pw")
    libraries.assert_right(module["pw"](x, w, bias), expected)


def test_one_layer_is_small_and_has_no_debug_information(tmp_path: Path) -> None:
    path = libraries.variant(names=["dw"]).export(tmp_path / "dw.so")
    assert path.stat().st_size < 64 * 1024
    assert ".debug" not in run("readelf", "-SW", path).stdout


def test_equal_inputs_give_equal_bytes(exported: Exported, tmp_path: Path) -> None:
    again = libraries.variant(cc=exported[1]).export(tmp_path / "conv.so")
    assert again.read_bytes() == exported[0].read_bytes()
    assert str(tmp_path).encode() not in again.read_bytes() and b"/tmp" not in again.read_bytes()


def test_many_names_for_one_kernel_hold_it_once(tmp_path: Path) -> None:
    kernel = libraries.library().functions["dw"]
    one = Library({"a": kernel}, libraries.machine()).export(tmp_path / "one.so").stat().st_size
    ten = Library({f"f{i}": kernel for i in range(10)}, libraries.machine()).export(tmp_path / "ten.so")
    assert ten.stat().st_size < one + 30_000
    assert len(tvmconv.load(ten)) == 10


WARNINGS = ["-std=c99", "-O2", "-fPIC", "-Wall", "-Wextra", "-Werror", "-c", "-o", "out.o"]


def generated(folder: Path) -> str:
    library = libraries.library()
    text = glue.generate(dict(library.functions), libraries.machine(), "tvmconv", library.manifest, {})
    (folder / "library.c").write_text(text)
    return text


def test_generated_c_has_no_warnings(tmp_path: Path) -> None:
    if not shutil.which("cc"):
        pytest.skip("no cc")
    generated(tmp_path)
    done = run("cc", WARNINGS, "library.c", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(find_spec("ziglang") is None, reason="no ziglang")
@pytest.mark.parametrize("target", [
    "x86_64-linux-gnu.2.17", "aarch64-linux-gnu.2.17", "arm-linux-gnueabihf.2.17", "riscv64-linux-gnu.2.27",
])  # fmt: skip
def test_generated_c_has_no_warnings_elsewhere(target: str, tmp_path: Path) -> None:
    text = generated(tmp_path)
    if not target.startswith("x86_64"):  # the table of x86 features means nothing there
        text = re.sub(r"(tcv_required\[\] = \{).*?(\n  \{0, 0)", r"\1\2", text, flags=re.S)
        (tmp_path / "library.c").write_text(text)
    done = run(shlex.split(ZIG), "-target", target, WARNINGS, "library.c", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_header_may_be_included_twice_and_strictly(tmp_path: Path) -> None:
    if not shutil.which("cc"):
        pytest.skip("no cc")
    (tmp_path / "conv.h").write_text(libraries.library().header())
    (tmp_path / "twice.c").write_text('#include "conv.h"\n#include "conv.h"\nint main(void) { return 0; }\n')
    done = run("cc", "-Wpedantic", WARNINGS, "twice.c", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# ---- C and C++ programs ----

PROGRAM = r"""
#include "conv.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float x[DW_X_ELEMS], w[DW_W_ELEMS], bias[DW_BIAS_ELEMS], expected[DW_Y_ELEMS], y[DW_Y_ELEMS + 1];

static int expect(int want, int code, const char *text) {
  if (code == want && (code == TVMCONV_OK || strstr(tvmconv_last_error(), text))) return 0;
  printf("code %d, expected %d: %s\n", code, want, tvmconv_last_error());
  return 1;
}

static void take(FILE *file, float *to, size_t n) {
  if (fread(to, sizeof *to, n, file) != n) exit(3);
}

int main(int argc, char **argv) {
  int wrong = 0;
  FILE *file = fopen(argv[argc - 1], "rb");
  if (!file) return 2;
  take(file, x, DW_X_ELEMS), take(file, w, DW_W_ELEMS), take(file, bias, DW_BIAS_ELEMS);
  take(file, expected, DW_Y_ELEMS);
  if (tvmconv_abi_version() != TVMCONV_ABI || dw_packed_bytes() != DW_PACKED_BYTES) return 4;
  void *packed = NULL;
  if (posix_memalign(&packed, 64, dw_packed_bytes())) return 5;
  wrong += expect(TVMCONV_OK, dw_prepack(w, bias, packed), "");
  wrong += expect(TVMCONV_OK, dw(x, packed, y), "");
  for (int i = 0; i < DW_Y_ELEMS; ++i)
    if (!(fabsf(y[i] - expected[i]) < 1e-4f)) return 6;
  wrong += expect(TVMCONV_ERR_NULL, dw(NULL, packed, y), "x is NULL");
  wrong += expect(TVMCONV_ERR_NULL, dw_prepack(w, NULL, packed), "bias is NULL");
  wrong += expect(TVMCONV_ERR_ALIGN, dw(x, packed, (char *)y + 1), "y is at");
  wrong += expect(TVMCONV_ERR_ALIGN, dw(x, (char *)packed + 4, y), "packed is at");
  wrong += expect(TVMCONV_ERR_OVERLAP, dw(x, packed, x + 8), "y overlaps x");
  tvmconv_set_num_threads(1);
  wrong += expect(TVMCONV_OK, dw(x, packed, y), "");
  tvmconv_set_num_threads(4);
  wrong += expect(TVMCONV_OK, dw(x, packed, y + 1), "");
  if (memcmp(x, x, sizeof x) || memcmp(y + 8, y + 8, 4)) return 7;
  for (int i = 0; i < DW_Y_ELEMS; ++i)
    if (!(fabsf(y[i + 1] - expected[i]) < 1e-4f)) return 8;
  wrong += expect(TVMCONV_OK, none(x, packed, NULL), "");
  free(packed);
  return wrong;
}
"""


@pytest.mark.parametrize("language", ["c", "c++"])
def test_c_program(exported: Exported, language: str, tmp_path: Path) -> None:
    path, cc = exported
    x, w, bias, expected = libraries.case("dw")
    data = b"".join(np.ascontiguousarray(a, np.float32).tobytes() for a in (x, w, bias, expected))
    (tmp_path / "data").write_bytes(data)
    source = tmp_path / ("main.c" if language == "c" else "main.cc")
    source.write_text(PROGRAM)
    driver = "cc" if language == "c" else "c++"
    compiler = [driver] if cc is None else [*shlex.split(cc)[:-1], driver]
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"no {compiler[0]}")
    standard = ["-std=c99", "-D_POSIX_C_SOURCE=200809L"] if language == "c" else ["-std=c++11"]
    built = run(
        compiler, standard, "-Wall", "-Wextra", "-Werror", "-I", path.parent, source, path, "-lm",
        f"-Wl,-rpath,{path.parent}", "-o", tmp_path / "main",
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    done = run(tmp_path / "main", tmp_path / "data")
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)


def test_two_libraries_in_one_program(tmp_path: Path) -> None:
    if not shutil.which("cc"):
        pytest.skip("no cc")
    one = libraries.variant(prefix="one", names=["pw"]).export(tmp_path / "one.so")
    two = libraries.variant(prefix="two", names=["dw"]).export(tmp_path / "two.so")
    (tmp_path / "main.c").write_text(
        '#include "one.h"\n#include "two.h"\n'
        "int main(void) { return one_abi_version() != two_abi_version() || !pw(0, 0, 0) || !dw(0, 0, 0); }\n"
    )
    path = f"-Wl,-rpath,{tmp_path}"
    built = run("cc", "-Wall", "-Werror", "main.c", one, two, path, "-o", "main", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    assert run(tmp_path / "main").returncode == 0


def test_codes_agree_with_the_support_text() -> None:
    text = (Path(glue.__file__).parent / "support.c").read_text()
    names = re.search(r"enum \{ (TCV_OK[^}]*) \}", text)
    assert names and names[1].split(", ") == [f"TCV_{name}" for name in CODES]
    assert [code for code, _ in CODES.values()] == list(range(len(CODES)))


# ---- the CPU check in the library itself ----


def test_c_side_refuses_a_cpu_that_lacks_a_feature(tmp_path: Path) -> None:
    """The code that this CPU cannot run is not reached: an error code, no SIGILL."""
    missing = sorted(set(cpu.FEATURES[cpu.host_arch()]) - cpu.host_features())
    if not missing:
        pytest.skip("this CPU has every feature of the table")
    needs = (*libraries.machine().requires, missing[0])
    path = libraries.variant(requires=needs, names=["pw"]).export(tmp_path / "a.so")
    script = f"""
import ctypes
library = ctypes.CDLL({str(path)!r})
library.tvmconv_last_error.restype = ctypes.c_char_p
memory = (ctypes.c_char * 65536)()
at = -(-ctypes.addressof(memory) // 64) * 64
pointers = [ctypes.c_void_p(at + i * 16384) for i in range(3)]
print(library.pw(*pointers), library.pw_prepack(pointers[0], None, pointers[1]))
print(library.tvmconv_last_error().decode())
"""
    done = run(sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr
    code = CODES["ERR_CPU"][0]
    assert done.stdout.splitlines()[0] == f"{code} {code}"
    assert f"lacks {missing[0]}," in done.stdout
    with pytest.raises(tvmconv.ArtifactError, match=missing[0]):
        tvmconv.load(path)


def test_c_side_finds_every_feature_that_this_cpu_has(tmp_path: Path) -> None:
    """The C check by cpuid or getauxval agrees with what the system says of this CPU."""
    everything = tuple(sorted(cpu.host_features()))
    path = libraries.variant(requires=everything, names=["pw"]).export(tmp_path / "a.so")
    x, w, bias, expected = libraries.case("pw")
    libraries.assert_right(tvmconv.load(path)["pw"](x, w, bias), expected)


def test_unknown_feature_name() -> None:
    with pytest.raises(tvmconv.TargetError, match="CPU feature: 'avx9', expected one of"):
        libraries.variant(requires=("avx9",))._link("a.so")


# ---- the manifest ----


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
    with pytest.raises(tvmconv.ArtifactError, match="ABI version 99, expected 1"):
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


# ---- names, compilers, full disks ----


@pytest.mark.parametrize("name", ["", "9a", "a-b", "for", "class", "main", "é", "tcv_x", "a b", "_x"])
def test_bad_names(name: str) -> None:
    kernel = libraries.library().functions["pw"]
    with pytest.raises(tvmconv.SpecError, match=r"function name: .*expected a C identifier"):
        Library({name: kernel}, libraries.machine())
    with pytest.raises(tvmconv.SpecError, match="prefix: "):
        Library({"a": kernel}, libraries.machine(), prefix=name)


def test_colliding_names() -> None:
    kernel = libraries.library().functions["pw"]
    for names in (("a", "a_prepack"), ("a", "A"), ("tvmconv_last_error",)):
        with pytest.raises(tvmconv.SpecError, match="collide"):
            Library(dict.fromkeys(names, kernel), libraries.machine())
    with pytest.raises(tvmconv.SpecError, match="functions: none"):
        Library({}, libraries.machine())


def test_order_of_compilers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("cc", "gcc", "clang", "mycc"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    here = libraries.machine()
    assert linker.find_cc(here, "gcc -m64") == ["gcc", "-m64"]
    for name in ("cc", "gcc", "clang"):
        assert linker.find_cc(here) == [str(tmp_path / name)]
        (tmp_path / name).unlink()
    monkeypatch.setenv("CC", "mycc -v")
    assert linker.find_cc(here) == ["mycc", "-v"]
    monkeypatch.setenv("CC", "nothere")
    with pytest.raises(tvmconv.ArtifactError, match=r"\$CC: 'nothere', expected a C compiler"):
        linker.find_cc(here)
    monkeypatch.delenv("CC")
    assert linker.is_zig(linker.find_cc(here))
    monkeypatch.setattr(linker, "find_spec", lambda name: None)
    with pytest.raises(tvmconv.ArtifactError, match=r"pip install 'tvmconv\[cross\]'"):
        linker.find_cc(here)


def test_failed_link_shows_the_command_and_all_of_its_words(tmp_path: Path) -> None:
    failing = tmp_path / "failing-cc"
    failing.write_text("#!/bin/sh\necho first line >&2\necho second line >&2\nexit 1\n")
    failing.chmod(0o755)
    with pytest.raises(tvmconv.ArtifactError) as caught:
        libraries.variant(cc=str(failing)).export(tmp_path / "a.so")
    text = str(caught.value)
    assert f"{failing} " in text and "-shared" in text and "first line\nsecond line" in text
    assert not (tmp_path / "a.so").exists()


def test_a_kernel_that_wants_more_of_tvm_is_refused() -> None:
    kernel = libraries.library().functions["pw"]
    wanting = dataclasses.replace(kernel, object=kernel.object + b"\0__TVMBackendParallelBarrier\0")
    with pytest.raises(tvmconv.ArtifactError, match="needs __TVMBackendParallelBarrier"):
        Library({"a": wanting}, libraries.machine())


def test_unwritable_places(tmp_path: Path) -> None:
    library = libraries.variant(names=["pw"])
    for path, match in (
        (tmp_path / "no" / "a.so", "cannot be written: No such file"),
        (tmp_path, "cannot be written: "),
    ):
        with pytest.raises(tvmconv.ArtifactError, match=match):
            library.export(path)
    assert not list(tmp_path.iterdir())


def test_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a disk that fills up: nothing half-written stays."""
    library = libraries.variant(names=["pw"])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    linked = library._link("a.so")
    library._link = lambda soname: linked  # type: ignore[method-assign]
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(linked) // 2, before[1]))
        with pytest.raises(tvmconv.ArtifactError, match="cannot be written: File too large"):
            library.export(tmp_path / "a.so")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_full_disk_while_linking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = libraries.variant(names=["pw"])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        with pytest.raises(tvmconv.ArtifactError, match="linking"):
            library.export(tmp_path / "a.so")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


# ---- in TVM ----


def test_loads_in_tvm_and_agrees(plain: Path) -> None:
    """In a process of its own: TVM then puts its thread pool into the library."""
    script = f"""
import sys
import numpy as np, tvm
sys.path.insert(0, {str(Path(__file__).parent)!r})
import libraries
module = tvm.runtime.load_module({str(plain)!r})
tensor = tvm.runtime.tensor
for name in ("large", "pw", "dw"):
    x, w, bias, expected = libraries.case(name)
    packed = tensor(np.zeros(libraries.library().functions[name].packed_bytes, np.uint8))
    module[name + "_prepack"](tensor(w), None if bias is None else tensor(bias), packed)
    y = tensor(np.zeros(expected.shape, np.float32))
    module[name](tensor(x), packed, y)
    libraries.assert_right(y.numpy(), expected)
x = tensor(libraries.case("dw")[0])
for bad in ((x, packed), (x, packed, x), (x, packed, 1), (tensor(x.numpy().astype("float64")), packed, y)):
    try:
        module["dw"](*bad)
    except Exception as error:
        print(type(error).__name__, error)
"""
    done = run(sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    expected = ("2 arguments, expected 3", "y overlaps x", "y is no tensor", "x does not fit")
    for line, words in zip(said, expected, strict=True):
        assert line.startswith("ValueError dw: ") and words in line
