"""`tvmconv report`: what the page says, in a browser, and what is refused."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest
from browser import browser
from cli_tools import build_library
from small_networks import model, node, weights

from tvmconv.bench.roofline import Roofline
from tvmconv.cli import main
from tvmconv.cli.report import curves, facts, figures, page
from tvmconv.formats import manifest

QUICK = ["--rounds", "1", "--sample-ms", "1", "--threads", "1"]


def small_model():
    """Two equal layers, others into a concatenation, a softmax, and an input that is to be a constant."""
    convs = [node("Conv", f"{x} w{y}", y, pads=[1] * 4) for x, y in ("xa", "ab", "bc", "cd")]
    nodes = [*convs, node("Concat", "c d", "e", axis=1), node("Softmax", "e", "f", axis=1),
             node("Mul", "f s", "y")]  # fmt: skip
    proto = model(*nodes, shape=(1, 4, 8, 8), **weights(**{f"w{y}": (4, 4, 3, 3) for y in "abcd"}))
    s = type(proto.graph.input[0])()
    s.CopyFrom(proto.graph.input[0])
    s.name = "s"
    del s.type.tensor_type.shape.dim[:]
    proto.graph.input.append(s)
    return proto


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network's report, with a peer and what it was made from."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "m.onnx").write_bytes(small_model().SerializeToString())
    compiled = ["compile", "--onnx", str(folder / "m.onnx"), "--set", "s=2", "--whole", "-o"]
    assert main([*compiled, str(folder / "net.so")]) == 0
    assert main(["report", str(folder / "net.so"), "-o", str(folder / "net.html"), *QUICK]) == 0
    return folder


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    return build_library(tmp_path_factory.mktemp("two"))[0]


@pytest.fixture(scope="module")
def shown():
    with browser() as found:
        yield found


def test_a_network_in_a_browser(folder, shown):
    shown.open(folder / "net.html")
    steps = manifest.read(folder / "net.so")["functions"][0]["steps"]
    assert shown.text("h1") == "net.so" and len(shown.all(".layer")) == len(set(steps))
    (twice,) = [each for each in shown.all(".layer") if len(each.get_attribute("data-steps").split()) == 2]
    assert not shown.all(".detail")[0].is_displayed()
    shown.js("document.querySelectorAll('.layer .open').forEach((one) => one.click())")
    assert all(each.is_displayed() for each in shown.all(".detail"))
    assert "the machine code is that of the library" in twice.text and "Conv_a" in twice.text

    loops, assembly, innermost = twice.find_elements("css selector", ".tabs button")
    code = f"document.querySelector('#{twice.get_attribute('id')} pre')"
    for button, has in ((loops, "T.prim_func"), (assembly, "@function"), (innermost, "@function")):
        button.click()
        shown.until(f"{code}.innerText.includes('{has}')")
    assert twice.find_elements("css selector", ".here")[0].text.startswith(".L")

    for how, key in (("order", "order"), ("time", "time")):
        shown.js(f"document.querySelector('[data-sort={how}]').click()")
        values = [float(each.get_attribute(f"data-{key}")) for each in shown.all(".layer")]
        assert values == sorted(values, reverse=how == "time")
    number = twice.get_attribute("data-steps").split()[1]
    for picture in ("time", "roofline"):
        shown.js("document.querySelectorAll('.found').forEach((one) => one.classList.remove('found'))")
        mark = f"document.querySelector('#picture-{picture} .wide [data-at=\"{number}\"]')"
        shown.js(f"{mark}.dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")
        assert [each.id for each in shown.all(".found")] == [twice.id]
    assert shown.all("#picture-memory .wide .at")
    shown.js("document.querySelector('.manifest').open = true")
    shown.until("document.querySelector('.manifest pre').innerText.includes('\"sha256\"')")
    assert shown.complaints() == []


def test_light_dark_and_a_phone(folder, shown):
    colours = []
    for scheme in ("light", "dark"):
        shown.open(folder / "net.html", (390, 844), scheme)
        colours.append(shown.js("getComputedStyle(document.body).backgroundColor"))
        assert shown.js("document.documentElement.scrollWidth <= innerWidth")
        assert shown.all("#picture-time .narrow")[0].is_displayed()
        assert not shown.all("#picture-time .wide")[0].is_displayed()
    assert colours == ["rgb(254, 254, 254)", "rgb(21, 24, 29)"]
    shown.all("#theme")[0].click()
    assert shown.js("getComputedStyle(document.body).backgroundColor") == colours[0]
    assert shown.complaints() == []
    text = (folder / "net.html").read_text()
    assert set(re.findall(r"https?://[^\"' )]+", text)) <= {
        "http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg",
    }  # fmt: skip
    for name in ("time", "roofline", "memory"):
        assert (folder / f"net-{name}.png").read_bytes().startswith(b"\x89PNG")


def test_numbers_agree(folder, tmp_path, capsys):
    """Of --json: as many rows as steps, shares of all; a network from its model; beside another engine."""
    asked = ["report", "--onnx", str(folder / "m.onnx"), "--set", "s=2", "--whole", "--no-code", "--json"]
    assert main([*asked, *QUICK, "-o", str(tmp_path / "m.html")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["function"] == "main" and found["title"] == "m.onnx"
    steps = manifest.read(folder / "net.so")["functions"][0]["steps"]
    assert [row["descriptor"] for row in found["rows"]] == steps
    assert found["total_us"] == pytest.approx(sum(row["us"] for row in found["rows"]))
    assert found["call_us"] > 0
    assert "T.prim_func" not in (tmp_path / "m.html").read_text()


def report(**more):
    """A report of what cannot be measured at will."""
    roof = Roofline({"float32": 1e11}, ((1 << 14, 1e-6), (1 << 20, 1e-4)), 2)
    row = facts.Row("<b>&one", ("n",), "conv2d:1x8x8x4:o4:k1x1:NHWC:float32", "pointwise", 10.0, 8000, 2000,
                    count=3, roof_us=5.0, bound="memory", peers={"torch": 20.0}, doubtful=True)  # fmt: skip
    other = facts.Row("two", (), "copy:1x8x8x4:float32", "copy", 20.0, 0, 2048)
    known = {
        "title": "<i>title", "function": None, "target": "znver4", "cpu": "a CPU", "threads": 2,
        "rows": [row, other], "roofline": roof, "size": 10_000, "peers": {"torch": None},
        "manifest": {"tvmconv": "1", "tvm": "2", "target": {"triple": "t"}, "kind": "shared", "libc": None,
                     "sha256": "0" * 64},
    }  # fmt: skip
    return facts.Report(**{**known, **more})


def test_groups_and_shares():
    made = report()
    assert made.total_us == 50 and [group.title for group in made.by_kind()] == ["pointwise", "copy"]
    one, two = made.by_kernel()
    assert (one.count, one.all_us, one.share, one.percent) == (3, 30, 0.6, 50)
    assert (two.cumulative, two.percent, two.peer_ratio("torch")) == (1.0, None, None)
    assert one.peer_ratio("torch") == 2 and one.gflops == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("nodes", "name"),
    [
        ([], ""),
        (["/features/features.3/conv/conv.0/conv.0.0/Conv"], "features.3/conv.0.0/Conv"),
        (["/a/a.1/c/Conv", "/a/a.1/d/Clip"], "a.1"),
        (["Conv_1", "Relu_2"], "Relu_2"),
    ],
)
def test_short_names(nodes, name):
    assert facts.short(nodes) == name


def test_kinds():
    for text, kind in (
        ("conv2d:1x8x8x4:o4:k3x3:d2:g4:NHWC:int8", "dilated depthwise int8"),
        ("tconv2d:1x8x8x4:o4:k2x2:NHWC:float32", "transposed dense"),
        ("maxpool2d:1x8x8x4:k2x2:NHWC:float32@x=8", "maxpool"),
        ("deform2d:1x4x8x8:o4:k3x3:p1:NCHW:float32", "deform"),
        ("block2d:1x8x8x4:e8:k3x3:p1:o4:NHWC:float32:bias", "block"),
        ("copy:1x3x8x8:float32:1x8x8x3:a[0;1,64][0;3,1][64x3]", "copy"),
    ):
        assert facts.kind_of(text) == kind


def test_what_is_odd_is_shown_whole(tmp_path, shown):
    """Names with markup, tuning, no roofline, notes, nothing compiled again."""
    curve = facts.Curve("conv2d:...", "user", (None, 3e-5, 2e-5, None, 2.5e-5, 1e-5), 2e-5, 1.1e-5)
    assert curve.best == [None, 3e-5, 2e-5, 2e-5, 2e-5, 1e-5]
    made = report(curves={report().rows[0].descriptor: curve}, notes=["told <once>"])
    drawn = figures.pictures(made)
    assert list(drawn) == ["time", "roofline", "tuning"]
    (tmp_path / "odd.html").write_text(page.page(made, drawn))
    shown.open(tmp_path / "odd.html")
    assert shown.text("h1") == "<i>title" and shown.text(".note") == "told <once>"
    assert shown.text(".open") == "<b>&one !" and "1.82\N{MULTIPLICATION SIGN}" in shown.text("#tuning")
    assert "2.00\N{MULTIPLICATION SIGN}" in shown.text("#peers") and shown.complaints() == []
    bare = report(roofline=None, rows=report().rows[1:], peers={})
    (tmp_path / "bare.html").write_text(page.page(bare, figures.pictures(bare)))
    shown.open(tmp_path / "bare.html")
    assert not shown.all("#roofline") and shown.complaints() == []


def test_trials_of_logs(tmp_path):
    """In the log's order, of the spec or its twin; a failed trial has no time; those under emulation are
    none."""
    bare = "conv2d:1x9x9x8:o16:k1x1:NHWC:float32"
    lines = []
    for seconds in ([3e-5, 3e-5, 4e-5], [1e10], [2e-5], [2.5e-5]):
        notes = [["Annotate", ["b0", f'"{bare}"'], ["tvmconv.spec"], []],
                 ["SampleCategorical", [], [[0], [1.0]], ["v1"]],
                 ["Annotate", ["b0", "v1"], ["tvmconv.strategy:direct_last"], []]]  # fmt: skip
        lines.append(json.dumps([0, [[notes, [[1, 0]]], seconds, {}, []]]))
    (tmp_path / "database_tuning_record.json").write_text("\n".join(lines) + "\n")
    facts_of = {"target": "znver4", "runs": []}
    (tmp_path / "metadata.json").write_text(json.dumps(facts_of))
    asked = [f"{bare}:bias:relu6", "conv2d:1x9x9x8:o8:k1x1:NHWC:float32"]
    found = curves.curves_of(asked, "znver4", [str(tmp_path)], False)
    assert list(found) == asked[:1]
    assert found[asked[0]] == facts.Curve(bare, str(tmp_path), (3e-5, None, 2e-5, 2.5e-5), None, None)
    (tmp_path / "metadata.json").write_text(json.dumps({**facts_of, "emulated": True}))
    assert curves.curves_of(asked, "znver4", [str(tmp_path)], False) == {}


def test_buffers_do_not_overlap_while_they_live(folder):
    (function,) = manifest.read(folder / "net.so")["functions"]
    ((_, buffers),) = function["buffers"].items()
    assert buffers and all(one["last"] < len(function["steps"]) for one in buffers)
    assert max(one["offset"] + one["bytes"] for one in buffers) == function["workspace_bytes"]
    for number in range(len(function["steps"])):
        alive = sorted((one["offset"], one["bytes"]) for one in buffers
                       if one["first"] <= number <= one["last"])  # fmt: skip
        assert all(a + size <= b for (a, size), (b, _) in pairwise(alive))
    for fact, number in zip(function["step_facts"], range(len(function["steps"])), strict=True):
        for result in fact["results"]:
            if result["at"] == "workspace":
                size = int(np.prod(result["shape"])) * 4
                assert any(one["first"] <= number <= one["last"] and one["offset"] <= result["offset"]
                           and result["offset"] + size <= one["offset"] + one["bytes"]
                           for one in buffers)  # fmt: skip


def test_refusals(folder, layers, gpu_library, tmp_path, monkeypatch, capsys):
    out = ["-o", str(tmp_path / "r.html")]
    other = tmp_path / "other.onnx"
    other.write_bytes(model(node("Relu", "x", "y")).SerializeToString())
    net = str(folder / "net.so")
    for words, says in (
        ([net, "-o", "r.txt"], "-o r.txt: expected a name ending in .html"),
        ([net, "-o", "/no/such/r.html"], "no folder /no/such"),
        (["/no/such.so", *out], "/no/such.so"),
        ([str(gpu_library), *out], "for a GPU, expected a CPU's library"),
        ([net, "forward", *out], "'forward'"),
        ([str(other), "--shape", "x", *out], "shape 'x': expected NAME="),
        ([net, "--against", "onnxruntime", *out], "--against onnxruntime: needs --onnx MODEL"),
        ([net, "--against", "litert", *out], "--against litert: expected some of onnxruntime, openvino"),
        ([net, "--against", "onnxruntime", "--onnx", str(other), *out], "was compiled from another model"),
        ([net, "--whole", *out], "expected no -f, --shape, --set, --layout, --whole or --target beside"),
        ([str(layers), "--onnx", str(other), *out], "expected no model beside a library of layers"),
        (["--whole", *out], "--whole: needs --onnx MODEL"),
        (out, "expected a DESCRIPTOR, a LIBRARY, -f FILE or --onnx MODEL"),
        ([net, "--threads", "5000", *out], "--threads 5000: expected at most"),
    ):
        assert main(["report", *words]) == 2, words
        assert says in capsys.readouterr().err
    for module, name in ((page, "jinja2"), (figures, "matplotlib")):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
        assert main(["report", net, *out]) == 2
        assert f"no module {name}; pip install 'tvmconv[report]'" in capsys.readouterr().err
        monkeypatch.undo()
    assert not list(tmp_path.glob("r*"))
