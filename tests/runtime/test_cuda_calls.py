"""Calls of CUDA libraries: how kernels are launched, and every error on the way, with a fake driver
(cuda/fake_driver.c)."""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path

import emulation
import numpy as np
from cli_tools import tool
from guard import in_child
from libraries import CUDA_SPECS

import tvmconv
from tvmconv.runtime import dlpack


class Launch(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3),
                ("stream", ctypes.c_void_p), ("device", ctypes.c_int))  # fmt: skip


def launches() -> list[Launch]:
    table = (Launch * 4096).in_dll(emulation.fake_driver(), "fake_launch")
    return list(table[: emulation.value("fake_launches")])


def test_launches_and_errors(gpu_library: Path) -> None:
    in_child(check_launches, str(gpu_library))
    in_child(check_errors, str(gpu_library))
    in_child(check_devices, str(gpu_library))


def arrays(name: str, device: int = 0, seed: int = 0) -> tuple[list, list]:
    """Weights for ``bind`` and inputs of a call, on a GPU."""
    rng, spec = np.random.default_rng(seed), tvmconv.ConvSpec.parse(CUDA_SPECS[name])
    shapes = (spec.weight_shape, spec.bias_shape, spec.input_shape)
    w, b, x = (rng.standard_normal(shape, np.float32) for shape in shapes)
    weights = [w, b] if spec.bias else [w]
    residual = [np.ones(spec.output_shape, np.float32)] if spec.residual else []
    return [tvmconv.to_gpu(a, device) for a in weights], [tvmconv.to_gpu(a, device) for a in (x, *residual)]


def check_launches(library: str) -> None:
    emulation.fake_driver()
    emulation.emulate(Path(library))
    module = tvmconv.load(library)
    kernels = tvmconv.compile(CUDA_SPECS, "cuda-sm_80,cuda-sm_90").functions  # from the cache
    (w, bias), (x,) = arrays("dw")
    bound = module["dw"].bind(w, bias, stream=17)
    y = bound(x, stream=42)
    device = kernels["dw"].device
    assert [(d.name.decode(), tuple(d.grid), tuple(d.block), d.stream) for d in launches()] == [
        *((p.kernel, p.grid, p.block, 17) for p in device.prepack),
        *((p.kernel, p.grid, p.block, 42) for p in device.run),
    ]
    np.testing.assert_array_equal(bound(x).numpy(), y.numpy())
    out = tvmconv.to_gpu(np.zeros(y.shape, np.float32))
    assert bound(x, out=out) is out
    np.testing.assert_array_equal(out.numpy(), y.numpy())
    np.testing.assert_array_equal(module["dw"](x, w, bias).numpy(), y.numpy())
    assert tvmconv.conv(x, w, bias, padding=1, groups=24, layout="NHWC", activation="relu6",
                        target="cuda-sm_80,cuda-sm_90").shape == y.shape  # fmt: skip
    # An empty batch launches nothing; arrays of another library arrive by DLPack, on their stream.
    before = emulation.value("fake_launches")
    (w,), (x,) = arrays("none")
    assert module["none"].bind(w)(x).shape == (0, 6, 5, 32)
    assert emulation.value("fake_launches") == before + 1  # its weights were packed
    seen = []

    class Foreign:
        def __init__(self, array):
            self.array = array

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

        def __dlpack__(self, *, stream):  # of the time before DLPack had versions
            seen.append(stream)
            return self.array.__dlpack__(stream=stream)

    (w,), (x, r) = arrays("pw")
    expected = module["pw"].bind(w)(x, r).numpy()
    found = module["pw"].bind(Foreign(w), stream=5)(Foreign(x), Foreign(r), stream=7)
    assert seen == [5, 7, 7]
    np.testing.assert_array_equal(found.numpy(), expected)
    del w, bias, x, r, y, out, bound, found
    tvmconv.to_gpu(np.zeros(1)).__dlpack__()  # a capsule that nobody takes goes with the next one made
    assert emulation.value("fake_allocations") > 0
    tvmconv.to_gpu(np.zeros(1)).__dlpack__()
    dlpack._sweep()
    assert emulation.value("fake_allocations") == 0


def check_errors(library: str) -> None:
    emulation.fake_driver()
    module = tvmconv.load(library)
    dw, pw = module["dw"], module["pw"]
    (w, bias), (x,) = arrays("dw")
    (pw_w,), (pw_x, pw_r) = arrays("pw")
    host = np.zeros((1, 9, 11, 24), np.float32)

    def refused(kind, words, call, *args, **named):
        try:
            call(*args, **named)
        except kind as error:
            assert words in str(error) and "\n" not in str(error), str(error)
        else:
            raise AssertionError(f"expected {kind.__name__}: {words}")

    bad = tvmconv.SpecError
    refused(tvmconv.Error, "an error of the fake driver", dw.bind, w, bias)  # there is no such kernel yet
    emulation.emulate(Path(library))
    refused(bad, "x: ndarray on DLPack device (1, 0), expected one on a GPU", dw, host, w, bias)
    refused(bad, "w: ndarray on DLPack device", dw.bind, np.zeros((3, 3, 1, 24), np.float32), bias)
    refused(bad, "x: list, expected", dw, [1.0], w, bias)
    refused(bad, "x: shape (1, 9, 11, 12)", dw, tvmconv.to_gpu(host[..., :12]), w, bias)
    refused(bad, "x: dtype float64, expected float32", dw, tvmconv.to_gpu(host.astype(float)), w, bias)
    refused(bad, "bias: None", dw.bind, w)
    bound = dw.bind(w, bias)
    refused(bad, "x: on GPU 1, expected GPU 0 as the weights", bound, tvmconv.to_gpu(host, 1))
    refused(bad, "bias: on GPU 1, expected GPU 0", dw.bind, w, tvmconv.to_gpu(np.zeros(24, np.float32), 1))
    refused(bad, "residual: on GPU 1", pw.bind(pw_w), pw_x, tvmconv.to_gpu(pw_r.numpy(), 1))
    refused(bad, "inputs: 1, expected 2: x, residual", pw.bind(pw_w), pw_x)
    refused(bad, "y overlaps x", bound, x, out=x)
    refused(bad, "out: shape", bound, x, out=pw_x)
    memory = ctypes.c_size_t.in_dll(emulation.fake_driver(), "fake_memory")
    whole, memory.value = memory.value, 1000
    refused(tvmconv.Error, "9504 bytes on device 0: CUDA error 2, out of memory", bound, x)
    memory.value = whole
    # From C: pointers that are not the GPU's, or misaligned.
    raw = ctypes.CDLL(library)
    raw.tvmconv_last_error.restype = ctypes.c_char_p
    entry = raw.dw
    entry.argtypes = [ctypes.c_void_p] * 4
    at, to = x._pointer, pw_x._pointer
    packed = bound._packed._pointer
    for code, words, pointers in (
        (1, b"dw: packed is NULL", (at, None, to)),
        (2, b"expected a multiple of 16", (at + 4, packed, to)),
        (6, b"dw: x is not in the memory of a GPU", (host.ctypes.data & ~15, packed, to)),
        (6, b"dw: y is not in the memory of a GPU", (at, packed, host.ctypes.data & ~15)),
    ):
        assert entry(*pointers, None) == code and words in raw.tvmconv_last_error(), raw.tvmconv_last_error()
    y = tvmconv.to_gpu(host)
    assert entry(at, packed, y._pointer, None) == 0  # in a thread without a context


def check_devices(library: str) -> None:
    emulation.fake_driver()
    from tvmconv.runtime.gpu.driver import why_not

    for sm, words in ((75, "compute capability 7.5, the library has code for 8.0, 9.0"), (100, "10.0")):
        emulation.set_value("fake_sm", sm)
        assert "compute capability" in why_not([80, 90])
        try:
            tvmconv.load(library)
        except tvmconv.ArtifactError as error:
            assert words in str(error), error
        else:
            raise AssertionError(f"sm_{sm}")
    emulation.emulate(Path(library))
    emulation.set_value("fake_sm", 86)  # runs code for 8.0
    assert why_not([80, 90]) is None
    module = tvmconv.load(library)
    for device in (1, 0):
        (w, bias), (x,) = arrays("dw", device)
        y = module["dw"].bind(w, bias)(x)
        assert y.device == device and launches()[-1].device == device


def test_verify_and_run_from_the_shell(gpu_library: Path, tmp_path: Path) -> None:
    """With the driver and the kernels preloaded, as the command finds them on a machine with a GPU."""
    preloaded = (emulation.build_driver(), emulation.build_kernels([gpu_library]))
    env = {**os.environ, "LD_PRELOAD": ":".join(map(str, preloaded))}
    done = tool("verify", gpu_library, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 functions checked, 10 runs, 0 failed" in done.stdout
    done = tool("run", gpu_library, "dw", "--output", tmp_path / "y.npy", "--rounds", 3, "--json", env=env)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "y.npy").shape == (1, 9, 11, 24)
    assert json.loads(done.stdout)["functions"][0]["repeat"] == 3


def test_a_driver_that_is_too_old(gpu_library: Path) -> None:
    in_child(check_old_driver, str(gpu_library))


def check_old_driver(library: str) -> None:
    emulation.fake_driver()
    emulation.set_value("fake_version", 11080)
    try:
        tvmconv.load(library)
    except tvmconv.ArtifactError as error:
        assert "the NVIDIA driver is for CUDA 11.8, expected CUDA 1" in str(error), error
    else:
        raise AssertionError("loaded")


def test_no_gpu_behind_the_driver(gpu_library: Path) -> None:
    in_child(check_no_gpu, str(gpu_library))


def check_no_gpu(library: str) -> None:
    emulation.fake_driver()
    emulation.set_value("fake_devices", 0)
    try:
        tvmconv.load(library)
    except tvmconv.ArtifactError as error:
        assert "no CUDA-capable device is detected" in str(error), error
    else:
        raise AssertionError("loaded")
