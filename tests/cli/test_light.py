"""The command line with the "cli" extra alone: numpy, typer, rich and what these need; no TVM, no onnx."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from cli_tools import build_library
from places import ROOT


def needed(names: list[str]) -> set[str]:
    """These distributions and what they require."""
    found: set[str] = set()
    while names:
        name = names.pop()
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:  # of another Python or system
            continue
        if name not in found:
            found.add(name)
            names += [re.split(r"[^\w.-]", text)[0] for text in requires if "extra ==" not in text]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a library, and in `packages` links to what the extra brings."""
    path = tmp_path_factory.mktemp("light")
    build_library(path)
    (path / "two layers.so").rename(path / "conv.so")
    packages = path / "packages"
    packages.mkdir()
    (packages / "tvmconv").symlink_to(ROOT / "tvmconv")
    for name in needed(["numpy", "typer", "rich"]):
        for file in distribution(name).files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (packages / top).is_symlink():
                (packages / top).symlink_to(Path(str(distribution(name).locate_file(top))))
    return path


def light(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(folder / "packages"), "TVMCONV_CACHE": str(folder / "cache")}
    command = [sys.executable, "-S", "-m", "tvmconv", *line.split()]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(("line", "words"), [
    ("inspect conv.so dw", "HWIO"),
    ("run conv.so pw -n 1", "random numbers stood in for: pw x, w"),
    ("verify conv.so", "2 functions checked, 4 runs, 0 failed"),
    ("targets", "cortex-a72"),
    ("explain -f layers.txt", "MACs"),
])  # fmt: skip
def test_what_needs_no_compiler(line: str, words: str, folder: Path) -> None:
    done = light(line, folder)
    assert done.returncode == 0 and re.search(words, done.stdout), done.stderr


@pytest.mark.parametrize(("line", "extra"), [
    ("compile -f layers.txt -o new.so", "compile"),
    ("verify conv2d:1x9x9x8:o16:k1x1:NHWC:float32", "compile"),
    ("bench conv.so", "compile"),
    ("bench --static -f layers.txt", "compile"),
    ("tune -f layers.txt --log log", "compile"),
    ("board tracker", "rpc"),
    ("inspect conv.so --asm", "compile"),
    ("extract model.onnx", "onnx"),
    ("compile --onnx model.onnx --whole -o new.so", "onnx"),
])  # fmt: skip
def test_other_verbs_name_the_extra(line: str, extra: str, folder: Path) -> None:
    done = light(line, folder)
    errors = [text for text in done.stderr.splitlines() if "is busy" not in text]
    assert done.returncode == 2 and len(errors) == 1, done.stderr
    assert errors[0].startswith("tvmconv: error: ") and f"pip install 'tvmconv[{extra}]'" in errors[0]
