"""Libraries for the tests of artifact and runtime: a few small kernels, compiled once a session."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvmconv
from tvmconv.compiler.artifact.library import Library
from tvmconv.schedules.machines import Machine, resolve
from tvmconv.specs.reference.floats import conv_reference

Exported = tuple[Path, str | None]  # a library, and what it was linked with
ZIG = f"{sys.executable} -m ziglang cc"

SPECS = {
    "dw": tvmconv.ConvSpec.parse("conv2d:1x9x11x24:o24:k3x3:p1:g24:NHWC:float32:bias:relu6"),
    "pw": tvmconv.ConvSpec.parse("conv2d:2x6x5x16:o32:k1x1:NHWC:float32"),
    "nchw": tvmconv.ConvSpec.parse("conv2d:1x8x13x13:o8:k3x3:s2:p1:NCHW:float32:bias"),
    "none": tvmconv.ConvSpec.parse("conv2d:0x6x5x16:o32:k1x1:NHWC:float32:bias"),
    "large": tvmconv.ConvSpec.parse("conv2d:1x56x56x64:o64:k3x3:p1:g64:NHWC:float32:bias"),
}

CUDA_SPECS = {
    "dw": "conv2d:1x9x11x24:o24:k3x3:p1:g24:NHWC:float32:bias:relu6",
    "pw": "conv2d:2x6x5x16:o32:k1x1:NHWC:float32:residual",
    "mp": "maxpool2d:1x15x13x16:k3x3:s2:p1:NHWC:float32",
    "q": "conv2d:2x6x5x16:o32:k1x1:NHWC:int8:bias",
    "none": "conv2d:0x6x5x16:o32:k1x1:NHWC:float32",
}


@lru_cache(maxsize=1)
def library() -> Library:
    """A library of SPECS for this machine."""
    return tvmconv.compile(SPECS)


@lru_cache(maxsize=1)
def module() -> tvmconv.Module:
    """The same, loaded."""
    return library().load()


def variant(*, cc: str | None = None, prefix: str = "tvmconv", names: Any = None, **machine: Any) -> Library:
    """The same kernels, or those of ``names``, linked otherwise; ``machine``: fields of Machine to change."""
    kernels = library().functions
    chosen = {name: kernels[name] for name in names or kernels}
    return Library(chosen, dataclasses.replace(resolve("native"), **machine), prefix=prefix, cc=cc)


def compilers() -> list[Any]:
    """C compilers to try, as test parameters: the system's and zig."""
    return [
        pytest.param(None, id="cc", marks=pytest.mark.skipif(not shutil.which("cc"), reason="no cc")),
        pytest.param(
            ZIG, id="zig",
            marks=pytest.mark.skipif(find_spec("ziglang") is None, reason="no ziglang"),
        ),
    ]  # fmt: skip


@lru_cache(maxsize=16)
def case(name: str, seed: int = 0) -> tuple[Any, ...]:
    """(x, w, bias or None, expected float64) for one of SPECS."""
    spec = SPECS[name]
    rng = np.random.default_rng(seed)
    x, w, bias = (
        rng.standard_normal(shape, np.float32)
        for shape in (spec.input_shape, spec.weight_shape, spec.bias_shape)
    )
    bias = bias if spec.bias else None
    for array in (x, w, bias):
        if array is not None:
            array.flags.writeable = False  # shared by tests
    return x, w, bias, conv_reference(spec, x, w, bias)


def assert_right(y: Any, expected: np.ndarray[Any, Any]) -> None:
    """``y`` is a float32 array equal to the reference but for rounding."""
    y = np.asarray(y)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def machine() -> Machine:
    """The machine that the libraries are for."""
    return resolve("native")


def run(*command: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    words = [str(word) for part in command for word in (part if isinstance(part, list) else [part])]
    return subprocess.run(words, capture_output=True, text=True, timeout=900, **options)


def strided(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same values, every second element of another array."""
    return np.repeat(array, 2, axis=-1)[..., ::2]


def at_offset(array: np.ndarray[Any, Any], offset: int) -> np.ndarray[Any, Any]:
    """The same values, this many bytes after a multiple of 64."""
    memory = np.zeros(array.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def assert_one_line(error: pytest.ExceptionInfo[BaseException]) -> None:
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
