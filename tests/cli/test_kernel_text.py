"""The kernels of a library as loops and assembly: `inspect --tir`, `--asm`."""

import json

import numpy as np
import pytest
from cli_tools import DW, PW, build_library
from small_networks import model, node

from tvmconv.cli import main


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build_library(tmp_path_factory.mktemp("two"))[0]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Of three steps and two kernels."""
    folder = tmp_path_factory.mktemp("net")
    w = {name: np.ones((4, 4, 3, 3), np.float32) for name in ("u", "v")}
    proto = model(node("Conv", "x u", "a", pads=[1] * 4), node("Conv", "a v", "b", pads=[1] * 4),
                  node("Softmax", "b", "y", axis=1), shape=(1, 4, 8, 8), **w)  # fmt: skip
    source, library = folder / "m.onnx", folder / "net.so"
    source.write_bytes(proto.SerializeToString())
    assert main(["compile", "--onnx", str(source), "--whole", "--layout", "nhwc", "-o", str(library)]) == 0
    return library


def test_text_of_kernels(library, capsys):
    assert main(["inspect", str(library), "--tir", "--asm"]) == 0
    text = capsys.readouterr().out
    assert f"# dw: {DW}" in text and f"# pw: {PW}" in text
    assert text.count(": the machine code is that of the library") == 2
    assert text.count("@T.prim_func") == 2 and text.count("\t.type\tk_") >= 2
    assert ".cfi_" not in text and ".debug_" not in text
    assert main(["inspect", str(library), "pw", "--tir", "--json"]) == 0
    (kernel,) = json.loads(capsys.readouterr().out)["kernels"]
    assert (kernel["function"], kernel["descriptor"], kernel["same"]) == ("pw", PW, True)
    assert "asm" not in kernel and "T.prim_func" in kernel["tir"]


def test_other_code_is_told(library, tmp_path, capsys):
    """A library whose kernels differ from what compiling again gives."""
    from tvmconv.cli import kernels
    from tvmconv.formats import manifest

    found = manifest.read(library)
    function = {**found["functions"][0], "descriptor": DW.replace("relu6", "silu")}
    (one,) = kernels.kernels_of(library, found, [function])
    assert one.same is False and one.origin.endswith("not the machine code that of the library")


def test_steps_of_a_network(network, capsys):
    assert main(["inspect", str(network), "--asm", "--json"]) == 0
    kernels = json.loads(capsys.readouterr().out)["kernels"]
    assert [kernel["steps"] for kernel in kernels] == [[1, 2], [3]]
    assert all(kernel["same"] for kernel in kernels)
    assert main(["inspect", str(network), "main", "--step", "2", "--tir"]) == 0
    assert capsys.readouterr().out.startswith("# main, step 2: conv2d:")


def test_of_a_gpu_library(gpu_library, capsys):
    assert main(["inspect", str(gpu_library), "dw", "--tir"]) == 0
    text = capsys.readouterr().out
    assert "tvmconv.spread" in text and "# compiled again for cuda-sm_80,cuda-sm_90\n" in text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--asm", "--source"], "--source: expected no --tir, --asm beside it"),
        (["--asm", "--step", "1"], "--step 1: dw is a single kernel, expected a function of several steps"),
        (["--asm", "-t", "cortex-a72"], "--target cortex-a72: not in"),
        (["--step", "1"], "--step: needs --tir or --asm"),
        (["--no-user-logs"], "--log, --no-user-logs: needs --tir or --asm"),
    ],
)
def test_refusals(library, options, says, capsys):
    assert main(["inspect", str(library), *options]) == 2
    assert says in capsys.readouterr().err


def test_more_refusals(network, gpu_library, capsys):
    assert main(["inspect", str(network), "--asm", "--step", "9"]) == 2
    assert "--step 9: expected 1 to 3, the steps of main" in capsys.readouterr().err
    assert main(["inspect", str(gpu_library), "--asm"]) == 2
    assert "is for GPUs, expected --source, or --tir" in capsys.readouterr().err
