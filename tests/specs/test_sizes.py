"""Sizes up to the limit: what is too large is refused in one line, before anything runs, and what is just
small enough is computed right."""

import numpy as np
import pytest
from libraries import assert_one_line

import tvmconv
from tvmconv.base.errors import SpecError
from tvmconv.compiler.codegen.kernel import build_kernel
from tvmconv.schedules.machines import resolve
from tvmconv.specs.checks import MOST_ELEMENTS, most_workspace
from tvmconv.specs.kinds import parse_spec

TOO_MANY = f"expected at most {MOST_ELEMENTS} (32-bit indices)"
REFUSED = {
    "maxpool1d:1x2147483640x1:k3:s1:p1:NHWC:int8": TOO_MANY,
    "conv1d:1x2147483647x1:o1:k1:NHWC:int8": TOO_MANY,
    "conv1d:1x1x2147483645:o1:k3:p1:NCHW:int8": TOO_MANY,
    f"conv1d:1x1x{MOST_ELEMENTS - 1}:o1:k3:p1:NCHW:int8": TOO_MANY,
    "conv2d:1x1x1x65536:o32767:k1x1:NHWC:float32": TOO_MANY,
    "conv2d:1x1x1x65536:o32751:k1x1:NHWC:float32": TOO_MANY,  # in whole blocks of output channels
    "conv2d:1x2120x2120x1:o16:k31x31:p15:NHWC:float32:im2col": TOO_MANY,
    "tconv2d:1x140000x1x1:o1:k64x64:NCHW:float32": TOO_MANY,
    "deform2d:1x1x46000x46000:o1:k3x3:p1:NCHW:float32": TOO_MANY,
    "conv2d:1x1x1x1:o1:k1x1:s20000:p20000:NCHW:float32": "workspace: 6400",
    "conv2d:1x200x200x32:o16:k31x31:p15:NHWC:float32:im2col": "workspace: 49",
}
# Their columns, by im2col, would have more elements than indices reach, or be far larger than all arrays.
OTHERWISE = [
    "conv2d:1x8x107000x5:o16:k201x5:p100x2:NCHW:float32",
    "conv2d:1x8x60000x5:o16:k201x5:p100x2:NCHW:float32",
    "conv2d:1x64x26600x5:o16:k101x5:p50x2:NCHW:float32",
    "conv2d:1024x256x9x9:o32:k11x11:p5:NCHW:float32",
    "conv2d:54x64x10000x5:o16:k5x5:p2:NCHW:float32",
    "conv2d:1x8x12000x5:o16:k201x5:p100x2:NCHW:float32",
    "conv2d:1x8x107000x5:o16:k201x5:p100x2:NCHW:float32:im2col",  # in strips
    "conv2d:54x64x10000x5:o16:k5x5:p2:NCHW:float32:im2col",
]
LARGEST = [
    f"maxpool1d:1x{MOST_ELEMENTS - 4}x1:k3:s1:p1:NHWC:int8",
    f"conv1d:1x{MOST_ELEMENTS}x1:o1:k1:NHWC:int8",
    f"conv1d:1x1x{MOST_ELEMENTS - 2}:o1:k3:p1:NCHW:float32",
]


@pytest.mark.parametrize("text", REFUSED)
def test_too_large(text: str) -> None:
    with pytest.raises(SpecError) as error:
        build_kernel(parse_spec(text), resolve("x86-64-v3"))
    assert_one_line(error)
    assert REFUSED[text] in str(error.value)


@pytest.mark.parametrize("text", OTHERWISE + LARGEST)
def test_compiled_within_the_bound(text: str) -> None:
    spec = parse_spec(text)
    kernel = build_kernel(spec, resolve("x86-64-v3"))
    assert sum(kernel.workspace) <= most_workspace(spec.bytes)


def test_just_small_enough() -> None:
    """Untouched pages of x take no memory: two gigabytes are addressed, and hardly any are there."""
    size, step = MOST_ELEMENTS - 4, 4096
    x = np.zeros((1, size, 1), np.int8)
    last = (size - 1) // step * step
    at = np.array([0, 1, 5000, size // 2, last, size - 1])
    x[0, at, 0] = [3, 5, 7, 11, 13, 17]
    expected = np.zeros(-(-size // step), np.int8)
    np.maximum.at(expected, at[at % step < 2] // step, x[0, at[at % step < 2], 0])
    y = tvmconv.max_pool(x, 2, stride=step, ceil_mode=True, layout="NHWC")
    np.testing.assert_array_equal(y.reshape(-1), expected[: y.size])
    chosen = x[0, ::step, 0].astype(np.int32)
    spec = tvmconv.ConvSpec(x.shape, 1, 1, stride=step, layout="NHWC", dtype="int8", out_dtype="int32")
    f = tvmconv.compile({"f": spec}).load()["f"]
    none = np.zeros(1, np.int8)
    y = f(x, np.full(spec.weight_shape, 2, np.int8), None, none, none)
    np.testing.assert_array_equal(y.reshape(-1), 2 * chosen)
    assert chosen[-1] == 13
