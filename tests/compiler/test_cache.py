"""The cache on disk: shared by processes, damaged, out of reach."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tvmconv
from tvmconv.compiler.cache import kernel_bytes, read_kernel

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
    assert sorted(path.suffix for path in cache.iterdir()) == [".kernel", ".so", ".support"]


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


def entry(facts: bytes, code: bytes) -> bytes:
    rest = facts + b"\n" + code
    return hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def test_a_kernel_whose_facts_were_edited_is_none(cache: Path, tmp_path: Path) -> None:
    """The line of JSON says how much memory there is to pack into: it counts as the code does."""
    (path,) = cache.glob("*.kernel")
    sound = path.read_bytes()
    digest, facts, code = sound.split(b"\n", 2)
    assert read_kernel(path) is not None
    edited = json.loads(facts)
    edited["packed"][0]["shape"][0] += 1
    for damaged in (
        b"\n".join((digest, json.dumps(edited).encode(), code)), b"\n".join((digest, facts, code[:-1])),
        facts + b"\n" + code, b"", b"null", digest, entry(b"null", code), entry(b"[" * 100_000, code),
        entry(b"[]", code), entry(b"{}", code), entry(json.dumps({**edited, "packed": 3}).encode(), code),
    ):  # fmt: skip
        (tmp_path / "damaged.kernel").write_bytes(damaged)
        assert read_kernel(tmp_path / "damaged.kernel") is None
    (tmp_path / "sound.kernel").write_bytes(sound)
    assert kernel_bytes(read_kernel(tmp_path / "sound.kernel")) == sound


def test_another_library_under_the_name_is_made_again(cache: Path, tmp_path: Path) -> None:
    (path,) = cache.glob("*.so")
    sound = path.read_bytes()
    tvmconv.compile({"conv": "conv2d:2x5x5x3:o4:k3x3:NHWC:float32"}).export(path, header=False)
    finish(start(cache, tmp_path / "y.npy"))
    check(tmp_path / "y.npy")
    assert path.read_bytes() == sound


REMOVED = """
import shutil, numpy as np, tvmconv
from tvmconv.base import cache_folder
x = np.ones((1, 4, 5, 5), np.float32)
for channels in (3, 4, 5):
    y = tvmconv.conv(x, np.ones((channels, 4, 1, 1), np.float32))
    assert y.shape == (1, channels, 5, 5) and (y == 4).all()
    shutil.rmtree(cache_folder.folder())
"""


def test_a_cache_that_is_removed_meanwhile(tmp_path: Path) -> None:
    environment = {**os.environ, "TVMCONV_CACHE": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-W", "error", "-c", REMOVED], check=True, env=environment, timeout=300)


WORKERS = """
import pathlib, sys, warnings, tvmconv
from tvmconv.compiler import cache, workers
warnings.simplefilter("ignore")
if sys.argv[1] == "lost":
    seen = cache.read_kernel
    workers.cache.read_kernel = lambda path: None
specs = {f"f{i}": f"conv2d:1x{i}x5x5:o4:k1x1:NCHW:float32" for i in range(1, 13)}
library = tvmconv.compile(specs, jobs=2)
assert len(library.functions) == 12
"""


@pytest.mark.parametrize("why", ["unwritable", "lost"])
def test_workers_whose_kernels_find_no_place(why: str, tmp_path: Path) -> None:
    """Kernels in a cache that cannot be written, or that loses them at once."""
    (tmp_path / "file").write_text("no folder")
    place = tmp_path / ("file" if why == "unwritable" else "cache")
    environment = {**os.environ, "TVMCONV_CACHE": str(place), "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", WORKERS, why], check=True, env=environment, timeout=300)
    assert not list(tmp_path.glob("tvmconv-*"))


def test_an_unwritable_cache_warns_and_works(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    _, said = finish(start(tmp_path / "file", tmp_path / "y.npy"))
    assert "RuntimeWarning: the cache folder" in said and "temporary folder" in said
    check(tmp_path / "y.npy")
