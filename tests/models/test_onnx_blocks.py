"""Layers in a row as blocks, where --blocks always asks for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_tools import tool
from small_networks import model, node, weights

import tvmconv
from tvmconv.base.errors import SpecError
from tvmconv.onnx.recognising.extraction import extract
from tvmconv.onnx.using.agreement import verify_model

SHAPE = (1, 8, 9, 11)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inverted residual, then a depthwise and a pointwise layer whose middle is read twice."""
    held = weights(1, wa=(20, 8, 1, 1), ba=(20,), wb=(20, 1, 3, 3), wc=(8, 20, 1, 1), wd=(8, 1, 3, 3),
                   we=(5, 8, 1, 1))  # fmt: skip
    nodes = [
        node("Conv", "x wa ba", "a0"), node("Relu", "a0", "a"),
        node("Conv", "a wb", "b0", group=20, pads=[1] * 4), node("Relu", "b0", "b"),
        node("Conv", "b wc", "c0"), node("Add", "c0 x", "c"),
        node("Conv", "c wd", "d", group=8), node("Conv", "d we", "y"), node("Sigmoid", "d", "z"),
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("blocks") / "m.onnx"
    onnx.save(model(*nodes, shape=SHAPE, outputs=("y", "z"), **held), path)
    return path


def test_layers_become_blocks(path: Path) -> None:
    kinds = [layer.spec.kind for layer in extract(path, layout="NHWC").layers]
    assert kinds == ["pointwise", "depthwise", "pointwise", "depthwise", "pointwise"]
    block, *others = extract(path, layout="NHWC", blocks=True).layers
    assert str(block.spec) == ("block2d:1x9x11x8:e20:k3x3:p1:o8:NHWC:float32:bias:residual:expand=relu:"
                               "depthwise=relu")  # fmt: skip
    assert block.inputs == {"x": "x", "residual": "x"} and block.y == "c"
    assert block.nodes[0] == "Conv_a0" and block.name == "Conv_c0"
    assert [layer.spec.kind for layer in others] == ["depthwise", "pointwise"]
    with pytest.raises(SpecError, match="layout: 'auto', expected 'NHWC' with blocks"):
        extract(path, blocks=True)


@pytest.mark.parametrize("bake", [False, True])
def test_libraries_of_blocks_agree_with_onnxruntime(path: Path, tmp_path: Path, bake: bool) -> None:
    library = tmp_path / "m.so"
    more = ["--bake-weights"] if bake else []
    tool("compile", "--onnx", path, "--layout", "NHWC", "--blocks", "always", "-o", library, *more)
    module = tvmconv.load(library)
    assert any(entry["descriptor"].startswith("block2d:") for entry in module.manifest["functions"])
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    found = verify_model(str(path), module, x)
    assert len(found) == 3 and all(one.ok for one in found), found
