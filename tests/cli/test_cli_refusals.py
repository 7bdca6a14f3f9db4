"""The command line: what cannot be done is refused in one line before anything is compiled."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx_models import small_network

from tvmconv.cli import main

PW = "conv2d:1x9x9x8:o16:k1x1:NHWC:float32"
GPU = "cuda-sm_80"

REFUSALS = {
    "weights on a GPU": (f"compile --onnx m.onnx --bake-weights -t {GPU} -o a.so", "baked: weights for"),
    "CPU and GPU": (f"compile {PW} -t native,{GPU} -o a.so", "expected either CPUs or GPUs"),
    "GPU and CPU": (f"compile {PW} -t {GPU},native -o a.so", "expected either CPUs or GPUs"),
    "architectures": (f"compile {PW} -t x86-64-v2,cortex-a72 -o a.so", "targets of one architecture"),
    "Windows": (f"compile {PW} -o a.dll", "path: a.dll, expected a name in .so, .a, .o"),
    "macOS": (f"compile {PW} -o a.dylib", "path: a.dylib, expected a name in .so, .a, .o"),
    "no suffix": (f"compile {PW} -o a", "path: a, expected a name in .so, .a, .o"),
    "a header": (f"compile {PW} -o a.h --no-header", "path: a.h, expected a name in .so"),
    "a header in the way": (f"compile {PW} -o way.so", "way.h is a folder"),
    "a static library for a GPU": (f"compile {PW} -t {GPU} -o a.a", "a name in .so, for cuda"),
    "a name of C's": (f"compile printf={PW} -o a.so", "function name: 'printf', expected"),
    "a prefix": (f"compile {PW} --prefix 9 -o a.so", "prefix: '9', expected"),
    "a compiler": (f"compile {PW} --cc no-such-cc -o a.so", "cc: 'no-such-cc', expected"),
    "cuda": (f"compile {PW} -t cuda -o a.so", "did you mean cuda-sm_75 or "),
    "sm_90": (f"compile {PW} -t sm_90 -o a.so", "did you mean cuda-sm_90?"),
    "90": (f"compile {PW} -t cuda:90 -o a.so", "did you mean cuda-sm_90?"),
    "a model among others": (f"compile m.onnx {PW} -o a.so", "a model is given as --onnx m.onnx"),
    "no output": (f"compile {PW}", "-o FILE: missing; expected a library to write"),
    "a library, no output": ("compile k.so", "k.so: expected a DESCRIPTOR; 'tvmconv inspect k.so' shows"),
    "an option without its argument": ("compile --depfile", "(see 'tvmconv compile --help')"),
    "a soname of an archive": (f"compile {PW} -o a.a --soname a", "soname: 'a', expected none for a.a"),
    "a soname with a folder": (f"compile {PW} -o a.so --soname b/a", "soname: 'b/a', expected the name of"),
    "a list": ("compile list.txt -o a.so", "a file of them is given as -f list.txt"),
    "a library": ("compile k.so -o a.so", "k.so: expected a DESCRIPTOR; 'tvmconv inspect k.so' shows"),
    "a model as a list": ("compile -f m.onnx -o a.so", "a model is given as --onnx m.onnx"),
    "a list as a model": ("compile --onnx list.txt -o a.so", "a file of descriptors is given as -f list.txt"),
    "a library as a model": ("extract k.so", "k.so: expected an ONNX model, not a library made from one"),
    "run: a model": ("run m.onnx", "expected a library; 'tvmconv compile m.onnx -o m.so' makes one"),
    "run: a descriptor": (f"run {PW}", f"expected a library; 'tvmconv compile {PW} -o conv.so' makes one"),
    "inspect: a list": ("inspect list.txt", "'tvmconv compile -f list.txt -o list.so' makes one"),
    "verify: a target": ("verify k.so --log user", "expected descriptors to compile, not a library"),
    "bench: logs": ("bench k.so --no-user-logs", "expected descriptors to compile, not a library"),
    "bench: logs of code": (f"bench --static {PW} --log user", "it looks at the default schedules"),
    "tune: two folders": (f"tune {PW} --log a --log b", "--log: a, b, expected one folder to write to"),
    "tune: whose logs": (f"tune {PW} --no-user-logs", "expected --log DIR beside it, where to write"),
    "explain: a library": ("explain k.so", "'tvmconv inspect k.so' shows"),
    "logs: a folder": (f"logs missing {PW} --log none", "no logs of"),
    "verify: a model": ("verify m.onnx", "expected a library; 'tvmconv compile m.onnx -o m.so' makes one"),
    "board: no port": ("board serve --tracker localhost --key a", "address: 'localhost', expected HOST:PORT"),
    "verify: a list": ("verify list.txt", "-f list.txt"),
    "verify: not here": (f"verify {PW} -t cortex-a72", "expected one that this machine runs"),
    "bench: a model": ("bench m.onnx", "--onnx m.onnx"),
    "bench: not here": (f"bench {PW} -t cortex-a72", "expected one that this machine runs"),
    "bench: a GPU": (f"bench {PW} -t {GPU}", f"--target {GPU}: expected a CPU"),
    "bench: GPU's code": (f"bench --static {PW} -t {GPU}", f"--target {GPU}: expected a CPU"),
    "bench: a table of code": (f"bench --static {PW} --csv a.csv", "--static: expected no --against"),
    "tune: two": (f"tune {PW} --trials 1 -t x86-64-v2,x86-64-v3", "expected one target here"),
    "tune: two GPUs": (f"tune {PW} --trials 1 -t cuda-sm_80,cuda-sm_90", "expected one target here"),
    "tune: a model": (f"tune m.onnx {PW} --trials 1", "--onnx m.onnx"),
    "explain: a list": ("explain list.txt", "-f list.txt"),
    "logs: a model": ("logs missing m.onnx", "--onnx m.onnx"),
    "logs: nothing": ("logs missing", "nothing to look for: expected a DESCRIPTOR, -f FILE"),
}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("refusals")
    onnx.save(small_network(), path / "m.onnx")
    (path / "list.txt").write_text(f"{PW}\n")
    (path / "way.h").mkdir()
    (path / "k.so").write_bytes(b"\x7fELF")
    return path


@pytest.mark.parametrize("case", REFUSALS)
def test_refused_at_once(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("tvmconv.compiler.compile.compile_kernels", lambda *_: pytest.fail("compiled"))
    words, said = REFUSALS[case]
    before = sorted(folder.iterdir())
    assert main(words.split()) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("tvmconv: error: ") and output.err.count("\n") == 1
    assert said in output.err
    assert sorted(folder.iterdir()) == before
