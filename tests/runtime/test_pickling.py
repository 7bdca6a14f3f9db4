"""Modules, functions and bound functions through pickle, also in another process."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tvmconv

X = np.random.default_rng(0).standard_normal((1, 9, 9, 8)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((1, 1, 8, 16)).astype(np.float32)


def compiled(stride: int = 1) -> tvmconv.compiler.artifact.library.Library:
    return tvmconv.compile({"pw": f"conv2d:1x9x9x8:o16:k1x1:s{stride}:NHWC:float32"})


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled().export(tmp_path_factory.mktemp("pickled") / "pw.so")


def test_they_come_back_and_compute_the_same(path: Path, tmp_path: Path) -> None:
    module = tvmconv.load(path)
    bound = module["pw"].bind(W)
    again, function, rebound = pickle.loads(pickle.dumps((module, module["pw"], bound)))
    want = bound(X)
    assert again.path == module.path
    assert np.array_equal(function(X, W), want) and np.array_equal(rebound(X), want)
    (tmp_path / "call").write_bytes(pickle.dumps((bound, X)))
    program = "import pickle, sys; f, x = pickle.load(open('call', 'rb')); f(x).tofile('y')"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=600)
    assert np.array_equal(np.fromfile(tmp_path / "y", np.float32), want.ravel())


def test_what_cannot_be_pickled(tmp_path: Path, path: Path) -> None:
    with pytest.raises(tvmconv.ArtifactError, match="pickle: pw: of a library without a file"):
        pickle.dumps(compiled().load()["pw"].bind(W))
    file = tmp_path / "pw.so"
    file.write_bytes(path.read_bytes())
    kept = pickle.dumps(tvmconv.load(file)["pw"])
    compiled(stride=2).export(file)
    with pytest.raises(tvmconv.ArtifactError, match=r"pickle: .*pw\.so: another SHA-256"):
        pickle.loads(kept)
    file.unlink()
    with pytest.raises(tvmconv.ArtifactError, match=r"pw\.so"):
        pickle.loads(kept)
