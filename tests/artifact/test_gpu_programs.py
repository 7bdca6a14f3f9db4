"""Functions of several steps on a GPU, by a fake driver."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import emulation
import numpy as np
import pytest
from guard import in_child

import tvmconv
from tvmconv.compiler.artifact.library import Library
from tvmconv.formats.program import Place, program, step


def test_launches(tmp_path: Path) -> None:
    made = tvmconv.compile({"pw": "conv2d:2x6x5x16:o16:k1x1:NHWC:float32"}, "cuda-sm_90")
    made.export(tmp_path / "pw.so")
    kernel = made.functions["pw"]
    x, packed, y = (Place("argument", i) for i in range(3))
    between = Place("workspace", 0, 256)
    param = kernel.inputs[0]
    blob = replace(param, name="weights", shape=(kernel.packed_bytes // 4,), layout="", kernel_shape=None)
    twice = program("twice", [param, blob], [kernel.output],
                    [step(kernel, [x], between, packed), step(kernel, [between], y, packed)],
                    workspace=256 + kernel.output.nbytes)  # fmt: skip
    library = Library({"main": twice}, made.machine, prefix="net")
    assert "NET_MAIN_WORKSPACE_BYTES 4096" in library.header()
    in_child(check_launches, str(library.export(tmp_path / "gpu.so")), str(tmp_path / "pw.so"))
    with pytest.raises(tvmconv.SpecError, match="function net_main: constants for cuda-sm_90, expected none"):
        Library({"main": replace(twice, constants=(b"0" * 64,))}, made.machine, prefix="net").source()
    with pytest.raises(tvmconv.SpecError, match="x at byte 8 of workspace, expected a multiple of 16"):
        replace(twice, steps=(step(kernel, [between._replace(offset=8)], y, packed),))


def check_launches(library: str, single: str) -> None:
    emulation.fake_driver()
    emulation.emulate(Path(single))  # the same kernel
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 6, 5, 16), np.float32), rng.standard_normal((1, 1, 16, 16), np.float32)
    bound = tvmconv.load(single)["pw"].bind(tvmconv.to_gpu(w))
    given, y = tvmconv.to_gpu(x), tvmconv.to_gpu(np.zeros_like(x))
    workspace = tvmconv.to_gpu(np.zeros(4096, np.uint8))
    raw = ctypes.CDLL(library)
    raw.net_last_error.restype = ctypes.c_char_p
    inputs = (ctypes.c_void_p * 2)(given._pointer, bound._packed._pointer)
    outputs = (ctypes.c_void_p * 1)(y._pointer)
    before = emulation.value("fake_launches")
    assert raw.net_main(inputs, outputs, ctypes.c_void_p(workspace._pointer), None) == 0, raw.net_last_error()
    assert emulation.value("fake_launches") == before + 2
    np.testing.assert_allclose(y.numpy(), x @ w[0, 0] @ w[0, 0], rtol=1e-4, atol=1e-4)
    askew = (ctypes.c_void_p * 1)(y._pointer + 4)
    assert raw.net_main(inputs, askew, None, None) == 2  # TVMCONV_ERR_ALIGN, to 16 bytes
    assert raw.net_main(inputs, outputs, None, None) == 1
    assert raw.net_last_error() == b"net_main: workspace is NULL"
    assert raw.net_main(inputs, None, None, None) == 1 and raw.net_last_error() == b"net_main: out is NULL"
