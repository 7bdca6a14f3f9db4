"""`tvmconv run`: the library's own weights, every argument of a function, and files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx_models import Net

import tvmconv
from tvmconv.base.dtypes import BFLOAT16, rounded
from tvmconv.cli import main
from tvmconv.frontends.verify import random_arrays
from tvmconv.onnx import compile_model

LAYERS = {
    "add": "conv2d:1x5x5x4:o8:k1x1:NHWC:float32:bias:prelu:residual",
    "q": "conv2d:1x5x5x4:o8:k3x3:p1:NHWC:int8:bias:relu",
    "d": "deform2d:1x4x5x5:o8:k3x3:p1:og1:mask:bias:NCHW:float32",
    "b": "conv2d:1x5x5x4:o4:k3x3:p1:g4:NHWC:bfloat16",
    "p": "maxpool2d:1x5x5x4:k2x2:NHWC:float32",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tvmconv.compile(LAYERS).export(tmp_path_factory.mktemp("run") / "layers.so")


@pytest.mark.parametrize("name", LAYERS)
def test_every_argument_can_be_given(
    name: str, library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    function = tvmconv.load(library)[name]
    facts = [a._asdict() for a in function.arguments]
    arrays = random_arrays(tvmconv.specs.kinds.parse_spec(LAYERS[name]), facts, "normal", seed=3)
    words = []
    for argument, array in arrays.items():
        np.save(tmp_path / f"{argument}.npy", array)
        one = array.size == 1 and argument.endswith(("_scale", "_zero_point"))
        words += ["--input", f"{argument}={array.item() if one else tmp_path / f'{argument}.npy'}"]
    out = tmp_path / "y.npy"
    assert main(["run", str(library), name, *words, "--output", str(out), "-n", "1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["functions"]
    assert row["random"] == []
    order = ["x", "w", "bias", *(a for a in arrays if a not in ("x", "w", "bias"))]
    expected = function(*(arrays.get(a) for a in order))
    found = np.load(out)
    np.testing.assert_array_equal(found.view(expected.dtype), expected)


def test_weights_of_the_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the function gives it, and as onnxruntime does; other weights are used where they are given."""
    net = Net()
    net.conv("x", 4, 8, bias=True)
    model = net.model()
    path = compile_model(model.SerializeToString(), bake_weights=True).export(tmp_path / "baked.so")
    (name,) = module = tvmconv.load(path)
    x = np.random.default_rng(1).standard_normal((1, 4, 9, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    run = ["run", str(path), name, "--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")]
    assert main([*run, "-n", "1"]) == 0
    assert "random" not in capsys.readouterr().out
    y = np.load(tmp_path / "y.npy")
    np.testing.assert_array_equal(y, module[name].bind()(x))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(y, session.run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)

    w = np.zeros((8, 4, 3, 3), np.float32)
    np.save(tmp_path / "w.npy", w)
    assert main([*run, "-n", "1", "--weights", str(tmp_path / "w.npy")]) == 0
    assert f"random numbers stood in for: {name} bias" in capsys.readouterr().out
    assert np.ptp(np.load(tmp_path / "y.npy"), axis=(0, 2, 3)).max() == 0  # the bias alone
    assert main(["run", str(path), "-n", "1"]) == 0
    assert capsys.readouterr().out.endswith(f"random numbers stood in for: {name} x\n")


def _header_of(path: Path, shape: tuple[int, ...], dtype: str = "<f4") -> None:
    with path.open("wb") as file:
        facts = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, facts)


def test_files_that_do_not_fit(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _header_of(Path("huge.npy"), (1 << 20, 1 << 20, 1 << 10))
    _header_of(Path("short.npy"), (1, 5, 5, 4))
    np.save("objects.npy", np.array([print, {}], object), allow_pickle=True)
    np.save("double.npy", np.zeros((1, 5, 5, 4)))
    np.save("strings.npy", np.zeros((1, 5, 5, 4), "U3"))
    np.savez("many.npz", np.zeros(3))
    Path("text.npy").write_text("no")
    for word, said in {
        "huge.npy": "x: huge.npy has shape (1048576, 1048576, 1024), expected (1, 5, 5, 4)",
        "short.npy": "x: short.npy is cut short",
        "objects.npy": "objects.npy: an array of Python's objects, expected one of numbers",
        "double.npy": "x: double.npy has dtype float64, expected float32",
        "strings.npy": "x: strings.npy has dtype <U3, expected float32",
        "many.npz": "many.npz: holds several arrays",
        "text.npy": "text.npy: not an array",
        "y=text.npy": "no argument 'y', expected one of x",
        "none.npy": "none.npy: No such file",
        "3": "3: No such file",
    }.items():
        assert main(["run", str(library), "p", "--input", word]) == 2
        output = capsys.readouterr()
        assert output.err.count("\n") == 1 and said in output.err and output.out == "", (word, output)
    for words, said in (
        (("x_scale=0",), "x_scale: 0, expected positive finite numbers"),
        (("x_scale=huge.npy",), "x_scale: huge.npy has shape"),
        (("x_zero_point=300",), "x_zero_point: 300, expected integers from -128 to 127"),
        (("short.npy", "x=short.npy"), "'x' is given twice"),
    ):
        assert main(["run", str(library), "q", *(w for word in words for w in ("--input", word))]) == 2
        assert said in capsys.readouterr().err
    assert main(["run", str(library), "p", "-o", "no/y.npy"]) == 2
    assert "--output no/y.npy: no folder no" in capsys.readouterr().err


def test_bfloat16_has_files(library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As its bits, which is how NumPy saves arrays of ml_dtypes."""
    x = rounded(np.ones((1, 5, 5, 4), np.float32), "bfloat16")
    np.save(tmp_path / "x.npy", x.view(np.uint16))
    given, out = tmp_path / "x.npy", tmp_path / "y.npy"
    assert main(["run", str(library), "b", "--input", str(given), "--output", str(out), "-n", "1"]) == 0
    assert "b w" in capsys.readouterr().out
    assert np.load(out).view(BFLOAT16).shape == (1, 5, 5, 4)
