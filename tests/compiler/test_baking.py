"""Weights packed while compiling, to be held in a library, are as the library's own prepack makes them."""

from __future__ import annotations

import ctypes
import re

import numpy as np
import pytest

import tvmconv
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.baking import packed_weights
from tvmconv.frontends.verify import operands, random_arrays
from tvmconv.specs.kinds import parse_spec

DESCRIPTORS = (
    "conv2d:1x9x9x20:o37:k3x3:NHWC:float32:bias",
    "conv2d:1x9x9x24:o24:k3x3:g24:NHWC:float32:bias",
    "conv2d:1x9x9x20:o60:k3x2:g20:NHWC:float32",
    "conv2d:1x9x9x24:o36:k3x3:g3:NHWC:float32:bias",
    "conv2d:1x20x9x9:o37:k3x3:NCHW:float32:bias",
    "conv2d:1x24x9x9:o24:k3x3:g24:NCHW:float32",
    "conv2d:1x24x9x9:o36:k1x3:g3:NCHW:float32:bias",
    "conv2d:1x40x9x9:o33:k1x1:NCHW:float32",
    "conv1d:1x30x5:o19:k3:NHWC:float32:bias",
    "tconv2d:1x5x5x20:o12:k3x3:s2:g2:NHWC:float32:bias",
    "tconv2d:1x20x5x5:o12:k3x3:s2:NCHW:float32",
    "conv3d:1x6x5x6x7:o9:k3x2x1:NCHW:float32:bias",
    "conv2d:1x9x9x24:o36:k3x3:g3:NHWC:float32:bias:prelu:sh6",
    "conv2d:1x20x9x9:o36:k1x1:NCHW:float32:bias:sh4",
    "tconv2d:1x5x5x20:o12:k3x3:s2:g2:NHWC:float32:bias:sh4",
    "conv2d:1x9x9x21:o37:k3x3:p1:NHWC:uint8/int8:bias:silu",
    "conv2d:1x21x9x9:o37:k3x2:NCHW:int8/int32:wuint8",
    "conv2d:1x9x9x24:o24:k3x3:g24:NHWC:uint8:bias",
    "conv2d:1x9x9x24:o36:k1x1:g3:NHWC:int8:bias:relu6:sh6",
    "deform2d:1x20x9x9:o37:k3x3:mask:bias",
    "deform2d:1x12x9x9:o12:k3x3:g6:float32",
    "block2d:1x9x9x20:e37:k3x3:o33:NHWC:float32:bias",
    "block2d:1x9x9x24:k5x3:o9:NHWC:float16",
)


@pytest.fixture(scope="module")
def library():
    return tvmconv.compile({f"f{i}": descriptor for i, descriptor in enumerate(DESCRIPTORS)})


def arrays(kernel, seed=0):
    return random_arrays(parse_spec(kernel.descriptor), roles(kernel), "normal", seed)


def roles(kernel):
    return [{**vars(param), "role": "weight"} for param in kernel.weights]


@pytest.mark.parametrize("number", range(len(DESCRIPTORS)), ids=DESCRIPTORS)
def test_same_as_prepack(library, number):
    name = f"f{number}"
    kernel = library.functions[name]
    weights = arrays(kernel)
    module = library.load()  # whose path is there as long as it is
    native = ctypes.CDLL(str(module.path))
    blob = np.zeros(kernel.packed_bytes + 64, np.uint8)
    blob = blob[-blob.ctypes.data % 64 :][: kernel.packed_bytes]
    given, _ = operands(roles(kernel), weights)
    pointers = [None if a is None else ctypes.c_void_p(a.ctypes.data) for a in given]
    assert native[f"{name}_prepack"](*pointers, ctypes.c_void_p(blob.ctypes.data)) == 0
    made = packed_weights(kernel, weights)
    if kernel.schedule.get("combines"):  # sums of weights round
        made, blob = np.frombuffer(made, np.float32), blob.view(np.float32)
        np.testing.assert_allclose(made, blob, rtol=1e-6, atol=1e-6)
    else:
        assert made == blob.tobytes()


def test_equal_weights_are_held_once(library, tmp_path):
    kernel = library.functions["f0"]
    blobs = [packed_weights(kernel, arrays(kernel, seed)) for seed in (0, 0, 1)]
    baked = dict(zip(("a", "b", "c"), blobs, strict=True))
    made = Library(dict.fromkeys(baked, kernel), library.machine, baked=baked)
    file = made.export(tmp_path / "baked.so")
    data = file.read_bytes()
    assert [data.count(blob) for blob in blobs] == [1, 1, 1]
    assert data.find(blobs[0]) % 64 == data.find(blobs[2]) % 64 == 0
    x = np.ones(kernel.inputs[0].shape, np.float32)
    module = tvmconv.load(file)
    assert np.array_equal(module["a"](x), module["b"](x))
    assert not np.array_equal(module["a"](x), module["c"](x))
    header = file.with_suffix(".h").read_text()
    assert len(re.findall(r"with packed NULL it uses them", header)) == 3


def test_null_where_nothing_is_baked_is_an_error(library):
    module = library.load()  # whose path is there as long as it is
    native = ctypes.CDLL(str(module.path))
    x = np.ones(library.functions["f0"].inputs[0].shape, np.float32)
    assert native.f0(ctypes.c_void_p(x.ctypes.data), None, ctypes.c_void_p(x.ctypes.data)) != 0


def test_what_does_not_fit(library):
    kernel = library.functions["f0"]
    weights = arrays(kernel)
    for wrong, message in (
        ({"w": weights["w"]}, "bias: None"),
        ({**weights, "w": weights["w"][:2]}, "w: float32 (2, 3, 20, 37), expected float32 (3, 3, 20, 37)"),
        ({**weights, "w": weights["w"].astype("f8")}, "w: float64"),
    ):
        with pytest.raises(tvmconv.SpecError, match=re.escape(message)):
            packed_weights(kernel, wrong)
    with pytest.raises(tvmconv.SpecError, match=r"baked\['f'\]: 3 bytes"):
        Library({"f": kernel}, library.machine, baked={"f": b"abc"})
