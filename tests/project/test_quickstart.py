"""The quickstart's program, in this environment; the shell script around it makes one of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from places import SCRIPTS


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder, with what was printed in `printed.txt`."""
    folder = tmp_path_factory.mktemp("quick start") / "out"
    command = [sys.executable, str(SCRIPTS / "quickstart.py"), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "printed.txt").write_text(done.stdout, encoding="utf-8")
    return folder


def test_prints_a_line_for_each_kernel(out: Path) -> None:
    text = (out / "printed.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines() if " conv2d:" in line]
    assert [row[0] for row in rows] == ["conv1", "dw1", "pw1", "dw2", "pw2"]
    for _, microseconds, gflops, error, _ in rows:
        assert float(microseconds) > 0 and float(gflops) > 0 and 0 <= float(error) <= 1e-5


def test_leaves_library_and_header(out: Path) -> None:
    import tvmconv

    assert list(tvmconv.load(out / "quickstart.so")) == ["conv1", "dw1", "pw1", "dw2", "pw2"]
    assert "int dw1_prepack(" in (out / "quickstart.h").read_text()


def test_picture_shows_the_edges(out: Path) -> None:
    from PIL import Image

    with Image.open(out / "quickstart.png") as file:
        pixels = np.asarray(file.convert("L"), np.float64)
    assert pixels.shape == (224, 3 * 224)
    photo, directions, strength = np.split(pixels, 3, axis=1)
    dy, dx = np.gradient(photo)
    steep = np.hypot(dx, dy)
    for panel in (directions, strength):
        inside = (slice(4, -4), slice(4, -4))
        assert np.corrcoef(panel[inside].ravel(), steep[inside].ravel())[0, 1] > 0.6


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "quickstart.png"),
        (["--ouch"], 1, "error: unknown argument: --ouch"),
        (["--out"], 1, "error: --out: expected a value"),
        (["--venv", str(SCRIPTS)], 1, "is no virtual environment"),
    ],
)
def test_shell_script_reads_its_arguments(arguments: list[str], status: int, words: str) -> None:
    command = [str(SCRIPTS / "quickstart.sh"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == status
    assert words in done.stdout + done.stderr
