"""The table of activations: every row is computed, recognised and checked; one that lacks something fails."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

import tvmconv
from tvmconv.compiler.ops import epilogue
from tvmconv.onnx import extract
from tvmconv.specs.activations import ACTIVATIONS, activate, canonical_activation, clamp_of, parse_activation
from tvmconv.specs.conv import ConvSpec

PARAMETERS = {"clip": (-0.5, 0.75), "leaky_relu": (0.2,), "hard_sigmoid": (0.3, 0.4)}
TORCH = {
    "relu": functional.relu, "relu6": functional.relu6, "clip": functional.hardtanh,
    "leaky_relu": functional.leaky_relu, "sigmoid": torch.sigmoid,
    "hard_sigmoid": lambda x, alpha, beta: torch.clamp(alpha * x + beta, 0, 1),
    "hard_swish": functional.hardswish, "silu": functional.silu, "tanh": torch.tanh,
    "gelu": functional.gelu, "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "mish": functional.mish, "prelu": functional.prelu,
}  # fmt: skip
ROWS = [name for name, row in ACTIVATIONS.items() if not row.slopes]
IN_MODELS = [name for name in ROWS if ACTIVATIONS[name].onnx or ACTIVATIONS[name].spelled]
X = np.linspace(-9, 9, 1 << 10)


def text_of(name):
    return canonical_activation((name, *PARAMETERS.get(name, ())))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_row_is_whole(name):
    """What follows from what a row says of itself holds for the function."""
    row = ACTIVATIONS[name]
    assert name in TORCH  # a second opinion
    assert row.slopes == (row.forward is None)
    if row.slopes:
        return
    assert name in epilogue._FORMS
    y, (_, params) = activate(text_of(name), X), parse_activation(text_of(name))
    assert np.isnan(activate(text_of(name), np.array([np.nan]))).all()
    if row.bounds is not None:
        np.testing.assert_array_equal(y, np.clip(X, *clamp_of(text_of(name))))
    homogeneous = all(np.allclose(row.forward(c * X, *params), c * y, atol=1e-12) for c in (1e-3, 7.0))
    assert row.homogeneous == homogeneous
    values = np.arange(-8.0, 9)  # exact: the parameters apart, every result of integers is one
    if row.exact and name != "clip":
        assert (row.forward(values) == np.rint(row.forward(values))).all()
    assert not row.attributes or len(row.attributes) == len(row.defaults)


@pytest.mark.parametrize("name", ROWS)
def test_second_opinion(name):
    _, params = parse_activation(text_of(name))
    expected = TORCH[name](torch.from_numpy(X), *params).numpy()
    np.testing.assert_allclose(activate(text_of(name), X), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_kernels(dtype):
    """Of every float type."""
    x = torch.from_numpy(X).to(getattr(torch, dtype)).reshape(1, 1, -1)
    w = torch.ones((1, 1, 1), dtype=x.dtype)
    specs = {f"f_{n}": ConvSpec(x.shape, 1, 1, dtype=dtype, activation=text_of(n)) for n in ROWS}
    module = tvmconv.compile(specs).load()
    error = {"float32": 3e-7, "float64": 1e-14, "float16": 1e-3, "bfloat16": 8e-3}[dtype]
    for name, spec in specs.items():
        y, expected = module[name](x, w).double().numpy(), activate(spec.activation, x.double().numpy())
        np.testing.assert_allclose(y, expected, rtol=error, atol=error, err_msg=name)


def model_of(nodes, constants, opset):
    """A convolution, then ``nodes`` from "c" to "y"."""
    w = numpy_helper.from_array(np.ones((3, 2, 1, 1), np.float32), "w")
    held = [numpy_helper.from_array(np.float32(value), key) for key, value in constants.items()]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in
            (("x", (1, 2, 9, 9)), ("y", (1, 3, 9, 9)))]  # fmt: skip
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["c"]), *nodes], "g", ends[:1], ends[1:],
                              [w, *held])  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def spellings(row, params):
    """(nodes, constants) of every way in which the row says that ONNX has it."""
    if row.onnx:
        options = dict(zip(row.attributes, params, strict=False))
        constants = {} if options else {f"p{i}": value for i, value in enumerate(params)}
        yield [helper.make_node(row.onnx, ["c", *constants], ["y"], **options)], constants
    if row.spelled:
        nodes, constants = [], {}
        for i, (kind, *operands) in enumerate(row.spelled):
            names = []
            for operand in operands:
                if isinstance(operand, float):
                    names.append(f"p{len(constants)}")
                    constants[names[-1]] = operand
                else:
                    names.append("c" if operand == "x" else f"n{operand}")
            nodes.append(helper.make_node(kind, names, [f"n{i}"]))
        nodes[-1].output[0] = "y"
        yield nodes, constants


@pytest.mark.parametrize("name", IN_MODELS)
def test_models(name):
    """onnxruntime computes the same by every spelling, and every one is recognised."""
    _, params = parse_activation(text_of(name))
    x = np.random.default_rng(0).standard_normal((1, 2, 9, 9)).astype(np.float32) * 3
    for nodes, constants in spellings(ACTIVATIONS[name], params):
        model = model_of(nodes, constants, 18)
        (y,) = onnxruntime.InferenceSession(model).run(None, {"x": x})
        sums = np.repeat(x.sum(axis=1, keepdims=True, dtype=np.float64), 3, axis=1)
        np.testing.assert_allclose(y, activate(text_of(name), sums), rtol=1e-5, atol=1e-5)
        (layer,) = extract(model, layout="NCHW").layers
        assert layer.spec == ConvSpec((1, 2, 9, 9), 3, 1, activation=text_of(name))


def test_products_are_recognised_in_either_order():
    spelled = [name for name in ROWS if ACTIVATIONS[name].spelled]
    assert len(spelled) >= 3
    for name in spelled:
        nodes, constants = list(spellings(ACTIVATIONS[name], ()))[-1]
        for node in nodes:
            if node.op_type == "Mul":
                node.input[:] = node.input[::-1]
        (layer,) = extract(model_of(nodes, constants, 18), layout="NCHW").layers
        assert layer.spec.activation == name


def test_integers_keep_the_curves():
    """A result of 8 bits is the curve of the real number, rounded to the nearest step."""
    curves = {f"f_{n}": text_of(n) for n in ROWS if clamp_of(text_of(n)) is None}
    spec = ConvSpec((1, 1, 256), 1, 1, dtype="int8")
    module = tvmconv.compile({name: replace(spec, activation=text) for name, text in curves.items()}).load()
    x, one = np.arange(-128, 128, dtype=np.int8).reshape(1, 1, -1), np.ones((1, 1, 1), np.int8)
    for name, text in curves.items():
        y = module[name](x, one, None, 1 / 16, 0, 1.0, 0, 1 / 16, 0)
        expected = np.clip(activate(text, x / 16) * 16, -128, 127)
        assert np.abs(y - expected).max() <= 0.5001, name
