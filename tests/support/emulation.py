"""CUDA kernels on the CPU: the source that a library carries, compiled as C++ (cuda/emulate.h), run by a
fake driver (cuda/fake_driver.c). So all of a call is tested but the GPU itself."""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from tvmconv.base import cache_folder
from tvmconv.formats import cuda_source as sources

HERE = Path(__file__).parent / "cuda"
_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(([^)]*)\) \{')
# Indices out of an array, misaligned vectors, overflowing index arithmetic: a trap where they happen.
_CHECKS = ("-fsanitize=bounds,alignment,signed-integer-overflow,null", "-fsanitize-undefined-trap-on-error")


@lru_cache(maxsize=1)
def fake_driver() -> ctypes.CDLL:
    """The fake libcuda.so.1, loaded: what asks for that name in this process gets it."""
    return ctypes.CDLL(str(build_driver()), ctypes.RTLD_GLOBAL)


def build_driver() -> Path:
    """The fake libcuda.so.1."""
    source = (HERE / "fake_driver.c").read_text()
    return _compiled("libcuda.so.1", source, "gcc", "-x", "c", "-O2", "-Wall", "-Werror", "-shared", "-fPIC",
                     "-Wl,-soname,libcuda.so.1", "-pthread", "-ldl")  # fmt: skip


def emulate(library: Path) -> None:
    """Let the fake driver run the kernels of a CUDA library, in this process."""
    _loaded.append(ctypes.CDLL(str(build_kernels([library])), ctypes.RTLD_GLOBAL))


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


def build_kernels(libraries: Iterable[Path]) -> Path:
    """The kernels of CUDA libraries as a library for the CPU, which a process may also preload."""
    texts = dict.fromkeys(text for library in libraries for text in sources.read(library).values())
    # No contraction: the emitted code says what is rounded, up to what nvcc fuses.
    return _compiled("kernels.so", "\n".join([(HERE / "emulate.h").read_text(), *map(_translated, texts)]),
                     "g++", "-x", "c++", "-std=c++17", "-O1", "-w", *_CHECKS, "-ffp-contract=off",
                     "-fno-strict-aliasing", "-shared", "-fPIC")  # fmt: skip


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


def _compiled(name: str, source: str, *command: str) -> Path:
    """What a compiler makes of a source, once: it stays in the cache, by what it is made of."""
    key = hashlib.sha256("\0".join([*command, source]).encode()).hexdigest()[:20]
    place = cache_folder.folder() / "emulated" / key / name
    if not place.exists():
        with tempfile.TemporaryDirectory(prefix="tvmconv-emulate-") as folder:
            compiler, *options = command
            libraries = [option for option in options if option.startswith("-l")]
            done = subprocess.run(
                [compiler, *(o for o in options if o not in libraries), "-", "-o", "made", *libraries],
                cwd=folder, input=source, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise AssertionError(f"{' '.join(command)}\n{done.stderr[:4000]}")
            cache_folder.write(place, Path(folder, "made").read_bytes())
    return place
