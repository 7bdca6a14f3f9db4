"""Signatures: the order of a call, and that kernels and manifests have those very arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import any_specs

import tvmconv
from tvmconv.base.dtypes import FLOATS
from tvmconv.base.errors import SpecError
from tvmconv.compiler.codegen.kernel import scheduled
from tvmconv.formats import statement
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.program import Variant
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import parse_spec
from tvmconv.specs.operand import Operand

CALLS = {
    "conv2d:2x5x6x4:o8:k3x3:NHWC:float16:bias:residual:prelu": [
        "x input 2x5x6x4 float16 NHWC", "w weight 3x3x4x8 float16 HWIO", "bias weight 8 float16 O",
        "residual input 2x3x4x8 float16 NHWC", "slopes weight 8 float16 O", "y output 2x3x4x8 float16 NHWC",
    ],
    "conv1d:1x4x9:o8:k3:NCHW:float32": [
        "x input 1x4x9 float32 NCHW", "w weight 8x4x3 float32 OIHW", "y output 1x8x7 float32 NCHW",
    ],
    "tconv2d:1x4x5x6:o8:k3x3:g2:NCHW:float32:bias": [
        "x input 1x4x5x6 float32 NCHW", "w weight 4x4x3x3 float32 IOHW", "bias weight 8 float32 O",
        "y output 1x8x7x8 float32 NCHW",
    ],
    "conv2d:1x5x6x4:o8:k1x1:NHWC:uint8/int8:bias:residual": [
        "x input 1x5x6x4 uint8 NHWC", "w weight 1x1x4x8 int8 HWIO", "bias weight 8 int32 O",
        "residual input 1x5x6x8 int8 NHWC", "x_scale weight 1 float32 ", "x_zero_point weight 1 uint8 ",
        "w_scale weight 8 float32 O", "w_zero_point weight 8 int8 O", "r_scale weight 1 float32 ",
        "r_zero_point weight 1 int8 ", "y_scale weight 1 float32 ", "y_zero_point weight 1 int8 ",
        "y output 1x5x6x8 int8 NHWC",
    ],
    "conv2d:1x4x5x6:o8:k1x1:NCHW:int8/int32:wuint8": [
        "x input 1x4x5x6 int8 NCHW", "w weight 8x4x1x1 uint8 OIHW", "x_zero_point weight 1 int8 ",
        "w_zero_point weight 8 uint8 O", "y output 1x8x5x6 int32 NCHW",
    ],
    "deform2d:1x4x5x6:o8:k3x3:og2:mask:bias:NCHW:float32": [
        "x input 1x4x5x6 float32 NCHW", "w weight 8x4x3x3 float32 OIHW", "bias weight 8 float32 O",
        "offset input 1x36x3x4 float32 ", "mask input 1x18x3x4 float32 ", "y output 1x8x3x4 float32 NCHW",
    ],
    "block2d:1x5x6x4:e8:k3x3:o7:NHWC:float16:bias:residual:expand=relu": [
        "x input 1x5x6x4 float16 NHWC", "w weight 3x3x1x8 float16 HWIO", "bias weight 8 float16 O",
        "residual input 1x3x4x7 float16 NHWC", "expand_w weight 1x1x4x8 float16 HWIO",
        "expand_bias weight 8 float16 O", "project_w weight 1x1x8x7 float16 HWIO",
        "project_bias weight 7 float16 O", "y output 1x3x4x7 float16 NHWC",
    ],
    "avgpool3d:1x4x5x6x7:k2x2x2:NDHWC:float64": [
        "x input 1x4x5x6x7 float64 NHWC", "y output 1x2x2x3x7 float64 NHWC",
    ],
}  # fmt: skip


def shown(operand):
    shape = "x".join(map(str, operand.shape))
    return f"{operand.name} {operand.role} {shape} {operand.dtype} {operand.layout}"


@pytest.mark.parametrize("text", CALLS)
def test_order_of_a_call(text):
    spec = parse_spec(text)
    assert [shown(operand) for operand in spec.signature()] == CALLS[text]
    if spec.dtype in FLOATS:
        assert sum(operand.nbytes for operand in spec.signature()) == spec.bytes


def test_compiled_functions_have_their_specs_signatures():
    named = {f"f{i}": parse_spec(text) for i, text in enumerate(CALLS)}
    module = tvmconv.compile(named).load()
    for name, spec in named.items():
        found = [Operand(*argument) for argument in module[name].arguments]
        assert tuple(found) == spec.signature()


@settings(max_examples=40)
@given(any_specs())
def test_kernels_take_their_specs_arrays(spec):
    """The signature against what the compiled code itself declares, and against the manifest."""
    machine = resolve("x86-64-v3")
    made = scheduled(spec, machine)
    arrays = (*made.inputs, *made.packed, made.output)
    given_, packed = [*spec.inputs, *made.packed], [*spec.weights, *made.packed]
    functions = [(made.kernel, [*given_, spec.output])]
    if made.prepack is not None:
        functions.append((made.prepack, packed))
    for function, wanted in functions:
        for buffer, operand in zip(function.params, wanted, strict=True):
            assert str(buffer.dtype) == operand.dtype
            assert np.prod([int(size) for size in buffer.shape], dtype=int) == operand.elements
    kernel = Kernel("k", str(spec), b"", made.inputs, made.weights, made.packed, made.output,
                    order=tuple(operand.name for operand in spec.signature()))  # fmt: skip
    library = statement.build([Variant(machine, {"f": kernel})], "tvmconv", {"tvmconv": "0", "tvm": "0"})
    (function,) = library["functions"]
    found = [Operand(**{**facts, "shape": tuple(facts["shape"])}) for facts in function["arguments"]]
    assert tuple(found) == spec.signature()
    assert len({array.name for array in arrays}) == len(arrays)


def test_an_operand_of_an_unknown_type():
    with pytest.raises(SpecError, match="dtype of x: 'float8', expected one of float64, "):
        Operand("x", (1,), "float8")
    assert Operand("x", (2, 3), "float16").nbytes == 12
