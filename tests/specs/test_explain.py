"""`tvmconv explain`: its tables, its JSON and its errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import tool
from test_arithmetic import vgg16

from tvmconv.cli import main
from tvmconv.specs.kinds import parse_spec

STEM = "conv2d:1x224x224x3:o64:k7x7:s2:pSAME:NHWC:float32"
CHAIN = (
    "c1=conv2d:1x3x32x32:o8:k3x3:NCHW:float32",
    "p1=maxpool2d:1x8x30x30:k2x2:NCHW:float32",
    "dw=conv2d:1x8x15x15:o8:k3x3:s2x1:pSAME:g8:NCHW:float32",
    "up=tconv2d:1x8x8x15:o4:k4x4:s2:p1:NCHW:float32:bias",
    "df=deform2d:1x4x16x30:o64:k3x3:p1:mask:bias:NCHW:float32",
    "gp=avgpool2d:1x64x16x30:k16x30:NCHW:float32",
)


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["explain", *map(str, words)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def told(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["explain", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("tvmconv: error: ") and err.count("\n") == 1
    return err


def test_one_layer(capsys):
    lines = dict(line.split(maxsplit=1) for line in said(capsys, STEM).replace("dim ", "dim").splitlines())
    assert lines["kind"] == "conv2d dense" and lines["output"] == "1x112x112x64"
    assert lines["dim0"] == lines["dim1"] == "floor((224 + 2 + 3 - 7) / 2) + 1 = 112"
    assert lines["parameters"] == "9408" and lines["MACs"] == "118013952"
    assert lines["flop/B"] == "61.29, compute-bound"
    assert lines["separable"].startswith("1/64 + 1/(7x7) = 0.0360: 4252416 MACs, 339 weights")


@pytest.mark.parametrize("text", [
    "tconv2d:1x8x8x15:o4:k4x4:s2x3:p1:d2:op1:NCHW:float32", "maxpool1d:2x16x9:k3:s2:ceil:NCHW:float32",
    "conv3d:1x3x9x9x9:o4:k1x2x3:d4x3x2:pFULL:NCHW:float32", "conv1d:0x9x4:o8:k3:NWC:float32",
])  # fmt: skip
def test_the_sizes_written_out_are_true(text, capsys):
    lines = [line for line in said(capsys, text).splitlines() if line.startswith("dim ")]
    spec = parse_spec(text)
    assert len(lines) == spec.rank
    for line, out in zip(lines, spec.out_spatial, strict=True):
        expression, _, value = line.split(maxsplit=2)[2].partition("=")
        expression = expression.replace(", begun inside", "")
        assert eval("__import__('math')." * (not expression[0].isdigit()) + expression) == out == int(value)


def test_table_of_every_kind(capsys):
    lines = said(capsys, *CHAIN).splitlines()
    assert len(lines) == len(CHAIN) + 2 and "field" not in lines[0]
    kinds = [" ".join(line.split()[1:3]) for line in lines[1:-1]]
    assert kinds == ["conv2d dense", "maxpool2d 1x8x30x30", "conv2d depthwise", "tconv2d dense",
                     "deform2d 1x4x16x30", "avgpool2d global"]  # fmt: skip
    assert lines[1].split()[-1] == "0.236" and lines[3].split()[-2:] == ["memory", "-"]
    assert lines[-1].startswith("total")


def test_stack(capsys):
    lines = said(capsys, "--stack", *CHAIN).splitlines()
    assert lines[0].split()[-3:] == ["field", "jump", "start"]
    assert [line.split()[-3:] for line in lines[1:5]] == [
        ["3", "1", "1"], ["4", "2", "1.5"], ["8", "4x2", "1.5"], ["12x10", "2x1", "0.5x1"],
    ]  # fmt: skip
    assert lines[-1].split()[1:3] == ["1x3x32x32", "1x64x1x1"]


def test_vgg16_from_a_file(capsys, tmp_path: Path):
    file = tmp_path / "layers.txt"
    file.write_text("".join(f"# layer\n{spec}\n" for spec in vgg16()))
    report = json.loads(said(capsys, "--stack", "--json", "-f", file))
    assert report["layers"][-1]["field"] == [{"size": 212, "jump": 32, "start": 15.5}] * 2
    assert report["total"]["parameters"] == 14_714_688 and report["total"]["macs"] == 15_346_630_656
    first = report["layers"][0]
    assert first["descriptor"] == str(vgg16()[0]) and first["padding"] == [[1, 1], [1, 1]]
    assert first["separable"]["ratio"] == pytest.approx(1 / 64 + 1 / 9)
    assert [layer["separable"] for layer in report["layers"] if "pool" in layer["kind"]] == [None] * 5


def test_ridge(capsys):
    assert "compute-bound" in said(capsys, STEM)
    assert "memory-bound" in said(capsys, STEM, "--ridge", 62)


def test_errors(capsys):
    assert "c2: input_shape 1x3x32x32, expected 1x8x30x30 as c1 gives" in told(
        capsys, "--stack", CHAIN[0], "c2=" + CHAIN[0][3:]
    )
    assert "layer 2: layout NHWC, expected NCHW" in told(
        capsys, "--stack", "conv2d:1x3x9x9:o3:k1x1:NCHW:float32", "conv2d:1x3x9x9:o3:k1x1:NHWC:float32"
    )
    assert "nothing to explain" in told(capsys)
    assert "--ridge" in told(capsys, STEM, "--ridge", 0)
    assert "--ridge" in told(capsys, STEM, "--ridge", "nan")
    assert "groups: 2" in told(capsys, "conv2d:1x3x9x9:o4:k1x1:g2:NCHW:float32")
    assert "did you mean conv2d" in told(capsys, "conv2:1x3x9x9:o4:k1x1:NCHW:float32")


def test_whole_models(capsys, tmp_path: Path):
    from onnx import save
    from small_networks import model, node, weights

    file = tmp_path / "m.onnx"
    save(model(
        node("Conv", "x a", "stem", strides=[2, 2], pads=[1] * 4),
        node("Conv", "stem a", "way", pads=[1] * 4),
        node("Relu", "way", "act"), node("Add", "stem act", "sum"), node("GlobalAveragePool", "sum", "mean"),
        node("Mul", "sum mean", "y"), **weights(a=(3, 3, 3, 3)),
    ), file)  # fmt: skip
    lines = [line.split() for line in said(capsys, "--onnx", file, "--whole").splitlines()]
    assert lines[0] == ["#", "from", "kind", "out", "params", "MACs", "field", "jump", "start", "value"]
    assert lines[1] == ["1", "x", "Conv", "1x3x4x4", "81", "1.3", "k", "3", "2", "0", "stem"]
    by_value = {line[-1]: line[:-1] for line in lines}
    assert by_value["sum"][-3:] == ["7", "2", "0"] and by_value["y"][-3:] == ["all", "-", "-"]
    assert lines[-1] == ["total", "162", "2.59", "k"]
    part = ("--start", "stem", "--end", "Add_sum")
    report = json.loads(said(capsys, "--onnx", file, "--whole", "--json", *part))
    assert [(facts["value"], facts["kind"], facts["reads"]) for facts in report["nodes"]] == [
        ("act", "Conv+Relu", ["stem"]), ("sum", "Add", ["stem", "act"]),
    ]  # fmt: skip
    field = {"size": 3, "jump": 1, "start": 0}
    assert report["nodes"][1]["field"] == [{"axis": axis, **field} for axis in (2, 3)]
    assert report["total"] == {"parameters": 81, "macs": 16 * 81} and report["origin"] == "stem"
    for words, message in [
        (("--whole",), "--whole: needs --onnx MODEL"),
        (("--start", "x", STEM), "--start: needs --whole"),
        (("--picture", "x.svg", STEM), "--picture: needs --whole"),
        (("--onnx", file, "--whole", "--picture", tmp_path / "x.jpg"), "picture: "),
        (("--onnx", file, "--whole", STEM), "--whole: expected no DESCRIPTOR"),
        (("--onnx", file, "--whole", "--end", "sun"), "end: 'sun', expected a value or a node"),
        (("--onnx", file, "--whole", "--start", "way"), "start: 'way', expected a value that is left"),
    ]:
        assert message in told(capsys, *words)


def test_no_tvm():
    code = (
        "import sys\nfrom tvmconv.cli import main\n"
        f"assert main(['explain', '--stack', *{CHAIN!r}]) == 0\n"
        "assert not {'tvm', 'tvm_ffi', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_as_a_command():
    result = tool("explain", STEM)
    assert result.returncode == 0 and result.stderr == "" and "118013952" in result.stdout
