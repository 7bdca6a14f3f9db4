"""CUDA kernels of every kind: compiled for two generations of GPUs, and run on the CPU (emulation.py), where
what they compute and what they touch is checked. No GPU is needed, nor nvcc."""

from __future__ import annotations

import struct
from pathlib import Path

import emulation
import pytest
from guard import in_child
from places import SCRIPTS

import tvmconv
from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.codegen.kernel import build_kernel
from tvmconv.compiler.compile import default_name
from tvmconv.formats.choice import META, Choice
from tvmconv.frontends.verify import verify
from tvmconv.specs.kinds import parse_spec

TARGET = "cuda-sm_80,cuda-sm_90"
EM_CUDA = 190

KINDS = [
    line
    for line in (SCRIPTS / "gpu_kinds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


# Points that the defaults reach only for shapes that take long to emulate.
CHOICES = {
    "conv2d:1x9x15x32:o136:k3x3:p1:NHWC:float32:bias": Choice("gemm", {
        "pixels": 128, "channels": 128, "thread_pixels": 8, "thread_channels": 8, "depth": 16}),
    "conv2d:1x16x16x16:o72:k1x1:NCHW:float32:bias": Choice("gemm", {
        "pixels": 64, "channels": 32, "thread_pixels": 4, "thread_channels": 4, "depth": 8}),
    "conv2d:1x13x18x24:o24:k3x3:p1:g24:NHWC:float32:relu": Choice("depthwise_last", {
        "rows": 2, "width": 4, "channels": 4, "held": True}),
    "conv2d:1x13x18x24:o24:k3x3:s2:p1:g24:NHWC:float32:relu": Choice("depthwise_last", {
        "rows": 2, "width": 3, "channels": 2, "held": False}),
    "conv2d:1x6x21x70:o6:k3x3:p1:g6:NCHW:float32:relu": Choice("depthwise_first", {
        "planes": 2, "down": 4, "across": 32, "rows": 4}),
    "conv2d:1x20x15x14:o36:k3x3:p1:NHWC:float32:relu": Choice("direct", {"channels": 2, "width": 3}),
    "conv2d:1x9x15x64:o136:k1x1:NHWC:float16:bias:relu": Choice("gemm_tensor", {
        "rows": 128, "columns": 128, "warp_rows": 64, "warp_columns": 32, "depth": 64}),
    "conv2d:1x64x9x15:o40:k1x1:NCHW:bfloat16": Choice("gemm_tensor", {
        "rows": 32, "columns": 64, "warp_rows": 16, "warp_columns": 8, "depth": 16}),
    "conv2d:1x8x9x128:o68:k1x1:NHWC:uint8:bias:relu": Choice("gemm_tensor", {
        "rows": 64, "columns": 64, "warp_rows": 32, "warp_columns": 64, "depth": 32}),
    "block2d:2x11x13x20:e44:k3x3:p1:o50:NHWC:float32:bias:residual:expand=relu6:depthwise=silu": Choice(
        "halo_tiles", {"rows": 7, "columns": 8, "chunk": 16, "depth": 8, "outputs": 32, "lanes": 8,
                       "width": 4, "threads": 64}),
    "block2d:1x19x10x21:k5x5:s2:p2:o36:NHWC:bfloat16:bias:hard_swish": Choice("halo_tiles", {
        "rows": 4, "columns": 2, "chunk": 12, "outputs": 12, "lanes": 4, "width": 1, "threads": 128}),
    "deform2d:1x8x9x10:o16:k3x3:p1:bias:NCHW:float32": Choice("deform_sampled", {"block": 16}),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TVMCONV_NVCC", "none")
        plain = tvmconv.compile(KINDS, TARGET)
        machine = plain.machine
        chosen = {default_name(spec): build_kernel(spec, machine, choice)
                  for spec, choice in ((parse_spec(text), choice) for text, choice in CHOICES.items())}
        made = Library({**plain.functions, **chosen}, machine)
    for name, kernel in made.functions.items():
        cubins = kernel.device.cubins(kernel.object)
        found = {sm: elf_of(code) for sm, code in cubins.items()}
        assert found == {80: (EM_CUDA, 80), 90: (EM_CUDA, 90)}, name
    return made.export(tmp_path_factory.mktemp("cuda") / "kernels.so")


def elf_of(code: bytes) -> tuple[int, int]:
    """(machine, compute capability) of a cubin."""
    assert code[:4] == b"\x7fELF"
    (machine,), (flags,) = struct.unpack_from("<H", code, 18), struct.unpack_from("<I", code, 48)
    return machine, (flags >> 8 if code[8] >= 8 else flags) & 0xFF


def test_every_kind_computes_what_the_reference_does(library: Path) -> None:
    in_child(check_kernels, str(library))


def check_kernels(library: str) -> None:
    """In a process of its own, for a kernel that reads or writes outside of its arrays ends it."""
    emulation.fake_driver()
    emulation.emulate(Path(library))
    module = tvmconv.load(library)
    assert list(module) and emulation.value("fake_loads") == 0  # code is loaded when it is called
    for descending in (False, True):
        emulation.descending(descending)
        emulation.set_value("fake_flush_start", descending)
        for name in module:
            print(f"{module[name].descriptor}, threads {'de' if descending else 'a'}scending", flush=True)
            for check in verify(module, [name]):
                assert check.ok, check
    assert emulation.value("fake_loads") == len(module)
    assert emulation.value("fake_allocations") == 0


def test_tensor_cores_of_every_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turing's instructions are others; bfloat16 has none there."""
    monkeypatch.setenv("TVMCONV_NVCC", "none")
    sms = (75, 80, 86, 89, 90)
    texts = [f"conv2d:1x4x8x32:o32:k1x1:NHWC:{dtype}" for dtype in ("float16", "uint8/int32", "bfloat16")]
    made = tvmconv.compile(texts, ",".join(f"cuda-sm_{sm}" for sm in sms)).functions
    assert [k.schedule["strategy"] for k in made.values()] == ["gemm_tensor", "gemm_tensor", "gemm"]
    for kernel in made.values():
        cubins = kernel.device.cubins(kernel.object)
        assert {sm: elf_of(code) for sm, code in cubins.items()} == {sm: (EM_CUDA, sm) for sm in sms}


def test_every_kind_is_there() -> None:
    """The list above would miss a strategy that it does not reach."""
    from tvmconv.compiler.codegen.kernel import scheduled
    from tvmconv.schedules import cuda
    from tvmconv.schedules.machines import resolve

    machine = resolve("cuda-sm_80")
    used = {scheduled(parse_spec(text), machine).schedule["strategy"] for text in KINDS}
    there = {row.strategy.STRATEGY for rows in cuda.TABLE.values() for row in rows}
    assert used == there - {META}  # which is taken where a log has one of its traces
