"""CUDA kernels on the CPU: the source that a library carries, compiled as C++ (cuda/emulate.h), run by a
driver that is none (cuda/fake_driver.c). So the whole way of a call is taken but for the GPU itself."""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from tvmconv.formats import cuda_source as sources

HERE = Path(__file__).parent / "cuda"
_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(([^)]*)\) \{')
# Indices out of an array, misaligned vectors, overflowing index arithmetic: a trap where they happen.
_CHECKS = ("-fsanitize=bounds,alignment,signed-integer-overflow,null", "-fsanitize-undefined-trap-on-error")


@lru_cache(maxsize=1)
def fake_driver() -> ctypes.CDLL:
    """The fake libcuda.so.1, loaded: what asks for that name in this process gets it."""
    folder = tempfile.mkdtemp(prefix="tvmconv-fake-")
    return ctypes.CDLL(build_driver(Path(folder)), ctypes.RTLD_GLOBAL)


def build_driver(folder: Path) -> Path:
    """The fake libcuda.so.1, in ``folder``."""
    path = folder / "libcuda.so.1"
    _run("gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1",
         HERE / "fake_driver.c", "-o", path, "-pthread", "-ldl")  # fmt: skip
    return path


def emulate(library: Path) -> None:
    """Let the fake driver run the kernels of a CUDA library, in this process."""
    with tempfile.TemporaryDirectory(prefix="tvmconv-emulate-") as folder:
        built = build_kernels([library], Path(folder, "kernels.so"))
        _loaded.append(ctypes.CDLL(str(built), ctypes.RTLD_GLOBAL))


def set_value(name: str, value: int) -> None:
    """Set a variable of the fake driver or the emulation."""
    ctypes.c_int.in_dll(fake_driver(), name).value = value


def value(name: str) -> int:
    """A variable of the fake driver."""
    return ctypes.c_int.in_dll(fake_driver(), name).value


_loaded: list[ctypes.CDLL] = []


def descending(on: bool) -> None:
    """The order in which the threads of a block take turns."""
    for library in _loaded:
        ctypes.c_int.in_dll(library, "emu_descending").value = on


def build_kernels(libraries: Iterable[Path], built: Path) -> Path:
    """The kernels of CUDA libraries as a library for the CPU, which a process may also preload."""
    texts = dict.fromkeys(text for library in libraries for text in sources.read(library).values())
    source = built.with_suffix(".cpp")
    source.write_text("\n".join(['#include "emulate.h"', *map(_translated, texts)]))
    # No contraction: the emitted code says what is rounded, up to what nvcc fuses.
    _run("g++", "-std=c++17", "-O1", "-w", *_CHECKS, "-ffp-contract=off", "-fno-strict-aliasing", "-shared",
         "-fPIC", f"-I{HERE}", source, "-o", built)  # fmt: skip
    return built


def _translated(text: str) -> str:
    body = text[text.index("/* end of the prelude */") :]
    parts = [re.sub(r"__shared__ alignas\((\d+)\)", r"__shared__ __align__(\1)", body)]
    for name, parameters in _KERNEL.findall(body):
        types = [p.rpartition(" ")[0].replace("__restrict__", "") for p in parameters.split(", ")]
        values = ", ".join(f"*({kind}*)p[{i}]" for i, kind in enumerate(types))
        code = body[body.index(f"{name}(") :]
        code = code[: code.find('extern "C"', 1)]
        synchronised = "true" if "__syncthreads" in code else "false"
        parts += [
            f"static void call_{name}(void **p) {{ {name}({values}); }}",
            f'extern "C" void emu_{name}(void **p, const unsigned *grid, const unsigned *threads) {{',
            f"  emu::launch(call_{name}, {synchronised}, p, grid, threads);",
            "}",
        ]
    return "\n".join(parts).replace('extern "C" __global__', "__global__")


def _run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}\n{done.stderr[:4000]}")
