"""CUDA source to machine code for one compute capability: nvcc if present, else NVRTC from PyPI's wheel."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from tvmconv.base import scratch
from tvmconv.base.errors import TargetError

_WHEELS = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu13", "nvidia-cuda-nvrtc-cu12")
_MISSING = "CUDA compiler: none, expected nvcc on the PATH (or $TVMCONV_NVCC), or pip install 'tvmconv[cuda]'"


class Nvcc:
    """The compiler of a CUDA toolkit."""

    def __init__(self, path: str) -> None:
        self.path = path
        said = self._run("--version")
        found = re.search(r"release ([\d.]+)", said)
        self.name = f"nvcc {found.group(1) if found else 'of unknown version'}"
        self.known = frozenset(int(sm) for sm in re.findall(r"compute_(\d+)\b", self._run("--list-gpu-arch")))

    def _run(self, *options: str, folder: Path | None = None) -> str:
        try:
            done = subprocess.run([self.path, *options], cwd=folder, stdin=subprocess.DEVNULL, text=True,
                                  capture_output=True, errors="replace", check=False)
        except OSError as error:
            raise TargetError(f"nvcc: {self.path} cannot be run: {error.strerror}") from None
        if done.returncode:
            raise TargetError(_failed(self.path, done.stderr + done.stdout))
        return done.stdout

    def cubin(self, source: str, sm: int) -> bytes:
        """``source`` compiled for ``sm``."""
        try:
            with scratch.folder() as folder:
                (folder / "kernel.cu").write_text(source, encoding="ascii")
                self._run("-cubin", f"-arch=sm_{sm}", "-std=c++17", "-O3", "kernel.cu", "-o", "kernel.cubin",
                          folder=folder)
                return (folder / "kernel.cubin").read_bytes()
        except OSError as error:
            raise TargetError(f"nvcc: {error.strerror or error} ({error.filename})") from None


class Nvrtc:
    """The runtime compiler as a library."""

    def __init__(self, path: Path) -> None:
        try:
            self._lib = ctypes.CDLL(str(path))
        except OSError as error:
            raise TargetError(f"NVRTC: {path} cannot be loaded: {' '.join(str(error).split())}") from None
        major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._lib.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        self.name = f"NVRTC {major.value}.{minor.value}"
        self._lib.nvrtcGetNumSupportedArchs(ctypes.byref(count))
        archs = (ctypes.c_int * count.value)()
        self._lib.nvrtcGetSupportedArchs(archs)
        self.known = frozenset(archs)

    def cubin(self, source: str, sm: int) -> bytes:
        """``source`` compiled for ``sm``."""
        lib, program = self._lib, ctypes.c_void_p()
        options = [f"--gpu-architecture=sm_{sm}".encode(), b"--std=c++17"]
        self._check(lib.nvrtcCreateProgram(ctypes.byref(program), source.encode("ascii"), b"kernel.cu", 0,
                                           None, None))
        try:
            values = (ctypes.c_char_p * len(options))(*options)
            if lib.nvrtcCompileProgram(program, len(options), values):
                raise TargetError(_failed(self.name, self._text(program, "ProgramLog").decode()))
            return self._text(program, "CUBIN")
        finally:
            lib.nvrtcDestroyProgram(ctypes.byref(program))

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(self._lib[f"nvrtcGet{what}Size"](program, ctypes.byref(size)))
        data = ctypes.create_string_buffer(size.value)
        self._check(self._lib[f"nvrtcGet{what}"](program, data))
        return data.raw

    def _check(self, code: int) -> None:
        if code:
            self._lib.nvrtcGetErrorString.restype = ctypes.c_char_p
            raise TargetError(f"{self.name}: {self._lib.nvrtcGetErrorString(code).decode()}")


def identity() -> list[str]:
    """What identifies the compiler that would be used; empty if there is none. Runs nothing."""
    nvcc = _nvcc()
    if nvcc is not None:
        facts = Path(nvcc).resolve().stat()
        return [nvcc, str(facts.st_size), str(facts.st_mtime_ns)]
    wheel = _nvrtc()
    return [] if wheel is None else [str(wheel), str(wheel.stat().st_size)]


@lru_cache(maxsize=1)
def find() -> Nvcc | Nvrtc:
    """The compiler to use: $TVMCONV_NVCC ("none": no nvcc), nvcc on the PATH, NVRTC. Raises TargetError."""
    nvcc = _nvcc()
    if nvcc is not None:
        return Nvcc(nvcc)
    wheel = _nvrtc()
    if wheel is None:
        raise TargetError(_MISSING)
    return Nvrtc(wheel)


def cubin(source: str, sm: int) -> bytes:
    """``source`` compiled for the compute capability ``sm``. Raises TargetError."""
    compiler = find()
    if sm not in compiler.known:
        known = ", ".join(f"sm_{sm}" for sm in sorted(compiler.known))
        raise TargetError(f"target: cuda-sm_{sm}, expected one that {compiler.name} knows: {known}")
    return compiler.cubin(source, sm)


def _nvcc() -> str | None:
    asked = os.environ.get("TVMCONV_NVCC", "").strip()
    if asked.lower() == "none":
        return None
    found = shutil.which(asked or "nvcc")
    if asked and found is None:
        raise TargetError(f"$TVMCONV_NVCC: {asked!r}, expected a program that can be run, or none")
    return found


def _nvrtc() -> Path | None:
    """The library in whichever of NVIDIA's wheels is installed."""
    for wheel in _WHEELS:
        try:
            listed = metadata.files(wheel) or []
        except metadata.PackageNotFoundError:
            continue
        for file in listed:
            if re.fullmatch(r"libnvrtc\.so\.\d+", file.name):
                return Path(file.locate())
    return None


def _failed(compiler: str, said: str) -> str:
    lines = said.strip().splitlines()
    first = next((line for line in lines if "error" in line), lines[0] if lines else "nothing printed")
    return f"{compiler}: {first.strip()}"
