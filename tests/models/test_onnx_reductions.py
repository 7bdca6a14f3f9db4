"""Means and maxima over an image, as torch writes them: ReduceMean and ReduceMax are global poolings."""

from __future__ import annotations

import numpy as np
import onnx_cases
import pytest
from onnx_models import Net

import tvmconv
from tvmconv.onnx import compile_model, extract, verify_model

CASES = {
    "attribute": (13, {"axes": [2, 3]}, None, 1),
    "input": (18, {}, [2, 3], 1),
    "from the end, flat": (18, {"keepdims": 0}, [-1, -2], 1),
    "flat attribute": (11, {"axes": [-1, 2], "keepdims": 0}, None, 1),
    "rows alone": (18, {}, [2], 0),
    "all dims": (18, {}, None, 0),
    "channels too": (13, {"axes": [1, 2, 3]}, None, 0),
    "the same twice": (13, {"axes": [2, 2]}, None, 0),
}


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax"])
@pytest.mark.parametrize("case", CASES)
def test_a_reduction_over_the_image_is_a_global_pooling(operator, case):
    kind = {"ReduceMean": "global_avgpool", "ReduceMax": "global_maxpool"}[operator]
    opset, attributes, axes, layers = CASES[case]
    net = Net(opset=opset)
    inputs = [] if axes is None else [net.const(axes, "int64")]
    net.op(operator, net.conv("x", 4, 6), *inputs, **attributes)
    for layout in ("NCHW", "NHWC"):
        found = extract(net.model(), layout=layout)
        assert [layer.spec.kind for layer in found.layers[1:]] == [kind] * layers and not found.skipped
        assert [item.op_type for item in found.rest] == [operator] * (1 - layers)


def test_they_agree_with_onnxruntime():
    """A gate on channels, as in MobileNetV3, and a maximum without the image's dims."""
    net = Net(opset=18)
    y = net.op("ReduceMax", "x", net.const([2, 3], "int64"), keepdims=0)
    gate = net.conv(net.op("ReduceMean", "x", net.const([-1, -2], "int64")), 4, 4, (1, 1))
    net.op("Mul", "x", gate)
    model = net.model(y, net.nodes[-1].output[0])
    module = compile_model(model, layout="NHWC").load()
    x = np.random.default_rng(0).standard_normal((1, 4, 9, 8)).astype(np.float32)
    results = verify_model(model, module, x)
    assert len(results) == 3 and all(result.ok for result in results)


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax"])
def test_onnx_cases(operator):
    """Over any axes; all but those of flags, and of nothing at all, which kernels do not have."""
    cases = onnx_cases.in_memory(operator)
    assert len(cases) >= 8
    for name, case in cases.items():
        if "bool" not in name and "empty" not in name:
            onnx_cases.run_in_memory(case)
        else:
            with pytest.raises(tvmconv.SpecError, match="node Reduce"):
                onnx_cases.run_in_memory(case)
