"""What all libraries for a target have in common is compiled once, and kept in the cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import libraries
import pytest

import tvmconv
from tvmconv.base import cache_folder
from tvmconv.compiler.artifact import linker

CC = """#!/bin/sh
# {mark}
echo "$@" >>'{log}'
exec cc "$@"
"""


class Compiler:
    """A C compiler that says what it is called with."""

    def __init__(self, folder: Path) -> None:
        self.path, self.log = folder / "counting-cc", folder / "log"
        self.make("first")

    def make(self, mark: str) -> None:
        self.path.write_text(CC.format(mark=mark, log=self.log))
        self.path.chmod(0o755)

    def link(self, path: Path) -> bytes:
        """A library linked by it."""
        return libraries.variant(cc=str(self.path)).export(path).read_bytes()

    def compiled(self) -> int:
        """How often it has compiled the common part since this was asked last."""
        lines = self.log.read_text().splitlines()
        self.log.write_text("")
        return sum(" support.c" in line for line in lines)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    if not shutil.which("cc"):
        pytest.skip("no cc")
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(cache_folder, "folder", lambda: cache)
    return Compiler(tmp_path)


def test_compiled_once(compiler: Compiler, tmp_path: Path) -> None:
    first = compiler.link(tmp_path / "one.so")
    assert compiler.compiled() == 1
    again = compiler.link(tmp_path / "one.so")
    assert compiler.compiled() == 0 and again == first
    (entry,) = (tmp_path / "cache").glob("*.support")
    entry.write_bytes(entry.read_bytes()[:-1] + b"?")  # damaged: made again, into the same bytes
    assert compiler.link(tmp_path / "one.so") == first
    assert compiler.compiled() == 1 and tvmconv.load(tmp_path / "one.so")


def test_another_compiler_or_environment_compiles_again(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler.link(tmp_path / "one.so")
    compiler.make("another version")
    compiler.link(tmp_path / "one.so")
    assert compiler.compiled() == 2
    monkeypatch.setenv("CPATH", str(tmp_path))
    compiler.link(tmp_path / "one.so")
    assert compiler.compiled() == 1


def test_a_static_library_is_one_file(compiler: Compiler, tmp_path: Path) -> None:
    """In one program each of several has its own."""
    compiler.link(tmp_path / "one.a")
    assert compiler.compiled() == 0 and not list((tmp_path / "cache").glob("*.support"))


def test_processes_may_fill_the_cache_at_once(compiler: Compiler, tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from tvmconv.compiler.artifact import linker\n"
        "made = linker.kept_code(['cc'], 'int f(void) { return 7; }', pathlib.Path(sys.argv[1]))\n"
        "sys.stdout.buffer.write(made)\n"
    )
    running, env = [], {"PATH": "/usr/bin:/bin", "TVMCONV_CACHE": str(tmp_path / "cache")}
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-c", code, folder]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=env))
    made = {process.communicate(timeout=120)[0] for process in running}
    assert len(made) == 1 and all(process.returncode == 0 for process in running)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert linker.kept_code(["cc"], "int f(void) { return 7; }", tmp_path) in made
