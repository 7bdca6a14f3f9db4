"""What compile writes, and what a build tool sees of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import onnx
import pytest
from cli_tools import PW
from onnx_models import Net

import tvmconv
from tvmconv.cli import main
from tvmconv.onnx import compile_model, extract


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model() -> Net:
    """Equal layers, under names that C does not take."""
    net = Net((1, 8, 9, 9))
    x = "x"
    for name in ("/stem/conv.0/Conv", "exp", "7", "stem_conv_0_conv", "/stem/conv.0/Conv_"):
        x = net.op("Conv", x, net.random(8, 8, 1, 1), name=name)
    return net


def test_what_does_not_change_is_not_written(folder: Path) -> None:
    line = ["compile", f"pw={PW}", "-o", "a.so", "--header", "api.h"]
    assert main(line) == 0
    made = {name: Path(name).stat().st_mtime_ns for name in ("a.so", "api.h")}
    assert main(line) == 0
    assert {name: Path(name).stat().st_mtime_ns for name in made} == made
    assert main([*line, "--prefix", "other"]) == 0
    assert all(Path(name).stat().st_mtime_ns != time for name, time in made.items())
    assert not Path("a.h").exists()


def test_a_depfile_is_a_rule_for_make(folder: Path) -> None:
    net = Net()
    net.conv("x", 4, 8, bias=True)
    where = folder / "a b#"
    where.mkdir()
    onnx.save(net.model(), where / "m.onnx", save_as_external_data=True, location="$w.bin", size_threshold=0)
    assert main(["compile", "--onnx", "a b#/m.onnx", "-o", "m.a", "-MF", "m.d", "--log", "shipped"]) == 0
    (folder / "Makefile").write_text("all: m.a\n\t@echo $(words $^)\nm.a:\n\t@echo made\n-include m.d\n")

    def made(*flags: str) -> bool:
        done = subprocess.run(["make", *flags], capture_output=True, text=True, check=True)
        return "made" in done.stdout

    assert made("-n", "-W", "a b#/$w.bin") and made("-n", "-W", "a b#/m.onnx") and not made()


@pytest.mark.parametrize(("flags", "told"), [
    (["--header", "h.h", "--no-header"], "--header h.h: expected no --no-header beside it"),
    (["--header", "a.so"], "expected files that differ"),
    (["--header", "none/a.h"], "--header none/a.h: no folder none"),
    (["--depfile", "."], "--depfile: . is a folder"),
    (["--log", "none"], "tuning_logs: 'none', expected a folder of logs, or user, shipped"),
    (["--log", "user", "--no-user-logs"], "--no-user-logs: expected no --log user"),
    (["--names", "hash"], "--names: needs --onnx MODEL"),
])  # fmt: skip
def test_refusals(flags: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", PW, "-o", "a.so", *flags]) == 2
    assert told in capsys.readouterr().err
    assert not Path("a.so").exists()


def test_functions_are_called_by_their_nodes() -> None:
    library = compile_model(model().model())
    names = list(library.functions)
    assert names[:3] == ["stem_conv_0_Conv", "pointwise_exp", "pointwise_7"]
    assert names[3:] == ["stem_conv_0_conv_2", "stem_conv_0_Conv_3"]
    module = library.load()
    assert module["/stem/conv.0/Conv"] is module["stem_conv_0_Conv"]
    layers = module.manifest["onnx"]["layers"]
    assert [layer["function"] for layer in layers] == names
    assert [layer["inputs"]["x"] for layer in layers] == ["x", *(layer["output"] for layer in layers[:-1])]
    with pytest.raises(tvmconv.SpecError, match="function: 'stem', expected one in"):
        module["stem"]


def test_names_from_a_file(folder: Path) -> None:
    found = extract(model().model())
    names = folder / "names.txt"
    names.write_text("# mine\n\nfirst=/stem/conv.0/Conv\n last = 7 \n")
    assert list(compile_model(found, names=str(names)).functions)[:3] == ["first", "pointwise_exp", "last"]
    for text, told in {
        "a=8": "names.txt:1: node '8', expected a layer's",
        "a": "names.txt:1: 'a', expected NAME=NODE",
        "a=7\nA=exp": "names.txt:2: 'A=exp', expected each node and each name once",
        "for=7": "function name: 'for', expected a C identifier",
    }.items():
        names.write_text(text)
        with pytest.raises(tvmconv.SpecError, match=told):
            compile_model(found, names=str(names))
    with pytest.raises(tvmconv.SpecError, match="names: 'nodes', expected node, hash, or a file"):
        compile_model(found, names="nodes")
