"""Where a network's library keeps its weights, and several shapes over the same weights."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import edge
import libraries
import numpy as np
import onnx
import pytest
from cli_tools import tool
from libraries import run
from onnx import numpy_helper
from onnx_models import Net
from places import DATA
from small_networks import assert_near, session_results

import tvmconv
from tvmconv.network import compiling as networks

HERE = "x86-64-v3"
BATCHES = (1, 3)
SHAPES = [{"n": n} for n in BATCHES]


def network() -> onnx.ModelProto:
    """An input x of any batch, a result: weights of a convolution, a depthwise one and a Gemm."""
    net = Net(("n", 8, 10, 9))
    a = net.op("Relu", net.conv("x", 8, 32, pads=[1] * 4, bias=True))
    b = net.op("HardSwish", net.conv(a, 32, 32, group=32, pads=[1] * 4))
    c = net.op("Add", net.conv(b, 32, 32, (1, 1)), a)
    c = net.op("Mul", c, net.random(1, 32, 1, 1))
    y = net.op("Flatten", net.op("GlobalAveragePool", c))
    y = net.op("Gemm", y, net.random(32, 5), net.random(5))
    net.nodes.append(onnx.helper.make_node("Softmax", [y], ["y"], axis=1))
    return net.model("y")


def images(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 8, 10, 9), np.float32)


def assert_right(main: tvmconv.Function, batch: int, seed: int = 0) -> None:
    x = images(batch, seed)
    assert_near({"y": main(x)}, session_results(network(), {"x": x}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of both shapes for each way to keep weights: raw.so, file.so and file.weights, ..."""
    made = tmp_path_factory.mktemp("net")
    onnx.save(network(), made / "net.onnx")
    for way in networks.WEIGHTS:
        library = networks.compile(made / "net.onnx", HERE, shapes=SHAPES, weights=way, jobs=1)
        library.export(made / f"{way}.so")
    return made


@pytest.mark.parametrize("way", networks.WEIGHTS)
def test_every_way_gives_the_same(folder: Path, way: str) -> None:
    module = tvmconv.load(folder / f"{way}.so")
    assert list(module) == ["main_1x8x10x9", "main_3x8x10x9"] and "main" in module
    for batch in (3, 1, 3):  # from one or the other, in any order
        assert_right(module["main"], batch)
    assert_right(module["main_3x8x10x9"], 3)
    with pytest.raises(tvmconv.SpecError) as caught:
        module["main"](images(2))
    assert "x 2x8x10x9: expected x 1x8x10x9 or x 3x8x10x9" in str(caught.value)
    libraries.assert_one_line(caught)


@pytest.mark.parametrize("way", ["raw", "raw-file"])
def test_many_first_calls_at_once(folder: Path, way: str) -> None:
    module = tvmconv.load(folder / f"{way}.so")
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(assert_right, module["main"], BATCHES[i % 2], i) for i in range(16)]:
            done.result()


def test_weights_are_held_once(folder: Path) -> None:
    """By both functions, in every way; as the model has them, in two."""
    arrays = {tuple(w.dims): numpy_helper.to_array(w).tobytes() for w in network().graph.initializer}
    gemm, conv = arrays[5,], arrays[32, 8, 3, 3]
    for way in networks.WEIGHTS:
        held = folder / (f"{way}.weights" if "file" in way else f"{way}.so")
        assert held.read_bytes().count(gemm) == 1, way
        last = np.moveaxis(np.frombuffer(conv, np.float32).reshape(32, 8, 3, 3), (1, 0), (2, 3)).tobytes()
        assert held.read_bytes().count(last) == (1 if "raw" in way else 0), way  # channels-last inside
    assert (folder / "file.so").read_bytes().count(gemm) == 0
    header = (folder / "file.h").read_text()
    for batch in BATCHES:
        assert f"#define NET_MAIN_{batch}X8X10X9_WORKSPACE_BYTES" in header
        assert f"float32 {batch}x8x10x9 NCHW" in header


def test_several_targets_share_what_they_can(tmp_path: Path) -> None:
    targets, sizes = ["x86-64-v2", HERE], {}
    for way in ("baked", "raw"):
        sizes[way] = {}
        for chosen in (targets[:1], targets):
            library = networks.compile(network(), chosen, shapes={"n": 1}, weights=way, jobs=1)
            source = library.source()
            sizes[way][len(chosen)] = sum(map(len, source.data().values()))
        assert_right(library.load()["main"], 1)
    assert sizes["raw"][1] == sizes["raw"][2] <= sizes["baked"][2]


# ---- the file ----

WRONG = {
    "missing": (None, "cannot be read: No such file"),
    "truncated": (lambda data: data[:-64], "bytes, expected"),
    "another's": (lambda data: data[:32] + bytes(32) + data[64:], "is another model's"),
    "no weights": (lambda data: bytes(len(data)), "is another model's"),
    "empty": (lambda data: b"", "has 0 bytes, expected"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_files_are_refused(folder: Path, tmp_path: Path, wrong: str) -> None:
    """From Python as the library is loaded, from C at the call."""
    shutil.copy(folder / "file.so", tmp_path)
    (damage, words), weights = WRONG[wrong], (folder / "file.weights").read_bytes()
    if damage is not None:
        (tmp_path / "file.weights").write_bytes(damage(weights))
    with pytest.raises(tvmconv.ArtifactError) as caught:
        tvmconv.load(tmp_path / "file.so")
    assert words in str(caught.value) and "file.weights" in str(caught.value)
    libraries.assert_one_line(caught)
    library = ctypes.CDLL(str(tmp_path / "file.so"))
    library.net_last_error.restype = ctypes.c_char_p
    x, y = images(1), np.zeros((1, 5), np.float32)
    given, result = ((ctypes.c_void_p * 1)(a.ctypes.data) for a in (x, y))
    entry = library.net_main_1x8x10x9
    assert entry(given, result, None) == 8  # TVMCONV_ERR_WEIGHTS
    said = library.net_last_error().decode()
    assert words.split(":")[0] in said and "file.weights" in said and "\n" not in said
    (tmp_path / "file.weights").write_bytes(weights)  # a call may be repeated
    assert entry(given, result, None) == 0
    assert_near({"y": y}, session_results(network(), {"x": x}))


def test_a_damaged_file_is_found_out(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "file.so", tmp_path)
    data = bytearray((folder / "file.weights").read_bytes())
    data[-70] ^= 1
    (tmp_path / "file.weights").write_bytes(data)
    with pytest.raises(tvmconv.ArtifactError, match="is damaged: its SHA-256 does not match"):
        tvmconv.load(tmp_path / "file.so")


# ---- from C ----


@pytest.mark.parametrize("way", networks.WEIGHTS)
def test_a_call_allocates_nothing_and_asks_the_system_for_nothing(
    folder: Path, tmp_path: Path, way: str
) -> None:
    """After the first: under a filter of system calls, with allocations counted, on two threads."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    library = networks.compile(folder / "net.onnx", HERE, shapes={"n": 1}, weights=way, jobs=1)
    library.export(tmp_path / "net.so")
    x = images(1)
    wanted = session_results(network(), {"x": x})["y"]
    (tmp_path / "case").write_bytes(x.tobytes() + wanted.tobytes())
    shutil.copy(DATA / "quiet.c", tmp_path)
    arguments = []
    if "file" in way:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "net.weights").rename(tmp_path / "elsewhere" / "w")
        arguments = ["elsewhere/w"]
    options = ["-std=gnu11", "-Wall", "-Werror", "-fno-builtin", "quiet.c", "net.so", "-o", "quiet", "-lm"]
    built = run("gcc", options, f"-Wl,-rpath,{tmp_path}", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    done = run(tmp_path / "quiet", *arguments, cwd=tmp_path)
    if done.returncode == 77:
        pytest.skip("no filters of system calls here")
    assert (done.returncode, done.stdout) == (0, "quiet\n"), done


ON_ARM = """
import sys, numpy as np, tvmconv
main = tvmconv.load(sys.argv[1])["main"]
for batch in (1, 3):
    case = np.load(f"{sys.argv[2]}/{batch}.npz")
    np.testing.assert_allclose(main(case["x"]), case["y"], rtol=1e-4, atol=1e-5)
print("right")
"""


@pytest.mark.parametrize(("target", "way"), [("cortex-a53", "raw"), ("armv7-neon", "raw-file")])
def test_python_on_arm(tmp_path: Path, target: str, way: str) -> None:
    arch, cpu = ("armv7", "cortex-a15") if target == "armv7-neon" else ("aarch64", target)
    edge.emulator(arch)
    library = networks.compile(network(), target, shapes=SHAPES, weights=way, prefix="net", jobs=1)
    path = library.export(tmp_path / "net.so")
    for batch in BATCHES:
        x = images(batch)
        np.savez(tmp_path / f"{batch}.npz", x=x, **session_results(network(), {"x": x}))
    source = Path(tvmconv.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(source), "TVMCONV_QEMU_CPU": cpu}
    done = subprocess.run(
        [edge.root(arch) / "python3", "-c", ON_ARM, path, tmp_path], env=environment, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "right\n"), done.stderr


# ---- the library ----


def needed(path: Path) -> tuple[list[str], str]:
    """The libraries that a file needs, and its own name."""
    lines = run("readelf", "-d", path).stdout.splitlines()
    every = [line.split("[")[1][:-1] for line in lines if "NEEDED" in line]
    (own,) = (line.split("[")[1][:-1] for line in lines if "SONAME" in line)
    return every, own


def test_needs_libc_alone_and_has_a_name_of_its_own(folder: Path, tmp_path: Path) -> None:
    if not shutil.which("readelf"):
        pytest.skip("no readelf")
    libc = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2"}  # glibc
    for way in networks.WEIGHTS:
        libraries_needed, name = needed(folder / f"{way}.so")
        assert set(libraries_needed) <= libc and name == f"{way}.so"
    library = networks.compile(folder / "net.onnx", HERE, shapes={"n": 1}, jobs=1)
    assert needed(library.export(tmp_path / "lib.so", soname="one.so"))[1] == "one.so"
    with pytest.raises(tvmconv.ArtifactError, match="soname: 'a/b', expected the name of a file"):
        library.export(tmp_path / "lib.so", soname="a/b")


# ---- the command line ----


def test_from_the_shell(folder: Path, tmp_path: Path) -> None:
    line = ["compile", "--onnx", folder / "net.onnx", "--whole", "-t", HERE, "-j", 1]
    done = tool(*line, "-o", tmp_path / "net.so", "--shape", "n=1", "--shape", "n=3", "--weights", "file")
    assert done.returncode == 0, done.stderr
    assert "main_1x8x10x9" in done.stdout and "main_3x8x10x9" in done.stdout and "net.weights" in done.stdout
    done = tool("verify", "--onnx", folder / "net.onnx", tmp_path / "net.so", "--whole", "--steps")
    assert done.returncode == 0 and done.stdout.count("no step deviates") == 2, done
    shown = tool("inspect", tmp_path / "net.so", "main").stdout
    assert "main_1x8x10x9" in shown and "main_3x8x10x9" in shown


@pytest.mark.parametrize(("options", "words"), [
    ("--weights here --shape n=1", "weights: 'here', expected one of baked, raw, file, raw-file"),
    ("--shape n=1 --shape n=1", "x 1x8x10x9 twice, expected different ones"),
    ("--shape n=1 --shape n=2 --shape x=1x8x10x9 --shape x=1x8x10x9 --shape x=1x8x10x9",
     "shape of 'n': given 2 times, expected once or 3 times"),
    ("", "shape of 'x': missing"),
])  # fmt: skip
def test_refused_on_the_command_line(folder: Path, tmp_path: Path, options: str, words: str, capsys) -> None:
    from tvmconv import cli

    line = ["compile", "--onnx", str(folder / "net.onnx"), "--whole", "-t", HERE, *options.split()]
    assert cli.main([*line, "-o", str(tmp_path / "a.so")]) == 2
    said = [one for one in capsys.readouterr().err.splitlines() if "busy" not in one]
    assert len(said) == 1 and words in said[0], said


