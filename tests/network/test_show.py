"""Pictures of models: the numbers behind them against onnxruntime's, their pixels, and errors of one line."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from PIL import Image
from small_networks import model, node, session_results, weights

from tvmconv import show
from tvmconv.base.errors import Error, SpecError
from tvmconv.cli import main
from tvmconv.network.graph import Value
from tvmconv.onnx.reading.model import load
from tvmconv.onnx.reading.session import part_of
from tvmconv.show.feature_maps import drawn, value_for
from tvmconv.show.images import fed, prepared
from tvmconv.show.layer_filters import weights_of
from tvmconv.show.layered import layout

HERE = "x86-64-v3"
DARK, BRIGHT = (68, 1, 84), (253, 231, 37)  # viridis


@pytest.fixture(scope="module")
def net():
    """A batch norm and an activation that are folded away, a branch, a head."""
    norm = {f"n{i}": np.random.default_rng(i).uniform(0.5, 1.5, 4).astype(np.float32) for i in range(4)}
    return model(
        node("Conv", "x a", "plain", pads=[1] * 4, strides=[2, 2]),
        node("BatchNormalization", "plain n0 n1 n2 n3", "normed"), node("Relu", "normed", "act"),
        node("Conv", "act d", "deep", pads=[1] * 4, group=4), node("Add", "deep act", "sum"),
        node("GlobalAveragePool", "sum", "mean"), node("Flatten", "mean", "flat"),
        node("MatMul", "flat m", "y"), shape=(1, 3, 16, 12),
        **weights(a=(4, 3, 3, 3), d=(4, 1, 3, 3), m=(4, 5)), **norm,
    )  # fmt: skip


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "cat.png"
    pixels = np.random.default_rng(0).integers(0, 256, (9, 20, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def pixels_of(picture: show.Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture._repr_png_())).convert("RGB")).astype(int)


def places_of(pixels: np.ndarray, colour: tuple[int, int, int], room: int = 3) -> np.ndarray:
    return np.argwhere((np.abs(pixels - colour) <= room).all(-1))


def test_values_are_what_onnxruntime_has(net, photo: Path) -> None:
    preparation = show.Preparation(mean=(0.5, 0.4, 0.3), std=(0.2,), order="bgr")
    small = np.asarray(Image.open(photo).resize((12, 16), Image.Resampling.BILINEAR), np.float64)
    x = ((small[:, :, ::-1] / 255 - [0.5, 0.4, 0.3]) / 0.2).transpose(2, 0, 1)[None].astype(np.float32)
    for name, referee in [("plain", False), ("act", True), ("Add_sum", False), ("y", True), ("x", False)]:
        found = value_for(net, name, photo, preparation=preparation, target=HERE, referee=referee)
        value = name.removeprefix("Add_")
        wanted = x if name == "x" else session_results(part_of(net, [value]), {"x": x})[value]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5, err_msg=name)
    again = value_for(net, "act", x, target=HERE, referee=True)  # an array is taken as it is
    np.testing.assert_allclose(again, session_results(part_of(net, ["act"]), {"x": x})["act"], atol=1e-5)


def test_pictures_as_inputs_take_them(photo: Path, tmp_path: Path) -> None:
    resized = Image.open(photo).resize((8, 6), Image.Resampling.BILINEAR)
    last, _ = prepared(photo, Value("x", (2, 6, 8, 3), "uint8"), show.Preparation())
    assert last.dtype == np.uint8 and (last == np.asarray(resized)).all()
    grey, seen = prepared(photo, Value("x", (1, 1, 6, 8), "float32"), show.Preparation(scale=2))
    light = Image.open(photo).convert("L").resize((8, 6), Image.Resampling.BILINEAR)
    assert (grey[0, 0] == 2.0 * np.asarray(light)).all() and seen.shape == (6, 8, 3)
    np.save(tmp_path / "x.npy", grey)
    array, seen = prepared(tmp_path / "x.npy", Value("x", (1, 1, 6, 8), "float32"), show.Preparation())
    assert (array == grey).all() and seen.min() == 0 and seen.max() == 1
    several = [
        Value("n", (2,), "int64"), Value("x", (1, 8, 8, 1), "float32"), Value("z", (1, 1, 4, 4), "int8"),
    ]  # fmt: skip
    numbers = np.array([1, 2])
    first = fed(several, photo, {"n": numbers}, None)
    assert first.image == "x" and list(first.feeds) == ["n", "x"] and first.feeds["n"] is numbers
    assert fed(several, photo, {"x": photo}, None).image == "z"
    assert fed(several, None, {"z": photo}, None).image == "z"
    assert fed(several, None, {}, None).background is None


def test_tiles_show_the_numbers() -> None:
    array = np.zeros((1, 2, 8, 8), np.float32)
    array[0, 0, 0, 7] = 5
    array[0, 1, 7, 0] = 1
    each, all_ = (pixels_of(drawn(array, "v", 64, together)) for together in (False, True))
    bright = places_of(each, BRIGHT)
    assert len(bright) == 2 * 64 and (places_of(all_, BRIGHT)[:, 1] < each.shape[1] / 2).all()
    first, second = bright[bright[:, 1] < each.shape[1] / 2], bright[bright[:, 1] > each.shape[1] / 2]
    assert first[:, 0].max() < second[:, 0].min() and len(places_of(each, DARK)) > 5000
    for shape, words in [
        ((1, 4), "v: 1x4, from 0 to 0"), ((1, 3, 5), "v: 1x3x5"), ((), "v: scalar"),
        ((2, 2, 4, 5, 6), "middle slice"), ((1, 70, 2, 2), "the first 64 channels"),
    ]:  # fmt: skip
        picture = drawn(np.zeros(shape), "v", 64, False)
        assert words in picture.text and pixels_of(picture).std() > 0
    for shape in ((0, 3), (1,) * 6):
        with pytest.raises(SpecError, match="expected 1 to 5 dims and something in them"):
            drawn(np.zeros(shape), "v", 64, False)


def test_filters(net) -> None:
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in net.graph.initializer}
    assert (weights_of(load(net), "plain") == arrays["a"]).all()
    assert (weights_of(load(net), "MatMul_y") == arrays["m"].T).all()
    assert "4x3x3x3" in show.filters(net, "Conv_plain").text and "5x4" in show.filters(net, "y").text
    one = np.zeros((2, 1, 4, 4), np.float32)
    one[0, 0, 1, 2], one[1, 0, 0, 0] = 1, -1
    made = model(node("Conv", "x w", "y"), shape=(1, 1, 8, 8), w=one)
    pixels = pixels_of(show.filters(made, "y"))
    blue, red = places_of(pixels, (5, 48, 97)), places_of(pixels, (103, 0, 31))  # above 0, and below
    assert len(blue) > 100 and len(red) > 50 and blue[:, 1].max() < red[:, 1].min()
    up = model(node("ConvTranspose", "x w", "y"), shape=(1, 2, 8, 8), **weights(w=(2, 5, 3, 3)))
    assert weights_of(load(up), "y").shape == (5, 2, 3, 3)


def test_field_is_drawn_where_it_is(net) -> None:
    picture = show.field(net, "sum", at=(4, 3))
    assert picture.text == "sum: 1x4x8x6, element 4, 3 sees rows 5 to 11, columns 3 to 9"
    red = places_of(pixels_of(picture), (255, 0, 0), 0)
    zoom = 480 / 16
    (top, left), (bottom, right) = red.min(0), red.max(0)
    assert abs((bottom - top) - 7 * zoom) <= 3 and abs((right - left) - 7 * zoom) <= 3
    assert "rows 0 to 3, columns 0 to 3" in show.field(net, "sum", at=(0, 0)).text
    assert "rows 0 to 15, columns 0 to 11" in show.field(net, "flat").text


def test_graph_is_drawn_in_layers(net) -> None:
    assert show.graph(net).text == "nodes: 5, parameters: 168, multiply-adds: 6,932"
    draw = random.Random(0)
    for _ in range(30):
        count = draw.randrange(1, 20)
        edges = [(a, b) for b in range(count) for a in range(b) if draw.random() < 2 / count]
        laid = layout(count, edges)
        assert all(laid.nodes[a][1] < laid.nodes[b][1] for a, b in edges)
        across: dict[int, list[float]] = {}
        points = {*laid.nodes, *(point for edge in laid.edges.values() for point in edge[1:-1])}
        for x, layer in points:
            across.setdefault(layer, []).append(x)
        assert len(points) == count + sum(len(edge) - 2 for edge in laid.edges.values())
        gaps = [b - a for xs in across.values() for a, b in zip(sorted(xs), sorted(xs)[1:], strict=False)]
        assert min(gaps, default=1) > 0.999
        assert all([at for _, at in edge] == list(range(laid.nodes[a][1], laid.nodes[b][1] + 1))
                   for (a, b), edge in laid.edges.items())  # fmt: skip


def test_pictures_are_saved(net, tmp_path: Path) -> None:
    picture = show.filters(net, "deep")
    assert picture.save(tmp_path / "f.svg").read_text().startswith("<?xml")
    assert picture.save(tmp_path / "f.PDF").read_bytes().startswith(b"%PDF")
    first = picture.save(tmp_path / "f.png").read_bytes()
    again = show.filters(net, "deep").save(tmp_path / "again.png").read_bytes()
    assert first == again == picture._repr_png_()
    assert repr(picture) == "Picture('deep: 4x1x3x3, up to " + picture.text.split()[-1] + "')"


def test_command(net, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "m.onnx", tmp_path / "p.png"
    save(net, file)
    two = model(node("Add", "x b", "y"), shape=(1, 3, 4, 4))
    two.graph.input.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, (4,)))
    save(two, tmp_path / "two.onnx")
    np.save(tmp_path / "b.npy", np.ones(4, np.float32))
    (tmp_path / "bad.png").write_bytes(photo.read_bytes()[:80])

    def run(*words: object) -> tuple[int, str]:
        status = main(["show", *map(str, words)])
        said = capsys.readouterr()
        assert not (said.out and said.err)
        return status, said.out + said.err

    image, to = ("--input", photo), ("-o", out)
    for words, told in [
        (("filters", file, "plain", *to), "p.png: plain: 4x3x3x3"),
        (("maps", file, "sum", *image, *to, "--referee", "--mean", "0.1,0.2,0.3"), "p.png: sum: 1x4x8x6"),
        (("maps", tmp_path / "two.onnx", "y", *image, *to, "--referee", "--input",
          f"b={tmp_path / 'b.npy'}"), "p.png: y: 1x3x4x4, from 1."),
        (("field", file, "deep", *image, *to, "--at", "0,0"), "rows 0 to 3, columns 0 to 3"),
    ]:  # fmt: skip
        out.unlink(missing_ok=True)
        status, said = run(*words)
        assert status == 0 and told in said and Image.open(out).size > (300, 100)
    out.unlink()
    maps = ("maps", file, "sum")
    for words, told in [
        (("filters", file, "nothing", *to), "value or a node"),
        (("filters", file, "act", *to), "layer: 'act' is Relu, expected one of Conv"),
        (("filters", file, "x", *to), "layer: 'x' is an input"),
        (("filters", file, "plain", *to, "--most", 0), "most: 0, expected a positive integer"),
        (("filters", file, "plain", "-o", tmp_path / "p.jpg"), "a file name that ends in one of .png"),
        (("filters", file, "plain", "-o", tmp_path / "no" / "p.png"), "there is no folder"),
        ((*maps, *to, *image, "--set", "z=1"), "'z'"),
        (("field", file, "sum", *to, "--set", "z=1"), "'z'"),
        ((*maps, *to, "--input", tmp_path / "bad.png"), "bad.png: not a picture, or a damaged one"),
        ((*maps, *to, "--input", tmp_path / "no.png"), "no.png: there is no such file"),
        ((*maps, *to, "--input", file), "m.onnx: not a picture"),
        ((*maps, *to, "--input", tmp_path / "b.npy"), "input 'x': 4 float32, expected 1x3x16x12 float32"),
        ((*maps, *to, *image, "--mean", "1,2"), "mean: 2 numbers, expected 1 or 3"),
        ((*maps, *to, *image, "--std", "0"), "std: (0.0,), expected finite numbers, none of them 0"),
        ((*maps, *to, *image, "--mean", "nan"), "mean: (nan,), expected finite numbers"),
        ((*maps, *to, *image, "--std", "a"), "--std: 'a', expected numbers joined by commas"),
        ((*maps, *to, *image, "--scale", "inf"), "scale: inf, expected a finite number"),
        ((*maps, *to, *image, "--order", "rbg"), "order: 'rbg', expected one of rgb, bgr"),
        ((*maps, *to, *image, "--input", "b"), "--input b: expected NAME=FILE, for there are several"),
        ((*maps, *to, "--input", "b=b", "--input", "b=c"), "--input b=c: 'b' is given twice"),
        ((*maps, *to, "--input", "b=b"), "input: 'b', expected one of x"),
        (maps + to, "input 'x': missing"),
        (("maps", tmp_path / "two.onnx", "y", *image, *to, "--referee"), "input 'b': missing"),
        (("maps", tmp_path / "two.onnx", "y", *image, *to, "-t", HERE), "input 'b': missing"),
        (("field", file, "sum", *to, "--at", "9,9"), "at: (9, 9), expected a place in 8x6"),
        (("field", file, "sum", *to, "--at", "1"), "at: (1,), expected 2 numbers"),
        (("field", file, "sum", *to, "--at", "1.5,2"), "--at: '1.5,2', expected whole numbers"),
    ]:  # fmt: skip
        status, said = run(*words)
        assert (status, said.count("\n")) == (2, 1) and told in said, (words, said)
        assert not out.exists()


def test_what_pictures_need_is_named(net, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, wanted in (("matplotlib.figure", "matplotlib"), ("PIL", "Pillow")):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, module, None)
            with pytest.raises(Error, match=rf"need.? {wanted}: pip install 'tvmconv\[show\]'"):
                show.maps(net, "act", photo, referee=True)
