"""Whole models: compiled into one library, verified on the activations that flow in onnxruntime."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_tools import tool
from machine import slowness
from onnx_models import Net, small_network

import tvmconv
from tvmconv.frontends.verify import verify
from tvmconv.onnx import compile_model, extract, verify_model
from tvmconv.onnx.recognising.layers import image_in
from tvmconv.specs.kinds import parse_spec

SHAPE = (1, 3, 17, 12)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small model's file, and the file of its library with the weights baked in."""
    folder = tmp_path_factory.mktemp("small")
    onnx.save(small_network(), folder / "small.onnx")
    compile_model(folder / "small.onnx", bake_weights=True).export(folder / "small.so")
    return folder / "small.onnx", folder / "small.so"


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("bake", [False, True])
def test_small_model(layout, bake, x):
    model = small_network()
    library = compile_model(model, layout=layout, bake_weights=bake, names="hash")
    results = verify_model(model, library.load(), x)
    assert len(results) == 9 and all(result.ok for result in results)
    # Equal layers are one function, unless they have their own weights inside.
    assert len(library.functions) == (9 if bake else 8)


def test_manifest_maps_nodes_to_functions(small):
    path, library = small
    manifest = tvmconv.load(library).manifest
    found = extract(path)
    layers = [
        {"node": layer.name, "function": layer.name, "inputs": dict(layer.inputs), "output": layer.y}
        for layer in found.layers
    ]
    assert manifest["onnx"] == {
        "model": "small.onnx", "digest": found.model.digest, "shapes": {"x": list(SHAPE)}, "layout": "NCHW",
        "layers": layers,
    }  # fmt: skip
    owners = {node: entry for entry in manifest["functions"] for node in entry["onnx_nodes"]}
    assert {node: entry["descriptor"] for node, entry in owners.items()} == {
        layer.name: str(layer.spec) for layer in found.layers
    }
    assert [entry["descriptor"] for entry in manifest["functions"] if not entry["baked"]] == [
        "avgpool2d:1x24x9x6:k9x6:s9x6:NCHW:float32"
    ]


def test_baked_function_needs_no_weights_but_takes_others(small):
    path, library = small
    module = tvmconv.load(library)
    layer = extract(path).layers[-2]
    (name,) = [
        entry["name"] for entry in module.manifest["functions"] if entry["onnx_nodes"] == [layer.name]
    ]
    image = np.random.default_rng(0).standard_normal(layer.spec.input_shape).astype(np.float32)
    function = module[name]
    y = function(image)
    assert function.baked and y.any()
    assert np.array_equal(function.bind()(image), y)
    assert np.array_equal(function(image, layer.w, layer.bias), y)
    assert not np.array_equal(function(image, 2 * layer.w, layer.bias), y)
    with pytest.raises(tvmconv.SpecError, match="bias: None"):
        function(image, layer.w)


def test_function_without_baked_weights_needs_them():
    library = compile_model(small_network()).load()
    function = next(iter(library.functions.values()))
    with pytest.raises(tvmconv.SpecError, match="w: None"):
        function.bind()


def test_weights_that_the_graph_computes(x):
    net = Net(SHAPE)
    net.op("Relu", net.op("Conv", "x", net.op("Tanh", net.op("Neg", "w")), net.random(6)))
    net.inputs.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, (6, 3, 3, 3)))
    w = np.random.default_rng(0).standard_normal((6, 3, 3, 3)).astype(np.float32)
    library = compile_model(net.model(), layout="NHWC", bake_weights=True)
    (result,) = verify_model(net.model(), library.load(), {"x": x, "w": w})
    assert result.ok and not library.manifest["functions"][0]["baked"]


def test_a_wrong_kernel_is_found(small, x):
    """The library of the same model with one weight changed, under the first one's digest."""
    path, _ = small
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    weights = onnx.numpy_helper.to_array(tensor).copy()
    weights.flat[5] += 0.01
    tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))
    library = compile_model(model, bake_weights=True)
    library.manifest["onnx"]["digest"] = extract(path).model.digest
    results = verify_model(path, library.load(), x)
    assert [result.ok for result in results] == [False] + [True] * 8


def _one_weight(activation, weight=1.0):
    """A model that scales its numbers, and has an activation."""
    net = Net((1, 1, 1, 4000))
    y = net.op("Conv", "x", net.const(np.full((1, 1, 1, 1), weight)), net.const([0.0]))
    net.op("Mul", y, net.op("Sigmoid", y)) if activation == "silu" else net.op(activation, y)
    return net.model()


@pytest.mark.parametrize("activation", ["Sigmoid", "silu"])
def test_an_activation_near_zero_agrees_and_a_wrong_one_does_not(activation):
    """The range of such results is as small as the errors that onnxruntime's own functions have there."""
    model = _one_weight(activation)
    module = compile_model(model, bake_weights=True).load()
    for low, high in ((-12, -10), (-17, -15), (-200, -150), (-2, 2)):
        x = np.linspace(low, high, 4000, dtype=np.float32).reshape(1, 1, 1, -1)
        (result,) = verify_model(model, module, x)
        assert result.ok, result
    other = _one_weight(activation, 1.0003)
    module.manifest["onnx"]["digest"] = extract(other).model.digest
    (result,) = verify_model(other, module, x)
    assert not result.ok and result.tolerance < 1.1e-5


# ---- bad input ----


def test_library_of_another_model(small, x):
    _, library = small
    module = tvmconv.load(library)
    with pytest.raises(tvmconv.ArtifactError, match=r"compiled from another model \(small.onnx, SHA-256 "):
        verify_model(small_network((1, 3, 18, 12)), module, x)
    plain = tvmconv.compile("conv2d:1x5x5x4:o4:k1x1:NHWC:float32").load()
    with pytest.raises(tvmconv.ArtifactError, match="compiled from descriptors, expected from an ONNX model"):
        verify_model(small[0], plain, x)


@pytest.mark.parametrize(
    "inputs, message",
    [
        (np.zeros((1, 3, 17, 13), np.float32), "input 'x': shape (1, 3, 17, 13), expected (1, 3, 17, 12)"),
        (np.zeros(SHAPE), "input 'x': float64, expected float32"),
        ({"y": np.zeros(SHAPE, np.float32)}, "input 'x': missing"),
        ({"x": np.zeros(SHAPE, np.float32), "y": np.zeros(3)}, "input 'y': not one of"),
    ],
)
def test_inputs_that_do_not_fit(small, inputs, message):
    path, library = small
    with pytest.raises(tvmconv.SpecError, match=re.escape(message)):
        verify_model(path, tvmconv.load(library), inputs)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_models_of_other_floats(dtype):
    net = Net()
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    net.inputs = [onnx.helper.make_tensor_value_info("x", kind, (1, 4, 9, 8))]
    net.op("Conv", "x", net.random(6, 4, 3, 3, dtype=dtype), name="other")
    module = compile_model(net.model()).load()
    assert f":{dtype}" in module.manifest["functions"][0]["descriptor"]
    assert all(found.ok for found in verify(module))


# ---- command line ----


def test_command_line_from_model_to_verified_library(tmp_path, x):
    model, library, image = tmp_path / "m.onnx", tmp_path / "m.so", tmp_path / "x.npy"
    onnx.save(small_network(("n", 3, "h", 12)), model)
    np.save(image, x)

    shape = ("--shape", "x=1x3x17x12")
    shown = tool("extract", model, *shape)
    assert shown.returncode == 0 and "9 layers, 8 different; opset 17, x 1x3x17x12" in shown.stdout
    facts = json.loads(tool("extract", model, *shape, "--json", "--layout", "nhwc").stdout)
    assert facts["layers"][0]["descriptor"].startswith("conv2d:1x17x12x3:o8:k3x3:s2")
    assert facts["kinds"][-1]["kind"] == "total" and facts["kinds"][-1]["layers"] == 9
    listed = tool("extract", model, *shape, "--descriptors").stdout.split()
    assert len(listed) == 8 and all(str(parse_spec(text)) == text for text in listed)
    assert listed[0].startswith("conv2d:1x3x17x12:o8:k3x3:s2") and ":NCHW:" in listed[0]  # the model's own

    made = tool("compile", "--onnx", model, *shape, "--bake-weights", "-o", library, "--json")
    assert made.returncode == 0, made.stderr
    functions = json.loads(made.stdout)["functions"]
    assert [function["baked"] for function in functions] == [True] * 8 + [False]
    assert "with packed NULL it uses them" in library.with_suffix(".h").read_text()

    for data in ((), ("--input", image), ("--input", f"x={image}")):
        verified = tool("verify", "--onnx", model, library, *data)
        assert verified.returncode == 0, verified.stderr
        assert "9 layers against onnxruntime" in verified.stdout and "0 failed" in verified.stdout
    facts = json.loads(tool("verify", "--onnx", model, library, "--json").stdout)
    assert facts["ok"] and len(facts["layers"]) == 9
    timed = json.loads(tool("verify", "--onnx", model, library, "--time", "--json").stdout)["layers"]
    assert all(row["microseconds"] > 0 and row["onnxruntime_microseconds"] > 0 for row in timed)
    shown = tool("verify", "--onnx", model, library, "--time").stdout
    assert "in all: " in shown and "onnxruntime, by its profiler: " in shown
    strict = tool("verify", "--onnx", model, library, "--tolerance", "1e-12")
    assert strict.returncode == 1 and "FAIL" in strict.stdout
    assert tool("inspect", library).returncode == 0


def test_errors_are_one_line(tmp_path, small):
    path, library = small
    broken, other, wrong = tmp_path / "broken.onnx", tmp_path / "other.onnx", tmp_path / "wrong.npy"
    broken.write_bytes(path.read_bytes()[:200])
    onnx.save(small_network(("n", 3, 17, 12)), other)
    np.save(wrong, np.zeros((1, 3, 9, 9), np.float32))
    for command, message in [
        (("extract", broken), "not an ONNX model"),
        (("extract", tmp_path / "none.onnx"), "No such file"),
        (("extract", other), "expected as x=1x3x17x12"),
        (("extract", other, "--shape", "z=1"), "no such input"),
        (("extract", other, "--shape", "x=3"), "shape of 'x': 3, expected ?x3x17x12"),
        (("extract", other, "--shape", "n=1", "--layout", "CHWN"), "layout: 'CHWN'"),
        (("compile", "--onnx", other, "-o", tmp_path / "o.so"), "expected as x=1x3x17x12"),
        (("compile", "--onnx", path, "conv2d:1x5x5x4:o4:k1x1", "-o", tmp_path / "o.so"), "no descriptors"),
        (("compile", "conv2d:1x5x5x4:o4:k1x1", "--bake-weights", "-o", tmp_path / "o.so"), "needs --onnx"),
        (("verify", "--onnx", other, library), "compiled from another model"),
        (("verify", "--onnx", path, library, "--input", wrong), "shape (1, 3, 9, 9), expected"),
        (("verify", "--onnx", path, library, "--input", path), "not an array"),
        (("verify", library, "--input", wrong), "needs --onnx"),
    ]:
        result = tool(*command)
        assert result.returncode == 2 and not result.stdout, command
        assert message in result.stderr and result.stderr.count("\n") == 1, result.stderr


# ---- the text-direction classifier of a PyPI package, a MobileNetV3 ----


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    package = "rapidocr-onnxruntime==1.4.4"
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python",
                "--dest", folder, package]  # fmt: skip
    done = subprocess.run(download, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{package} cannot be downloaded: {done.stderr.strip().splitlines()[-1:]}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("cls_infer.onnx")]
        return Path(archive.extract(name, folder))


@pytest.fixture(scope="session")
def photo():
    """A photograph as the classifier wants it: (1, 3, 48, 192), from -1 to 1."""
    from skimage.data import astronaut

    pixels = astronaut()[40:136, 60:444].astype(np.float32) / 255
    small = pixels.reshape(48, 2, 192, 2, 3).mean((1, 3), dtype=np.float32)
    return image_in("NCHW", np.moveaxis(small, -1, 0)[None] * 2 - 1)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_classifier_agrees_with_onnxruntime(classifier, photo, layout):
    library = compile_model(
        classifier, shapes={"x": photo.shape}, layout=layout, bake_weights=layout == "NHWC"
    )
    results = verify_model(classifier, library.load(), photo)
    assert len(results) == 53 + 11  # convolutions and poolings
    assert max(result.relative for result in results) <= 1e-5


def test_classifier_compiles_within_its_time(classifier, tmp_path):
    """At most 30 s on 2 CPUs, 2 s with all kernels cached; as CPU time of a machine that has its usual speed,
    for others may use it."""
    command = [sys.executable, "-m", "tvmconv", "compile", "--onnx", classifier, "-o", tmp_path / "c.so",
               "--shape", "x=1x3x48x192", "-j", "2"]  # fmt: skip
    environment = {**os.environ, "TVMCONV_CACHE": str(tmp_path / "cache")}
    for allowed in (2 * 30, 2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert used <= allowed * slowness()
