"""`tvmconv bench`: its clock, its roofline, and the command."""

import csv
import json
import os

import cli_tools
import numpy as np
import pytest
from cli_tools import DW, PW, build_library, tool
from small_networks import model, node

from tvmconv.base.clock import COLD_CALLS, Clock
from tvmconv.bench import probes, roofline
from tvmconv.bench.engines.layer_data import comparable
from tvmconv.bench.own import Line, means
from tvmconv.cli import layer_times
from tvmconv.schedules.machines import native
from tvmconv.specs.kinds import parse_spec


def test_cold_calls_are_flushed_for():
    did = []
    clock = Clock(lambda: did.append("call"), 1e-5, lambda: did.append("flush"))
    did.clear()
    clock.sample()
    assert did[: 2 * COLD_CALLS] == ["flush", "call"] * COLD_CALLS


def test_probes_do_what_they_count():
    module = probes.library(native(), ["float32", "int32"], [1 << 14]).load()
    entries = {entry["name"]: entry for entry in module.manifest["functions"]}
    fma, copy = module["fma_float32"].bind(), module["copy_16384"].bind()
    y = fma(np.array([0.5, 1.0], np.float32))
    np.testing.assert_array_equal(y, np.full_like(y, 2))  # the fixed point of a / 2 + 1
    assert entries["fma_float32"]["flops"] == 2 * y.size * probes.STEPS
    if native().amx:
        check_tiles(module["fma_int32"].bind(), entries["fma_int32"]["flops"])
    else:
        check_dots(module["fma_int32"].bind(), entries["fma_int32"]["flops"])
    x = np.random.default_rng(0).random(copy._function.arguments[0].shape, np.float32)
    np.testing.assert_array_equal(copy(x), x)
    assert 2 * x.nbytes == 16384


def check_tiles(fma, flops):
    x = np.random.default_rng(0).integers(-128, 128, (2, 32, 64)).astype(np.int8)
    a, b = x.astype(np.int32)
    # Words of b hold four rows of one column.
    b = b.reshape(2, 16, 16, 4).transpose(0, 1, 3, 2).reshape(2, 64, 16)
    expected = probes.STEPS * np.concatenate([a @ b[0], a @ b[1]], axis=1)
    y = fma(x.view(np.int32))
    np.testing.assert_array_equal(y, np.broadcast_to(expected, y.shape))
    assert flops == 2 * 64 * y.size * probes.STEPS


def check_dots(fma, flops):
    words = fma(np.array([1 << 16, 0], np.int32))
    # One element, that above the low half, times 1 and the others times 0 are added, each step.
    dot, start = probes.dot_of(native()), (1 << 16) + np.arange(len(words[0])) // native().lanes()
    value = start.astype(np.uint32)
    for _ in range(probes.STEPS):
        value += value.view(dot.x).reshape(-1, dot.size)[:, dot.size // 2].astype(np.uint32)
    np.testing.assert_array_equal(words[0].view(np.uint32), value)
    assert flops == 2 * dot.size * words.size * probes.STEPS


def test_roofline_lies_between_what_was_measured():
    roof = roofline.Roofline({"float32": 1e9}, ((1000, 1e-6), (4000, 1e-6), (16000, 16e-6)), 1)
    assert [roof.bandwidth(size) for size in (10, 1000, 4000, 16000, 10**9)] == [1e9, 1e9, 4e9, 1e9, 1e9]
    assert roof.bandwidth(2000) == pytest.approx(2e9)
    assert roof.seconds(1e6, 4000, "float16") == (1e-3, "compute")
    other = roofline.Roofline({"float32": 2e9}, ((1000, 2e-6), (4000, 0.5e-6), (16000, 16e-6)), 1)
    best = roof.best_with(other)
    assert best.peak == {"float32": 2e9} and [s for _, s in best.copies] == [1e-6, 0.5e-6, 16e-6]
    seconds, what = roof.seconds(1e6, 1.6e7, "float32")
    assert (seconds, what) == (pytest.approx(1.6e-2), "memory")
    entry = {"flops": 2000, "bytes": 4000, "arguments": [{"dtype": "float32"}]}
    line = Line(entry, {"us": 4.0}, roof, {"torch": 8.0, "litert": 2.0})
    assert (line.gflops, line.gbs, line.percent) == (0.5, 1.0, pytest.approx(50))
    found = means([line, line], ["torch", "litert"])
    assert (found["torch"], found["litert"], found["best"]) == pytest.approx((2.0, 0.5, 0.5))


def test_a_roof_below_layers_is_measured_again(tmp_path, monkeypatch, capsys):
    """Disturbance by other load is reported, or gone on the second try."""
    library, _ = build_library(tmp_path)
    low = roofline.Roofline({"float32": 1.0}, ((1 << 14, 1e3), (1 << 15, 1e3)), 1)
    high = roofline.Roofline({"float32": 1e15}, ((1 << 14, 1e-12), (1 << 15, 1e-12)), 1)
    options = {"seconds": 1e-4, "cold": False}
    for second, disturbed in ((low, True), (high, False)):
        given = iter([low, second])
        monkeypatch.setattr(roofline, "measure", lambda *_, given=given: next(given))
        lines, limits = layer_times.measured(library, [], 1, [0], 1, options)
        assert next(given, None) is None and [line.exceeds for line in lines] == [disturbed] * 2
        assert limits.peak == second.peak
        assert ("2 layers above the roof" in capsys.readouterr().err) == disturbed


def test_equal_layers_of_a_model(tmp_path):
    """One of them is timed, all are counted."""
    w = {f"w{i}": np.ones((4, 4, 3, 3), np.float32) for i in range(3)}
    w["v"] = np.ones((8, 4, 1, 1), np.float32)
    nodes = [node("Conv", f"{'x' if i == 0 else f'y{i}'} w{i}", f"y{i + 1}", pads=[1] * 4) for i in range(3)]
    proto = model(*nodes, node("Conv", "y3 v", "y"), shape=(1, 4, 8, 8), **w)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    quick = ("--rounds", 1, "--sample-ms", 0.1, "--threads", 1)
    done = tool("bench", "--onnx", tmp_path / "m.onnx", *quick, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [layer["count"] for layer in found["layers"]] == [3, 1]
    three, one = found["layers"]
    assert found["total"]["us"] == pytest.approx(3 * three["us"] + one["us"])
    assert found["total"]["count"] == 4
    done = tool("bench", "--onnx", tmp_path / "m.onnx", *quick)
    head, first, second, total, *_ = done.stdout.splitlines()
    assert head.split()[-5:] == ["%", "count", "all", "µs", "share"]
    assert first.split()[-3] == "3" and second.split()[-3] == "1"
    assert total.split()[:2] == ["in", "all"] and total.split()[-3] == "4" and total.split()[-1] == "100.0%"


def test_comparable():
    for text in (DW, "conv2d:1x8x8x4:o4:k1x1:NHWC:int8", "maxpool2d:1x8x8x4:k2x2:NHWC:float32"):
        assert comparable(parse_spec(text))
    for other in ("conv2d:1x8x8x4:o4:k1x1:NHWC:float32:prelu", "conv2d:0x8x8x4:o4:k1x1:NHWC:float32",
                  "conv2d:1x8x8x4:o4:k1x1:NHWC:int8:residual", "tconv2d:1x8x8x4:o4:k2x2:NHWC:int8"):
        assert not comparable(parse_spec(other))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing to time"),
        ([DW, "--against", "numpy"], "--against numpy: expected some of torch"),
        ([DW, "--threads", "4096"], "--threads 4096: expected at most"),
        ([DW, "--csv", "/no/such/folder/a.csv"], "no folder /no/such/folder"),
        (["/no/such.so"], "/no/such.so"),
        (["/no/such.so", DW], "/no/such.so cannot be read"),
        ([DW, "--bake-weights"], "--bake-weights"),
        ([DW, "--shape", "x=1"], "--shape: needs --onnx"),
    ],
)
def test_errors(arguments, says):
    done = tool("bench", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr.splitlines()[-1]


def test_command(tmp_path):
    library, _ = build_library(tmp_path)
    quick = ("--rounds", 3, "--sample-ms", 0.2, "--threads", 1)
    table = tmp_path / "layers.csv"
    done = tool("bench", library, *quick, "--against", "onnxruntime", "--csv", table, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [(layer["name"], layer["descriptor"]) for layer in facts["layers"]] == [("dw", DW), ("pw", PW)]
    assert set(facts["roofline"]["peak"]) == {"float32"}
    for layer in facts["layers"]:
        spec = parse_spec(layer["descriptor"])
        assert layer["us"] > 0
        assert layer["gflops"] == pytest.approx(spec.flops / layer["us"] / 1e3)
        assert layer["percent"] == pytest.approx(100 * layer["roof_us"] / layer["us"])
        assert layer["ratios"]["onnxruntime"] == pytest.approx(layer["peers_us"]["onnxruntime"] / layer["us"])
    ratios = [layer["ratios"]["onnxruntime"] for layer in facts["layers"]]
    assert facts["geometric_means"]["onnxruntime"] == pytest.approx(np.sqrt(np.prod(ratios)))
    rows = list(csv.DictReader(table.open()))
    assert [float(row["us"]) for row in rows] == pytest.approx([layer["us"] for layer in facts["layers"]])

    pool = "maxpool2d:1x9x9x8:k2x2:NHWC:float32"
    picture = tmp_path / "roofline.png"
    done = tool("bench", pool, f"named={PW}", *quick, "--plot", picture)
    assert done.returncode == 0, done.stderr
    head, first, second, mean, *_ = done.stdout.splitlines()
    assert head.split() == ["layer", "µs", "±", "GFLOP/s", "GB/s", "roof", "µs", "bound", "%"]
    assert first.startswith(str(parse_spec(pool)))
    assert second.startswith(f"named={PW}") and mean.startswith("geometric mean")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib(tmp_path):
    """A missing plotter is known before anything is timed."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'matplotlib' else find(name, *a)\n"
    )
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = cli_tools.tool("bench", DW, "--plot", tmp_path / "a.png", env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith("pip install 'tvmconv[bench]'")
