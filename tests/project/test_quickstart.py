"""The quickstart's program, in this environment; the shell script around it makes one of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from places import SCRIPTS

NETWORKS = ("detector", "classifier", "recogniser")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder, with what was printed in `printed.txt`."""
    folder = tmp_path_factory.mktemp("quick start") / "out"
    command = [sys.executable, str(SCRIPTS / "quickstart.py"), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "printed.txt").write_text(done.stdout, encoding="utf-8")
    return folder


def test_reads_what_is_written(out: Path) -> None:
    text = (out / "printed.txt").read_text(encoding="utf-8").replace(" ", "")
    for line in ("Onemodel,onelibrary", "Convolutions", "fastat3x3and1x1", "Upsidedown'(upsidedown)"):
        assert line in text


def test_prints_a_line_for_each_network(out: Path) -> None:
    text = (out / "printed.txt").read_text(encoding="utf-8")
    rows = [line.split() for line in text.splitlines() if line.partition(" ")[0] in NETWORKS]
    assert [row[0] for row in rows] == list(NETWORKS)
    for _, error, rounding, ours, _, theirs, _, ratio in rows:
        assert 0 <= float(error) <= max(1e-5, 4 * float(rounding)) and float(rounding) < 1e-4
        assert float(ours) > 0 and float(theirs) > 0 and float(ratio) > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_leaves_library_and_header(out: Path, name: str) -> None:
    import tvmconv

    assert list(tvmconv.load(out / f"{name}.so")) == ["main"]
    assert f"int {name}_main(" in (out / f"{name}.h").read_text()


def test_pictures_differ_in_the_boxes(out: Path) -> None:
    from PIL import Image

    with Image.open(out / "text.png") as before, Image.open(out / "boxes.png") as after:
        text, boxes = (np.asarray(file.convert("RGB"), np.int32) for file in (before, after))
    assert text.shape == boxes.shape == (384, 512, 3)
    changed = (text != boxes).any(-1)
    red = (boxes == (255, 0, 0)).all(-1) & changed
    assert 0.01 < changed.mean() < 0.1 and red.sum() > 2000


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "boxes.png"),
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
