"""The guide to boards does what it says: its commands, in order, under qemu."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import edge
import first_hour
import pytest
from places import DOCS, ROOT, SCRIPTS

GUIDE = DOCS / "edge.md"
TEXT = GUIDE.read_text(encoding="utf-8")
LATER = first_hour.blocks(TEXT.replace(first_hour.first_hour("edge"), ""))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], float]:
    """The folder where all shell blocks ran, what each printed, and how long the first hour took."""
    edge.emulator("aarch64")
    edge.zig("aarch64-linux-gnu.2.17")
    folder = tmp_path_factory.mktemp("guide")
    (folder / "arm64-root").symlink_to(edge.root("aarch64"))
    (folder / "armhf-root").symlink_to(edge.root("armv7"))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    start = time.perf_counter()
    said = list(first_hour.run("edge", folder))
    took = time.perf_counter() - start
    for block in LATER:
        if block.language == "sh":
            result = edge.run("bash", "-euo", "pipefail", "-c", block.text, cwd=folder,
                              env={**os.environ, "PATH": path})  # fmt: skip
            assert result.returncode == 0, (block.text, result.stderr)
            said.append(result.stdout)
    return folder, said, took


def test_commands(
    done: tuple[Path, list[str], float], record_property: Callable[[str, str], None]
) -> None:
    _, said, took = done
    record_property("first hour", f"edge.md: {took:.0f} s")
    chosen = [re.findall(r"kernels for (\S+)", text) for text in said]
    assert [names for names in chosen if names] == [
        ["cortex-a72"], ["cortex-a53", "cortex-a76"], ["cortex-a72"], ["armv7-generic"],
    ]  # fmt: skip
    sums = {number for text in said for number in re.findall(r"sum (\S+),", text)}
    assert len(sums) == 1, "every variant computes the same"
    assert any(re.fullmatch(r"class \d, score 0\.\d+\n", text.splitlines(True)[-1]) for text in said if text)


def test_python_on_the_board(done: tuple[Path, list[str], float]) -> None:
    (program,) = (block.text for block in LATER if block.language == "python")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TVMCONV_QEMU_CPU": "cortex-a72"}
    result = edge.run(done[0] / "arm64-root" / "python3", "-c", program, cwd=done[0], env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] == "cortex-a72"


def test_example_is_cxx_too(done: tuple[Path, list[str], float]) -> None:
    if not shutil.which("c++"):
        pytest.skip("no c++")
    strict = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", done[0]]
    result = edge.run("c++", "-x", "c++", strict, SCRIPTS / "examples" / "edge_example.c")
    assert result.returncode == 0, result.stderr


def test_targets_named_in_the_table_are_there() -> None:
    from tvmconv.schedules.machines import names

    section = re.search(r"^## Which target$(.*?)^## ", TEXT, re.M | re.S)[1]
    table = re.findall(r"^\| .* \| `(\S+?)`.*\|$", section, re.M)
    assert len(table) == 8 and set(table) <= set(names())
