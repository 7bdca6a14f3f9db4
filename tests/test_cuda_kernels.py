"""CUDA kernels of every kind: compiled for two generations of GPUs, and run on the CPU (emulation.py), where
what they compute and what they touch is checked. No GPU is needed, nor nvcc."""

from __future__ import annotations

import struct
from pathlib import Path

import emulation
import pytest
from guard import in_child

import tvmconv
from tvmconv.specs import parse_spec
from tvmconv.verify import verify

TARGET = "cuda-sm_80,cuda-sm_90"
EM_CUDA = 190

KINDS = [
    line
    for line in (Path(__file__).parent.parent / "scripts" / "gpu_kinds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TVMCONV_NVCC", "none")
        made = tvmconv.compile(KINDS, TARGET)
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


def test_every_kind_is_there() -> None:
    """The list above would miss a strategy that it does not reach."""
    from tvmconv.codegen.kernel import scheduled
    from tvmconv.schedules import cuda
    from tvmconv.schedules.machines import resolve

    machine = resolve("cuda-sm_80")
    used = {scheduled(parse_spec(text), machine).schedule["strategy"] for text in KINDS}
    there = {cuda.deform.STRATEGY, cuda.pool.STRATEGY, cuda.transposed.STRATEGY}
    assert used == there | {module.STRATEGY for module in cuda.STRATEGIES}
