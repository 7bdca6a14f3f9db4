"""Names, the choice of a C compiler, failing links and full disks."""

from __future__ import annotations

import dataclasses
import resource
import tempfile
from pathlib import Path

import libraries
import pytest

import tvmconv
from tvmconv.base import cache_folder
from tvmconv.compiler.artifact import compilers
from tvmconv.compiler.artifact.library import Library
from tvmconv.schedules.machines import resolve


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
    assert compilers.find_cc(here, "gcc -m64") == ["gcc", "-m64"]
    for name in ("cc", "gcc", "clang"):
        assert compilers.find_cc(here) == [str(tmp_path / name)]
        (tmp_path / name).unlink()
    monkeypatch.setenv("CC", "mycc -v")
    assert compilers.find_cc(here) == ["mycc", "-v"]
    monkeypatch.setenv("CC", "nothere")
    with pytest.raises(tvmconv.ArtifactError, match=r"\$CC: 'nothere', expected a C compiler"):
        compilers.find_cc(here)
    monkeypatch.delenv("CC")
    assert compilers.is_zig(compilers.find_cc(here))
    monkeypatch.setattr(compilers, "find_spec", lambda name: None)
    with pytest.raises(tvmconv.ArtifactError, match=r"pip install 'tvmconv\[cross\]'"):
        compilers.find_cc(here)


def test_a_compiler_for_another_architecture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Refused if it was asked for by argument; $CC may be meant for this machine, and is passed over."""
    for name, made in (("mine", "x86_64-linux-gnu"), ("theirs", "aarch64-linux-gnu")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {made}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    arm, x86 = resolve("cortex-a72"), resolve("x86-64-v2")
    assert compilers.find_cc(arm, "theirs") == ["theirs"]
    with pytest.raises(tvmconv.ArtifactError, match="cc: 'mine' makes code for x86_64-linux-gnu, expected a"):
        compilers.find_cc(arm, "mine")
    with pytest.raises(tvmconv.ArtifactError, match="cc: 'theirs' makes code for aarch64"):
        compilers.find_cc(x86, "theirs")
    monkeypatch.setenv("CC", "theirs")
    assert compilers.find_cc(arm) == ["theirs"]
    monkeypatch.setenv("CC", "mine")
    assert compilers.is_zig(compilers.find_cc(arm))


@pytest.mark.parametrize(
    "target, fits",
    [
        ("x86_64-linux-gnu", "x86-64-v2"), ("x86_64-alpine-linux-musl", "x86-64-v2"),
        ("x86_64-redhat-linux", "x86-64-v2"), ("x86_64-linux-gnu.2.17", "x86-64-v2"),
        ("aarch64-unknown-linux-gnu", "cortex-a72"), ("aarch64-linux-musl", "cortex-a72"),
        ("arm-linux-musleabihf", "armv7-neon"), ("armv7hl-redhat-linux-gnueabi", "armv7-neon"),
        ("riscv64-unknown-linux-gnu", "riscv64"),
        ("x86_64-w64-mingw32", None), ("x86_64-pc-windows-msvc", None), ("x86_64-linux-gnux32", None),
        ("x86_64-unknown-freebsd14.0", None), ("arm64-apple-darwin22.1.0", None), ("aarch64-macos", None),
        ("aarch64-unknown-linux-android21", None), ("aarch64_be-linux-gnu", None),
        ("arm-linux-gnueabi", None), ("armeb-linux-gnueabihf", None), ("i686-linux-gnu", None),
    ],
)  # fmt: skip
def test_what_a_compiler_makes_code_for(
    target: str, fits: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Refused before any work, unless it is Linux on the target's architecture with its calls; zig's own
    -target counts as what other compilers say of themselves."""
    (tmp_path / "mycc").write_text(f"#!/bin/sh\necho {target}\n")
    (tmp_path / "mycc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    compilers.target_of.cache_clear()
    for command in ("mycc", f"{libraries.ZIG} -target {target}", f"{libraries.ZIG} --target={target}"):
        for name in ("x86-64-v2", "cortex-a72", "armv7-neon", "riscv64"):
            if name == fits:
                assert compilers.find_cc(resolve(name), command) == command.split()
                continue
            with pytest.raises(tvmconv.ArtifactError, match=f"makes code for {target}, expected") as caught:
                tvmconv.compile("conv2d:1x6x5x16:o32:k1x1:NHWC:float32", name, cc=command)
            libraries.assert_one_line(caught)


def test_the_target_that_zig_was_told_is_kept() -> None:
    machine = resolve("cortex-a72")
    zig = libraries.ZIG.split()
    assert compilers.machine_options(zig, machine) == (
        "-target", "aarch64-linux-gnu.2.17", "-mcpu=generic",
    )  # fmt: skip
    told = [*zig, "-target", "aarch64-linux-musl"]
    assert compilers.machine_options(told, machine) == ("-mcpu=generic",)
    assert compilers.machine_options([*told, "-mcpu=cortex_a72"], machine) == ()


@pytest.mark.parametrize(
    "made, why",
    [
        ("int f(void) { return 0; }", "needs , expected glibc or musl"),
        (None, "no ELF file, expected one for Linux"),
    ],
)
def test_what_a_compiler_made_is_looked_at(made: str | None, why: str, tmp_path: Path) -> None:
    """For a compiler that says nothing of itself."""
    cc = tmp_path / "mycc"
    if made is None:  # as Mach-O begins
        make = r"printf '\xcf\xfa\xed\xfe' >library"
    else:
        make = f"echo '{made}' | gcc -nostdlib -shared -x c - -o library"
    cc.write_text(f'#!/bin/sh\ncase "$*" in *-shared*) {make};; *support.c*) : >support.o;; esac\n')
    cc.chmod(0o755)
    with pytest.raises(tvmconv.ArtifactError, match=why) as caught:
        libraries.variant(cc=str(cc), names=["pw"]).export(tmp_path / "a.so")
    assert "\n" not in str(caught.value)


def test_zig_says_once_that_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache_folder, "folder", lambda: tmp_path)
    command = libraries.ZIG.split()
    with caplog.at_level("INFO", "tvmconv"):
        for target in ("cortex-a53", "cortex-a72", "armv7-neon"):
            compilers.say_if_slow(command, resolve(target))
        compilers.say_if_slow(["cc"], resolve("x86-64-v2"))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and "aarch64-linux-gnu.2.17" in said[0] and "arm-linux-gnueabihf" in said[1]


def test_failed_link_shows_the_command_and_all_of_its_words(tmp_path: Path) -> None:
    failing = tmp_path / "failing-cc"
    failing.write_text("#!/bin/sh\necho first line >&2\necho second line >&2\nexit 1\n")
    failing.chmod(0o755)
    with pytest.raises(tvmconv.ArtifactError) as caught:
        libraries.variant(cc=str(failing)).export(tmp_path / "a.so")
    text = str(caught.value)
    assert f"{failing} " in text and "-fPIC" in text and "first line; second line" in text
    assert not (tmp_path / "a.so").exists()


def test_a_kernel_that_wants_more_of_tvm_is_refused() -> None:
    kernel = libraries.library().functions["pw"]
    wanting = dataclasses.replace(kernel, object=kernel.object + b"\0__TVMBackendParallelBarrier\0")
    with pytest.raises(tvmconv.ArtifactError, match="needs __TVMBackendParallelBarrier"):
        Library({"a": wanting}, libraries.machine())


def test_unwritable_places(tmp_path: Path) -> None:
    library = libraries.variant(names=["pw"])
    (tmp_path / "folder.so").mkdir()
    for path, match in (
        (tmp_path / "no" / "a.so", "cannot be written: No such file"),
        (tmp_path / "folder.so", "cannot be written: Is a directory"),
    ):
        with pytest.raises(tvmconv.ArtifactError, match=match):
            library.export(path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.so"]
    for name in ("a.dll", "a.dylib", "a", "a.h", "a.so.bak"):
        with pytest.raises(tvmconv.ArtifactError, match=r"expected a name in \.so, \.a, \.o, for "):
            library.export(tmp_path / name)
    assert library.export(tmp_path / "a.so.1", header=False).exists()


def test_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: nothing half-written stays."""
    library = libraries.variant(names=["pw"])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    linked = library._link("a.so")
    library._link = lambda *_: linked  # type: ignore[method-assign]
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(linked) // 2, before[1]))
        with pytest.raises(tvmconv.ArtifactError, match="cannot be written: File too large"):
            library.export(tmp_path / "a.so")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_export_left_is_not_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process had the number of this one, as the first of a container always has."""
    library = libraries.variant(names=["pw"])
    linked = library._link("a.so")
    library._link = lambda *_: linked  # type: ignore[method-assign]
    killed = pytest.fail.Exception

    def die(*_: object) -> None:
        raise killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(killed):
            library.export(tmp_path / "a.so")
    assert len(list(tmp_path.iterdir())) == 2
    library.export(tmp_path / "a.so")
    assert {"a.so", "a.h"} <= {path.name for path in tmp_path.iterdir()}


def test_a_header_that_cannot_be_written_leaves_the_library_as_it_was(tmp_path: Path) -> None:
    library = libraries.variant(names=["pw"])
    (tmp_path / "a.h").mkdir()
    (tmp_path / "a.so").write_bytes(b"the one before")
    with pytest.raises(tvmconv.ArtifactError, match=r"a\.h cannot be written: Is a directory"):
        library.export(tmp_path / "a.so")
    assert {path.name for path in tmp_path.iterdir()} == {"a.so", "a.h"}
    assert (tmp_path / "a.so").read_bytes() == b"the one before"


def test_no_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel needs none: LLVM ends the process where it cannot write. A C compiler does, and says so."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setattr(cache_folder, "folder", lambda: tmp_path)
    library = tvmconv.compile("conv2d:1x3x5x5:o2:k1x1:NCHW:float32")
    with pytest.raises(tvmconv.Error, match=r"temporary folder: No such file.*expected one that") as caught:
        library.export(tmp_path / "a.so")
    libraries.assert_one_line(caught)


@pytest.mark.parametrize("said", ["/usr/bin/ld: No space left on device", "error: NoSpaceLeft"])
def test_a_compiler_that_finds_the_disk_full(said: str, tmp_path: Path) -> None:
    failing = tmp_path / "failing-cc"
    failing.write_text(f"#!/bin/sh\necho more words >&2\necho {said} >&2\nexit 1\n")
    failing.chmod(0o755)
    with pytest.raises(tvmconv.ArtifactError, match=r"linking: No ?[sS]pace ?[lL]eft") as caught:
        libraries.variant(cc=str(failing)).export(tmp_path / "a.so")
    libraries.assert_one_line(caught)


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
