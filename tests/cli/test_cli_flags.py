"""Every flag of every verb runs: the verbs' own list of flags is compared with the runs below."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_tools import DW, PW, tool
from onnx_models import Net
from places import TESTS

import tvmconv
from tvmconv.cli import main
from tvmconv.cli.app import whole_command

GPU = "conv2d:1x9x9x8:o8:k3x3:p1:g8:NHWC:float32"

# In this order, each with what has to be in its output: later ones use what earlier ones have made.
RUNS = {
    "--version": "tvmconv ",
    "--help": "Usage",
    "--show-completion bash": "_TVMCONV_COMPLETE",
    "compile -f layers.txt -o a.so -t native --cc cc --jobs 1 --header a.h --verbose --json": '"a.h"',
    f"compile {PW} --name first --prefix mine --no-header --target native --output b.a": "b.a",
    "compile --onnx m.onnx --shape n=1 --layout NHWC --bake-weights -o m.so": "m.so",
    "compile --file pw.txt -o c.so -j 2 -v --log shipped --depfile c.d -MF c.d": "schedule",
    "compile --onnx m.onnx --shape n=1 --names hash --no-user-logs -o n.so": "dense_",
    "cmake-dir": "cmake",
    "run a.so dw --input x.npy --input w=w.npy --input bias=b.npy --output y.npy": "dw",
    "run a.so dw --rounds 2 --threads 1 --json": '"random": [',
    "run a.so dw pw --seed 2 -n 1": "random numbers stood in for: dw x, w, bias; pw x, w",
    "verify a.so pw --seed 1 --tolerance 1e-3 --json": '"ok": true',
    f"verify {PW} --target native -t native --log shipped --no-user-logs": "0 failed",
    "verify --onnx m.onnx m.so --input x=m.npy --time": "1 layer against onnxruntime",
    "compile --onnx m.onnx --shape n=1 --whole --name forward --layout nhwc --weights raw --soname w -o w.so "
    "--blocks never":
        "bytes of workspace",
    "run w.so forward --time --steps -n 1": "% of roof",
    "run w.so --no-time --seed 1 -o y.npy": "forward",
    "verify --onnx m.onnx w.so --whole --steps --json": '"deviates": null',
    "inspect a.so dw --json": '"runs_here": true',
    "inspect a.so pw --tir --asm --target native -t native --log shipped": "compiled again for",
    "inspect w.so forward --step 1 --asm --no-user-logs": "# forward, step 1",
    "report w.so forward --onnx m.onnx --against onnxruntime --threads 1 --rounds 1 --sample-ms 1 --no-code "
    "-o w.html --json": '"call_us"',
    "report --onnx m.onnx --shape n=1 --whole --layout nhwc -n 1 --code --no-user-logs -o m.html":
        "m-roofline.png",
    "report --file pw.txt -f pw.txt -t native --target native --log shipped --rounds 1 --output pw.html":
        "pw-roofline.png",
    "extract m.onnx --shape n=1 --layout NHWC --descriptors --blocks always": "NHWC",
    "extract m.onnx --shape n=1 --json": '"layers"',
    "extract m.onnx --shape n=1 --verbose": "left over",
    "extract m.onnx --shape n=1 -v": "left over",
    "explain --file layers.txt --ridge 3 --json": '"ridge": 3',
    f"explain {DW} {PW} --stack": "field",
    "explain --onnx m.onnx --shape n=1 --layout NHWC -f pw.txt": "Conv_0",
    "explain --onnx m.onnx --shape n=1 --whole --start x --end v0_0 --json": '"v0_0"',
    "explain --onnx m.onnx --shape n=1 --whole --picture net.svg": "total",
    "show filters m.onnx Conv_0 --most 4 --output x.png -o f.png": "f.png",
    "show maps m.onnx v0_0 --shape n=1 --input m.npy --scale 1 --mean 0 --std 1 --order rgb --most 4 "
    "--together --referee --target native -t native --log shipped -o f.svg": "f.svg",
    "show maps m.onnx x --shape n=1 --input x=m.npy --no-user-logs --output f.pdf": "f.pdf",
    "show field m.onnx v0_0 --shape n=1 --input m.npy --at 0,0 --output x.png -o f.png": "sees rows",
    "targets --json": '"native"',
    "bench a.so pw --threads 1 --rounds 1 --sample-ms 1 --cold --csv c.csv --plot p.png --json":
        '"cold": true',
    "bench --onnx m.onnx --shape n=1 --layout NHWC --target native -n 1 --sample-ms 1 --log user": "roof",
    "bench --static --onnx m.onnx --shape n=1 -t cortex-a72": "llvm-mca for cortex-a72",
    "bench --file pw.txt -f pw.txt -t native -n 1 --no-user-logs --sample-ms 1 --against onnxruntime":
        "onnxruntime",
    "tune --onnx m.onnx --shape n=1 --layout NHWC --trials 1 --log log --seed 1 --json": '"descriptor"',
    "tune --onnx m.onnx --shape n=1 --whole --cold --trials 1 --log cold": "measured, in turns",
    "tune -f pw.txt --file pw.txt --minutes 0.02 --space strategies --log log --no-user-logs --target native":
        "strategy",
    "tune --onnx m.onnx --shape n=1 --layout NHWC --threads 1 --replay --log log": "strategy",
    f"tune {GPU} -t cuda-sm_80 --trials 1 --offline-round round --log log": "run its run.sh",
    "logs list --log log --log user --target native -t native --json": '"records"',
    "logs list --no-user-logs": "descriptor",
    f"logs missing {PW} -f layers.txt --file pw.txt --exact -t native --no-user-logs --json": '"missing"',
    "logs missing --onnx m.onnx --shape n=1 --layout NHWC --log log --target native": "",
    "logs prune --log log -t native --target native": "kept",
    "logs merge log --log other -t native --target native": "took",
}
SLOW = ("tune", "bench", "report", "--show")  # in processes of their own: they set affinity, fork, or exit

ELSEWHERE = {
    ("compile", "--set"): "test_onnx_branches.py",
    ("bench", "--set"): "test_grammar.py",
    ("logs missing", "--set"): "test_grammar.py",
    ("extract", "--set"): "test_onnx_branches.py",
    ("show maps", "--set"): "test_show.py",
    ("show field", "--set"): "test_show.py",
    ("explain", "--set"): "test_grammar.py",
    ("tune", "--set"): "test_network_tuning.py",
    ("report", "--set"): "test_report.py",
    ("tune", "--strategy"): "test_tuning.py",
    ("tune", "--tracker"): "test_boards.py",
    ("tune", "--key"): "test_boards.py",
    ("", "--install-completion"): "test_cli.py",
    ("board tracker", "--host"): "test_boards.py",
    ("board tracker", "--port"): "test_boards.py",
    ("board serve", "--tracker"): "test_boards.py",
    ("board serve", "--key"): "test_boards.py",
    ("board serve", "--host"): "test_boards.py",
    ("board serve", "--port"): "test_boards.py",
    ("inspect", "--source"): "test_cuda_library.py",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flags")
    (path / "layers.txt").write_text(f"dw={DW}\npw={PW}\n")
    (path / "pw.txt").write_text(f"{PW}\n")
    net = Net(("n", 4, 9, 8))
    net.conv("x", 4, 8, bias=True)
    onnx.save(net.model(), path / "m.onnx")
    spec = tvmconv.ConvSpec.parse(DW)
    shapes = {"x": spec.input_shape, "w": spec.weight_shape, "b": spec.bias_shape, "m": (1, 4, 9, 8)}
    for name, shape in shapes.items():
        np.save(path / f"{name}.npy", np.ones(shape, np.float32))
    return path


@pytest.mark.parametrize("line", RUNS)
def test_runs(
    line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    if line.startswith(SLOW):
        done = tool(*shlex.split(line))
        status, output, errors = done.returncode, done.stdout, done.stderr
    else:
        status = main(shlex.split(line))
        output, errors = capsys.readouterr()
    assert status == 0, errors
    assert RUNS[line] in output
    if "--json" in line:
        json.loads(output)


def _flags() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each verb and the spellings of one of its flags; of --a/--no-a both."""
    def walk(command: object, name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        for parameter in command.params:
            if parameter.param_type_name == "option" and "--help" not in parameter.opts:
                for spellings in filter(None, (parameter.opts, parameter.secondary_opts)):
                    yield name, tuple(spellings)
        for word, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, f"{name} {word}".strip())

    yield from walk(whole_command(), "")


def test_every_flag_is_in_a_run() -> None:
    found = list(_flags())
    assert len(found) > 90
    missing: list[str] = []
    for verb, spellings in found:
        if (verb, spellings[0]) in ELSEWHERE:
            text = next(TESTS.glob(f"*/{ELSEWHERE[verb, spellings[0]]}")).read_text()
            assert f'"{spellings[0]}"' in text, (verb, spellings)
            continue
        lines = [line.split() for line in RUNS if line.startswith(verb)]
        missing += [f"{verb} {spelling}" for spelling in spellings
                    if not any(spelling in words for words in lines)]  # fmt: skip
    assert not missing
