"""scripts/bench_peers.py: lists of layers, data, ratios, engines. Times mean nothing here."""

import importlib
import os
import sys

import numpy as np
import places
import pytest

import tvmconv
from tvmconv.base.clock import statistic
from tvmconv.bench import goals, limits, ratios
from tvmconv.bench.engines import worker
from tvmconv.bench.engines.layer_data import example
from tvmconv.bench.engines.names import ENGINES, missing
from tvmconv.bench.engines.session import Session
from tvmconv.schedules.machines import resolve
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.kinds import parse_spec

SCRIPTS = str(places.SCRIPTS)


@pytest.fixture(scope="module")
def bench():
    """The modules of the script, imported as the script imports them."""
    sys.path.insert(0, SCRIPTS)
    try:
        yield {name: importlib.import_module(f"bench_{name}") for name in ("layers", "peers")}
    finally:
        sys.path.remove(SCRIPTS)


@pytest.mark.parametrize(
    ("name", "kinds", "macs"),
    [
        # Distinct layers by kind, and the multiply-adds that the papers state, less the classifier.
        ("mobilenet_v1", {"dense": 1, "depthwise": 9, "pointwise": 9}, 568e6),
        ("mobilenet_v2", {"dense": 1, "depthwise": 10, "pointwise": 19}, 300e6),
        ("mobilenet_v3_large", {"dense": 1, "depthwise": 12, "pointwise": 33}, 219e6),
        ("shufflenet_v2", {"dense": 1, "depthwise": 7, "pointwise": 8}, 146e6 - 1024e3),
        ("resnext50_32x4d", {"dense": 1, "grouped": 7, "pointwise": 16}, 4.2e9),
        ("resnet50", {"dense": 8, "pointwise": 15}, 4.1e9),
    ],
)
def test_networks(bench, name, kinds, macs):
    layers = bench["layers"]
    specs = layers.network(name)
    assert len(set(specs)) == len(specs)
    assert {kind: sum(spec.kind == kind for spec in specs) for kind in kinds} == kinds
    assert sum(layer.spec().macs for layer in layers.SETS[name]()) == pytest.approx(macs, rel=0.012)


def test_sets_are_printed(bench, capsys, monkeypatch):
    """What is printed is what `tvmconv tune -f -` reads: every set's descriptors, each once."""
    layers = bench["layers"]
    monkeypatch.setattr(sys, "argv", ["bench_layers.py", *layers.SETS, "--epilogue", "full"])
    assert layers.main() == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(set(printed)) == len(printed)
    specs = [parse_spec(line) for line in printed]
    assert [str(spec) for spec in specs] == printed
    activations = {spec.activation for spec in specs if isinstance(spec, ConvSpec)}
    assert activations >= {"relu6", "hard_swish", "relu"}
    assert len(layers.network("odd")) == 20


def test_layouts_and_epilogues(bench):
    network = bench["layers"].network
    nhwc, nchw = network("mobilenet_v2"), network("mobilenet_v2", "NCHW")
    assert [spec.flops for spec in nhwc] == [spec.flops for spec in nchw]
    assert {spec.layout for spec in nchw} == {"NCHW"}
    full = network("mobilenet_v2", epilogue="full")
    assert all(spec.bias for spec in full)
    assert {spec.activation for spec in full if spec.kind == "depthwise"} == {"relu6"}
    linear = {spec.residual for spec in full if spec.kind == "pointwise" and spec.activation is None}
    assert linear == {True, False}  # linear bottlenecks, with a connection around some


def test_ratios():
    deep = tvmconv.ConvSpec.parse("conv2d:1x8x8x4:o4:k3x3:p1:g4:NHWC:float32")
    point = tvmconv.ConvSpec.parse("conv2d:1x8x8x4:o8:k1x1:NHWC:float32")
    rows = [
        ratios.Row(deep, {"ours": 10.0, "torch": 40.0, "litert": 20.0}),
        ratios.Row(point, {"ours": 10.0, "torch": 80.0, "litert": 5.0}),
        ratios.Row(point, {"ours": 10.0, "torch": 20.0}),  # XNNPACK cannot run it
    ]
    assert [row.best() for row in rows] == ["litert", "litert", "torch"]
    assert rows[0].gflops == pytest.approx(deep.flops / 10e-6 / 1e9)
    means = ratios.summarise(rows, ["torch", "litert"])
    assert list(means) == ["all", "depthwise", "pointwise"]
    assert means["all"]["layers"] == 3
    assert means["all"]["best"] == pytest.approx((2 * 0.5 * 2) ** (1 / 3))
    assert means["all"]["best without XNNPACK"] == means["all"]["torch"] == pytest.approx(4.0)
    assert means["all"]["lowest"] == 0.5
    assert means["all"]["litert"] == pytest.approx(1.0)
    assert means["pointwise"]["best"] == pytest.approx(1.0)


def test_nothing_to_compare():
    spec = tvmconv.ConvSpec.parse("conv2d:1x8x8x4:o8:k1x1:NHWC:float32")
    assert ratios.geometric_mean([]) is None
    assert ratios.Row(spec, {"ours": 1.0}).best() is None
    assert ratios.Row(spec, {"torch": 1.0}).ratio("torch") is None
    assert ratios.summarise([ratios.Row(spec, {"ours": 1.0})], ["torch"])["all"]["best"] is None


def test_disturbed_samples():
    """Samples that other processes disturbed count only where too few others are left."""
    clean = [{"seconds": n * 1e-6, "disturbed": False} for n in (3, 1, 2)]
    spoilt = [{"seconds": 1.0, "disturbed": True}] * 4
    said = statistic(clean + spoilt)
    assert (said["us"], said["min_us"], said["doubtful"]) == (pytest.approx(2), pytest.approx(1), False)
    assert (said["samples"], said["clean_samples"]) == (7, 3)
    said = statistic(clean[:2] + spoilt)
    assert (said["us"], said["doubtful"]) == (pytest.approx(1e6), True)
    assert not statistic(clean[:1])["doubtful"]  # --rounds 1


def verdict(descriptor, limits=None, **us):
    return goals.judge(ratios.Row(parse_spec(descriptor), us, {}, limits or {}))


def test_goals_by_ratio():
    """Of each kind, the least ratio to the best peer that is enough; and just less."""
    shape = "1x8x8x32:o32"
    dilated = f"conv2d:{shape}:k3x3:p2:d2:g32:NHWC:float32"
    for descriptor, ratio in {
        f"conv2d:{shape}:k3x3:p1:g32:NHWC:float32": 1.5, dilated: 1.5,
        f"conv2d:{shape}:k3x3:p1:g8:NHWC:float32": 2.0, f"conv2d:{shape}:k1x1:NHWC:float32": 1.15,
        f"conv2d:{shape}:k3x3:p1:NHWC:float32": 1.1, f"conv2d:{shape}:k3x3:p2:d2:NHWC:float32": 1.1,
    }.items():  # fmt: skip
        good = verdict(descriptor, ours=100.0, litert=100.0 * ratio, torch=1000.0)
        assert (good.met, good.goal_ratio, good.attained) == ("ratio", ratio, pytest.approx(1)), descriptor
        bad = verdict(descriptor, ours=100.1, litert=100.0 * ratio, torch=1000.0)
        assert (bad.met, bad.below_floor) == ("missed", False) and bad.attained == pytest.approx(1 / 1.001)
    # Depthwise: 1.5 of XNNPACK is not enough where others are nearer than 2.
    both = verdict(dilated, ours=100.0, litert=150.0, torch=190.0)
    assert both.met == "partly" and both.goal_ratio == pytest.approx(150 / 95)
    assert verdict(dilated, ours=100.0, torch=200.0).met == "ratio"
    for none in (f"tconv2d:{shape}:k3x3:p1:NHWC:float32", f"conv2d:{shape}:k3x3:NHWC:float16",
                 "conv2d:1x8x8x256:o256:k3x3:g128:NHWC:float32"):  # fmt: skip
        assert verdict(none, ours=1.0, litert=9.0).met is None


def test_goals_by_bound():
    deep = parse_spec("conv2d:1x8x8x32:o32:k3x3:p1:g32:NHWC:float32")
    # A copy of as many bytes takes 85 µs.
    copying = {"copy": deep.bytes / 85e-6, "fma": deep.flops / 10e-6}
    met = verdict(str(deep), copying, ours=100.0, litert=120.0)
    assert (met.met, met.below_floor, met.floor) == ("bound", False, 1.0)
    assert met.copy_percent == pytest.approx(85) and met.fma_percent == pytest.approx(10)
    assert met.goal_ratio == pytest.approx(1.2) and met.attained == pytest.approx(1)
    missed = verdict(str(deep), copying, ours=101.0, litert=100.0)
    assert (missed.met, missed.below_floor) == ("missed", True)
    point = parse_spec("conv2d:1x8x8x32:o64:k1x1:NHWC:float32")
    computing = {"copy": point.bytes / 99e-6, "fma": point.flops / 86e-6}
    below = verdict(str(point), computing, ours=100.0, litert=94.0)
    assert (below.met, below.below_floor) == ("bound", True)
    assert verdict(str(point), computing, litert=94.0) == goals.Verdict()
    rows = [
        ratios.Row(deep, {"ours": 100.0, "litert": 120.0}, {}, copying),
        ratios.Row(deep, {"ours": 101.0, "litert": 90.0}, {}, copying),
        ratios.Row(point, {"ours": 100.0, "litert": 120.0}, {}, computing),
        ratios.Row(parse_spec("maxpool2d:1x8x8x16:k3x3:NHWC:float32"), {"ours": 1.0, "ort": 1.0}),
    ]
    counted = goals.count(rows)
    assert list(counted) == ["all", "depthwise", "pointwise"]
    assert counted["depthwise"] == pytest.approx(
        {"layers": 2, "by ratio": 0, "by bound": 1, "partly": 0, "missed": 1, "below floor": 1,
         "lowest": 90 / 101, "attained": (100 / 101) ** 0.5}
    )  # fmt: skip
    assert counted["pointwise"]["by ratio"] == 1 and counted["all"]["layers"] == 3
    assert goals.count(rows[-1:]) == {}


def test_data_agrees_between_layouts():
    """A layer's arrays are channels-first whatever the spec's layout, and `expected` belongs to them."""
    text = "conv2d:1x6x5x4:o8:k3x3:s2:pSAME:g2:NHWC:float32:bias:relu6"
    last = ConvSpec.parse(text)
    layer = example(last)
    first = ConvSpec((1, 4, 6, 5), 8, 3, stride=2, padding="SAME", groups=2, bias=True, activation="relu6")
    assert (layer.x.shape, layer.w.shape) == (first.input_shape, first.weight_shape)
    expected = tvmconv.specs.reference.conv.conv_reference(first, layer.x, layer.w, layer.bias)
    np.testing.assert_allclose(layer.expected, expected, rtol=1e-12, atol=1e-12)
    x, left = layer.padded(keep=True)
    assert (x.shape, left) == ((1, 4, 7, 5), [0, 1])  # one-sided padding is put in, symmetric is left


def test_kinds_of_layers():
    for text, kind in {
        "conv2d:1x8x8x4:o8:k3x3:d2:NHWC:float32": "dilated dense",
        "conv2d:1x8x8x4:o8:k1x1:d2:NHWC:uint8/int32": "pointwise uint8/int32",
        "tconv2d:1x8x8x4:o4:k3x3:g4:NHWC:float16": "transposed depthwise float16",
        "avgpool2d:1x8x8x4:k8x8:NHWC:float32": "global_avgpool",
        "deform2d:1x4x8x8:o4:k3x3:NCHW:float32": "deform",
    }.items():
        assert ratios.kind_of(parse_spec(text)) == kind


def test_growth(bench, capsys):
    """A straight line, and one with something that a call costs by itself."""
    scaling = importlib.import_module("bench_scaling")
    assert scaling.exponent([1, 2, 4, 8], [3, 6, 12, 24]) == pytest.approx(1)
    assert scaling.exponent([1, 2, 4, 8], [4, 5, 7, 11]) < 0.6
    curves = list(scaling.curves())
    for curve in curves:
        flops = [spec.flops for spec in curve.specs]
        assert [f // flops[0] * curve.values[0] for f in flops] == list(curve.values)
    rows = [
        {"descriptor": str(spec), "engines": {"ours": {"min_us": 2.0 * value}}}
        for value, spec in zip(curves[0].values, curves[0].specs, strict=True)
    ]
    scaling.show_curves(rows)
    out = capsys.readouterr().out
    assert "depthwise 3x3: batch" in out and out.endswith("grows with the power 1.00\n")


LAYERS = [
    "conv2d:1x9x9x16:o16:k3x3:p1:g16:NHWC:float32:bias:relu",
    "conv2d:1x9x9x16:o32:k3x3:pSAME:s2:d1:g4:NHWC:float32",
    "conv2d:1x9x9x16:o32:k1x1:NHWC:float32:bias:residual:relu",
    "conv2d:1x16x9x9:o32:k3x3:p2:d2:NCHW:float32:bias:hard_swish",
    "conv2d:1x16x9x9:o32:k3x3:p1:NCHW:float16:bias:relu",
    "conv2d:1x9x9x16:o32:k3x3:p1:NHWC:bfloat16",
    "conv2d:1x9x9x16:o32:k3x3:p1:NHWC:uint8/int32",
    "conv2d:1x9x9x16:o32:k3x3:p1:NHWC:uint8:bias",
    "conv2d:1x16x9x9:o32:k3x3:p1:g2:NCHW:int8:bias",
    "tconv2d:1x9x9x16:o32:k4x4:s2:p1:NHWC:float32:bias:relu",
    "maxpool2d:1x12x12x16:k3x3:s2:p1:NHWC:float32",
    "avgpool2d:1x12x12x16:k3x3:s1:p1:NHWC:float32",
    "avgpool2d:1x7x7x16:k7x7:s1:NHWC:float32",
    "deform2d:1x16x9x9:o16:k3x3:p1:mask:bias:NCHW:float32",
    "conv3d:1x5x6x7x4:o8:k3x3x3:p1:NDHWC:float32",
]


def test_engines_compute_the_layers(tmp_path):
    """What every engine makes of a layer is checked, in each of its ways; and each kind of layer has somebody
    to be compared with."""
    specs = [parse_spec(text) for text in LAYERS]
    named = {f"f{i}": spec for i, spec in enumerate(specs)}
    library = str(tvmconv.compile(named).export(tmp_path / "ours.so", header=False))
    lacking = [module for name in ENGINES if (module := missing(name))]
    if lacking:
        pytest.skip(f"no module {lacking[0]}")
    cpus = sorted(os.sched_getaffinity(0))[:1]
    native = resolve("native")
    options = {"seconds": 1e-4, "library": library, "probes": limits.export(native, specs, tmp_path / "p.so")}
    with Session(list(ENGINES), 1, cpus, options, 1) as session:
        held = {str(spec): set(session.hold(spec, "")) for spec in specs}  # raises where one is wrong
        row = session.time(specs[0], "")
    assert 1e8 < row.limits["fma"] < 1e13 and 1e8 < row.limits["copy"] < 1e12
    for descriptor, names in held.items():
        assert "ours" in names and len(names) > 1, descriptor
    assert held[LAYERS[0]] == set(ENGINES)


@pytest.mark.parametrize("engine", ["ours", "torch-cl", "ort", "litert", "openvino"])
def test_cold_weights(engine, tmp_path):
    """Instances of a layer take turns, each with its own weights; their inputs are written before each call,
    with what they hold."""
    if missing(engine):
        pytest.skip(f"no module {missing(engine)}")
    spec = parse_spec("conv2d:1x7x7x32:o48:k1x1:NHWC:float32:bias")
    library = str(tvmconv.compile({"f": spec}).export(tmp_path / "ours.so", header=False))
    made = ENGINES[engine](1, {"engine": engine, "library": library})
    bench, layer = worker.Bench(made, 1, 1e-4), example(spec)
    assert bench.layer(layer, 3)["error"] < 1e-5
    assert bench.sample()["seconds"] > 0 and 2 <= bench.clock.calls <= 3
    bench.way.touch()
    bench.way.call()
    assert worker.error_of(bench.way.result(), layer.expected) < 1e-5
    several = worker.Bench(made, 2, 1e-4).layer(layer, 3)
    assert ("unsupported" in several) == (engine not in ("ours", "torch-cl"))


def test_copies_of_cold_weights():
    """As many as are far away when their turn comes again; none of weights that are always near."""
    session = Session([], 1, [0], {}, 1)
    assert session.copies(parse_spec("conv2d:1x7x7x512:o512:k1x1:NHWC:float32")) > 2
    assert session.copies(parse_spec("conv2d:1x14x14x64:o64:k3x3:p1:g64:NHWC:float32")) == 0
    assert session.copies(parse_spec("maxpool2d:1x14x14x64:k2x2:s2:NHWC:float32")) == 0


def test_rounds_on_shared_cores_do_not_count():
    """Where multiply-adds fall far below their peak, the rounds around that are left out for everybody."""
    halved = iter([False, False, True, True, False, False, False, False])
    state = {"slow": False}

    class Engine:
        def __init__(self, us):
            self.us = us

        def hold(self, layer, copies):
            return {"way": "", "error": 0.0, "failed": ""}

        def ask(self, what, *_):
            if what == "sample":
                return {"seconds": self.us * (1 + state["slow"]) * 1e-6, "disturbed": False}
            state["slow"] = next(halved)
            return [{"rate": 1e12 / (1 + state["slow"]), "disturbed": False}] * 2

    session = Session(["ours", "torch"], 2, [0, 1], {"probes": ""}, 4)
    session.workers = {"ours": Engine(2.0), "torch": Engine(3.0)}
    row = session.time(parse_spec(LAYERS[0]), "")
    assert row.us == {"ours": 2.0, "torch": 3.0}
    assert row.detail["torch"]["samples"] == 7 and row.detail["torch"]["clean_samples"] == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--against", "numpy"], "--against numpy: expected some of torch"),
        (["conv2d:1x8x8x4:o8:k3x3:NHWC:float32:prelu"], "neither prelu, a shuffle, nor integers"),
        (["conv2d:1x8x8"], "expected 4 dims"),
        (["--network", "mobilenet_v4"], "--network mobilenet_v4: expected some of mobilenet_v1"),
        (["--layout", "CHWN"], "--layout CHWN: expected NHWC"),
        (["--threads", "4096"], "--threads 4096: only"),
        (["--kind", "grouped"], "none of the layers is of that kind"),
        (["--layers", "/no/such/file"], "/no/such/file"),
    ],
)
def test_usage_errors(bench, capsys, arguments, says):
    assert bench["peers"].main(["--no-ours", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err.splitlines()[-1]
