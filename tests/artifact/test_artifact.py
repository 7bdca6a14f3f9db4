"""The exported file: it needs glibc alone, shows its own symbols only, checks the CPU, and loads in TVM."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import libraries
import numpy as np
import pytest
from libraries import ZIG, Exported, run
from places import SUPPORT

import tvmconv
from tvmconv.compiler.artifact.cpu_source import TVM_VARIABLES
from tvmconv.compiler.artifact.header import CODES
from tvmconv.compiler.artifact.library import Library
from tvmconv.formats import cpu_features as cpu
from tvmconv.formats import manifest as manifests
from tvmconv.runtime import libc


def test_ldd_names_glibc_alone(exported: Exported) -> None:
    listed = run("ldd", exported[0])
    assert listed.returncode == 0, listed.stderr
    names = {Path(line.split()[0]).name for line in listed.stdout.splitlines()}
    glibc = re.compile(r"linux-vdso|linux-gate|lib(c|m|dl|pthread)\.so|ld-linux")
    assert names and all(glibc.match(name) for name in names), names


def newest_glibc(library: Path) -> str:
    """The newest release whose symbols a library asks for, as readelf sees them."""
    found = set(re.findall(r"Name: GLIBC_([0-9.]+)", run("readelf", "-V", library).stdout))
    return max(found, key=lambda version: tuple(map(int, version.split("."))))


def test_needs_an_old_glibc_and_says_which(exported: Exported) -> None:
    assert newest_glibc(exported[0]) == "2.17"
    assert manifests.read(exported[0])["libc"] == "glibc 2.17"
    if exported[1] is None:  # glibc had this in a separate library then
        assert "libpthread.so.0" in run("readelf", "-d", exported[0]).stdout


def test_doubles_need_no_newer_glibc(tmp_path: Path) -> None:
    """Their kernels call exp and erf."""
    spec = tvmconv.ConvSpec.parse("conv2d:1x4x5x6:o7:k1x1:NHWC:float64:sigmoid")
    path = tvmconv.compile({"f": spec, "g": str(spec).replace("sigmoid", "gelu")}).export(tmp_path / "f.so")
    assert " exp@GLIBC_2.2.5" in run("nm", "-D", path).stdout or cpu.host_arch() != "x86_64"
    assert newest_glibc(path) == "2.17"
    x, w = np.random.default_rng(0).standard_normal((1, 4, 5, 6)), np.full((1, 1, 6, 7), 0.5)
    y = tvmconv.load(path)["f"](x, w)
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-(x @ w[0, 0]))), rtol=1e-14)


@pytest.mark.parametrize(
    "here, wanted, said",
    [
        ("glibc 2.16", "glibc 2.17", "linked for glibc 2.17 or newer, this system has glibc 2.16"),
        ("glibc 2.9", "glibc 2.17", "this system has glibc 2.9"),
        (None, "glibc 2.17", "linked for glibc 2.17 or newer, this system has another C library"),
        ("glibc 2.36", "musl", "linked for musl, this system has glibc 2.36"),
        ("glibc 2.17", "glibc 2.17", None), ("glibc 3.0", "glibc 2.17", None), (None, "musl", None),
        ("glibc 2.1", None, None),
    ],
)  # fmt: skip
def test_a_library_for_another_c_library(
    here: str | None, wanted: str | None, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.so"
    sealed = re.sub(b'"libc":"glibc 2.17" *', _libc(wanted), libraries.variant(names=["pw"])._link("a.so"))
    path.write_bytes(_hashed(sealed))
    monkeypatch.setattr(libc, "host_libc", lambda: here)
    if said is None:
        assert "pw" in tvmconv.load(path)
    else:
        with pytest.raises(tvmconv.ArtifactError, match=said) as caught:
            tvmconv.load(path)
        libraries.assert_one_line(caught)


def _libc(wanted: str | None) -> bytes:
    return f'"libc":{json.dumps(wanted):<26}'.encode()


def _hashed(library: bytes) -> bytes:
    """A library that was edited, with its SHA-256 made anew."""
    at = library.index(b'"sha256":"') + 10
    zeroed = library[:at] + b"0" * 64 + library[at + 64 :]
    return zeroed[:at] + hashlib.sha256(zeroed).hexdigest().encode() + zeroed[at + 64 :]


def test_exports_only_what_is_stated(exported: Exported) -> None:
    lines = run("nm", "-D", "--defined-only", exported[0]).stdout.splitlines()
    stated = ["tvmconv_abi_version", "tvmconv_last_error", "tvmconv_set_num_threads", "tvmconv_variant"]
    stated += [*TVM_VARIABLES, *manifests.SHARED]
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
    text = library.source().text(library.manifest)
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


def test_loads_in_tvm_and_agrees(plain: Path) -> None:
    """In a process of its own: TVM then puts its thread pool into the library."""
    script = f"""
import sys
import numpy as np, tvm
sys.path.insert(0, {str(SUPPORT)!r})
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
