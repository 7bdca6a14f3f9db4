"""The cache on disk: shared by processes, damaged, out of reach."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CALL = """
import sys, numpy as np, tvmconv
x = np.arange(2 * 5 * 5 * 3, dtype=np.float32).reshape(2, 5, 5, 3)
y = tvmconv.conv(x, np.ones((3, 3, 3, 4), np.float32), layout="NHWC", activation="relu")
np.save(sys.argv[1], y)
print(int("tvm" in sys.modules))
"""


def start(cache: Path, out: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-W", "always", "-c", CALL, str(out)], text=True,
        env={**os.environ, "TVMCONV_CACHE": str(cache)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> tuple[bool, str]:
    """(whether TVM was needed, what went to stderr)."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.strip() == "1", err


def expected() -> np.ndarray:
    x = np.arange(2 * 5 * 5 * 3, dtype=np.float32).reshape(2, 5, 5, 3)
    sums = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2)).sum(axis=(3, 4, 5))
    return np.repeat(sums[..., None], 4, axis=-1)


def check(path: Path) -> None:
    np.testing.assert_array_equal(np.load(path), expected())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that three processes filled at the same time."""
    folder = tmp_path_factory.mktemp("cache")
    outs = [folder.parent / f"y{i}.npy" for i in range(3)]
    for process in [start(folder, out) for out in outs]:
        finish(process)
    for out in outs:
        check(out)
    return folder


def test_processes_at_the_same_time_leave_whole_entries(cache: Path) -> None:
    assert sorted(path.suffix for path in cache.iterdir()) == [".kernel", ".so"]


def test_what_is_cached_needs_no_tvm(cache: Path, tmp_path: Path) -> None:
    needed, _ = finish(start(cache, tmp_path / "y.npy"))
    assert not needed
    check(tmp_path / "y.npy")


@pytest.mark.parametrize("damaged", [(".so",), (".so", ".kernel")], ids=["library", "library and kernel"])
def test_a_damaged_entry_is_made_again(cache: Path, tmp_path: Path, damaged: tuple[str, ...]) -> None:
    sound = {path: path.read_bytes() for path in cache.iterdir()}
    for path, data in sound.items():
        if path.suffix in damaged:
            path.write_bytes(data[:-100])
    needed, _ = finish(start(cache, tmp_path / "y.npy"))
    assert needed == (".kernel" in damaged)
    check(tmp_path / "y.npy")
    assert {path: path.read_bytes() for path in cache.iterdir()} == sound


def test_an_unwritable_cache_warns_and_works(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    _, said = finish(start(tmp_path / "file", tmp_path / "y.npy"))
    assert "RuntimeWarning: the cache folder" in said and "temporary folder" in said
    check(tmp_path / "y.npy")
