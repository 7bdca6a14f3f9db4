"""Libraries for other architectures, and their functions called in a C program under qemu-user.

``Emulated`` looks like our loaded functions, so that ``tvmconv.frontends.verify.check`` judges them; behind
it are the generated header, a C program that zig compiles, and an emulated CPU.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from libraries import run

import tvmconv
from tvmconv.frontends import verify

SPECS = {
    "dw": "conv2d:1x9x11x20:o20:k3x3:s2:p1:g20:NHWC:float32:bias:relu6",
    "dw_first": "conv2d:1x6x9x11:o6:k3x3:p1:g6:NCHW:float32:bias",
    "pw": "conv2d:1x7x6x18:o21:k1x1:NHWC:float32:bias:hard_swish",
    "pw_first": "conv2d:2x16x5x7:o12:k1x1:NCHW:float32",
    "grouped": "conv2d:1x6x8x24:o16:k3x3:pSAME:g2:NHWC:float32",
    "groups_of_4": "conv2d:1x7x9x16:o16:k3x3:p1:g4:NHWC:float32:bias",
    "strided_first": "conv2d:1x20x9x9:o21:k1x1:s2:NCHW:float32:bias",  # columns in strips
    "crossed_first": "conv2d:1x3x11x9:o19:k3x3:s2:p1:NCHW:float32:relu",  # tiles transposed in registers
    "dilated": "conv2d:1x10x13x13:o8:k3x3:p2:d2:NCHW:float32:silu",
    "winograd": "conv2d:1x12x12x32:o32:k3x3:p1:NHWC:float32:winograd",
    "strassen": "conv2d:1x9x7x24:o32:k1x1:NHWC:float32:bias:relu:strassen",
    "transposed": "tconv2d:1x5x6x12:o10:k4x4:s2:p1:NHWC:float32:bias",
    "transposed_first": "tconv2d:1x6x5x5:o4:k3x3:s2:p1:op1:NCHW:float32",
    "phases": "tconv1d:1x18x23:o1:k32:s16:NCHW:float32",
    "half_dw": "conv2d:1x8x9x16:o16:k3x3:p1:g16:NHWC:float16:bias:relu",
    "half_pw": "conv2d:1x6x6x24:o17:k1x1:NHWC:float16",
    "wide": "conv1d:1x20x6:o7:k5:NWC:float64:gelu",
    "brain": "conv2d:1x6x6x16:o16:k3x3:NHWC:bfloat16",
    "int_pw": "conv2d:1x6x7x35:o20:k1x1:NHWC:int8/int32",
    "int_dw": "conv2d:1x9x9x24:o24:k3x3:p1:g24:NHWC:int8:bias",
    "int_transposed": "tconv2d:1x5x6x12:o10:k4x4:s2:p1:NHWC:uint8/int8:bias:residual:relu",
    "int_conv": "conv2d:1x9x8x16:o12:k3x3:p1:NCHW:uint8/int8:bias",
    "pool": "maxpool2d:1x9x9x20:k3x3:s2:p1:NHWC:float32",
    "deform": "deform2d:1x8x9x9:o8:k3x3:p1:og2:mask:bias",
    "block": "block2d:1x9x11x6:e20:k3x3:s2:p1:o10:NHWC:float32:bias:expand=relu6:depthwise=relu6",
    "block_in_place": "block2d:1x9x10x16:k5x5:p2:o12:NHWC:float32:bias:residual:depthwise=relu",
    "block_scale": "block2d:2x6x7x20:k1x1:o9:NHWC:float32:bias:scale",
    "int_block": "block2d:1x7x8x9:e24:k3x3:p1:o9:NHWC:int8:bias:residual:expand=relu",
}

ROOTS = {"aarch64": "arm64", "armv7": "armhf"}  # what scripts/debian_root.sh made, in $TVMCONV_ROOTS
_EMULATORS = {"aarch64": "qemu-aarch64", "armv7": "qemu-arm", "riscv64": "qemu-riscv64",
              "x86_64": "qemu-x86_64"}  # fmt: skip


def root(arch: str) -> Path:
    """A folder with the libc of ``arch``, and on ARM with Python; the test is skipped where there is none."""
    if arch == "riscv64":
        folder = Path("/usr/riscv64-linux-gnu")
    else:
        folder = Path(os.environ.get("TVMCONV_ROOTS", "/nowhere"), ROOTS[arch])
    if not folder.is_dir():
        pytest.skip(f"no system for {arch}: scripts/debian_root.sh, $TVMCONV_ROOTS")
    return folder


def emulator(arch: str, cpu: str | None = None) -> list[str]:
    """The command that runs a program of ``arch`` as on ``cpu``."""
    name = _EMULATORS[arch]
    if shutil.which(name) is None:
        pytest.skip(f"no {name}")
    where = [] if arch == "x86_64" else ["-L", str(root(arch))]
    return [name, *(["-cpu", cpu] if cpu else []), *where]


def zig(target: str) -> list[str]:
    pytest.importorskip("ziglang", reason="no ziglang")
    return [sys.executable, "-m", "ziglang", "cc", "-target", target]


def c_program(manifest: dict[str, Any], header: str) -> str:
    """A program that runs one function of a library, and ends with its error code: PROGRAM NAME INPUT OUTPUT
    PACKED, with the arrays in call order in INPUT, and the packed weights, if any, written to PACKED; PROGRAM
    variant says which of the targets it is that runs."""
    names = [function["name"] for function in manifest["functions"]]
    parts = [f'#include "{header}"', "#include <stdio.h>", "#include <string.h>", "",
             "static FILE *packed_file;", ""]
    for function in manifest["functions"]:
        name, arguments = function["name"], function["arguments"]
        sizes = {a["name"]: verify.rounded(np.zeros(a["shape"]), a["dtype"]).nbytes for a in arguments}
        weights = [a["name"] for a in arguments if a["role"] == "weight"]
        pack = weights if "bias" in weights else [*weights[:1], "NULL", *weights[1:]]
        inputs = [a["name"] for a in arguments if a["role"] == "input"]
        call = [inputs[0], *(["packed"] if weights else []), *inputs[1:], "y"]
        read = [f"  if (fread({n}, 1, {sizes[n]}, in) != {sizes[n]}) return 100;" for n in sizes if n != "y"]
        parts.append("\n".join([
            f"static int run_{name}(FILE *in, FILE *out) {{",
            *(f"  static _Alignas(64) unsigned char {n}[{size}];" for n, size in sizes.items()),
            f"  static _Alignas(64) unsigned char packed[{name.upper()}_PACKED_BYTES];" if weights else "",
            "  int code;",
            *read,
            "  memset(y, 0x7f, sizeof y);",
            f"  if ((code = {name}_prepack({_bytes(pack)}, packed)) != 0) return code;" if weights else "",
            "  fwrite(packed, 1, sizeof packed, packed_file);" if weights else "",
            f"  if ((code = {name}({_bytes(call)})) != 0) return code;",
            "  return fwrite(y, 1, sizeof y, out) == sizeof y ? 0 : 101;",
            "}",
        ]))
    parts += [
        "int main(int argc, char **argv) {",
        '  FILE *in = argc > 2 ? fopen(argv[2], "rb") : 0, *out = argc > 3 ? fopen(argv[3], "wb") : 0;',
        "  int code = 102;",
        f'  if (argc == 2) return printf("%s\\n", {manifest["prefix"]}_variant()) < 0;',
        '  packed_file = argc > 4 ? fopen(argv[4], "wb") : 0;',
        "  if (argc != 5 || !in || !out || !packed_file) return 103;",
        *(f'  if (!strcmp(argv[1], "{n}")) code = run_{n}(in, out);' for n in names),
        f'  if (code) fprintf(stderr, "%s\\n", {manifest["prefix"]}_last_error());',
        "  return fclose(out) || fclose(packed_file) ? 104 : code;",
        "}",
    ]
    return "\n".join(parts)


def _bytes(arrays: Sequence[str]) -> str:
    """Arrays of bytes as arguments of any type."""
    return ", ".join(f"(void *){name}" for name in arrays)


class Emulated:
    """A library's functions, each call a run of its C program under qemu."""

    def __init__(self, library: Path, manifest: dict[str, Any], target: str) -> None:
        folder = library.parent
        self.manifest, self.folder = manifest, folder
        self.arch = manifest["target"]["arch"]
        (folder / "main.c").write_text(c_program(manifest, f"{library.stem}.h"))
        self.program = folder / "main"
        static = [] if library.suffix == ".so" else ["-pthread", "-lm"]
        built = run(zig(target), "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "main.c", library,
                    f"-Wl,-rpath,{folder}", *static, "-o", self.program, cwd=folder)  # fmt: skip
        assert built.returncode == 0, built.stderr

    def call(self, name: str, arrays: Sequence[np.ndarray], cpu: str | None) -> tuple[int, str, bytes]:
        """The program's exit status, what it printed as error, and the bytes of y."""
        (self.folder / "in").write_bytes(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays))
        command = emulator(self.arch, cpu)
        done = run(command, self.program, name, *(self.folder / file for file in ("in", "out", "packed")))
        return done.returncode, done.stderr.strip(), (self.folder / "out").read_bytes()

    def call_random(self, name: str, cpu: str | None) -> tuple[int, str, bytes]:
        """As ``call``, on random data."""
        entry = next(f for f in self.manifest["functions"] if f["name"] == name)
        spec = tvmconv.ConvSpec.parse(entry["descriptor"])
        arrays = verify.random_arrays(spec, entry["arguments"], "normal", 0)
        return self.call(name, list(arrays.values()), cpu)

    def variant(self, cpu: str | None) -> str:
        """The target whose kernels run on a CPU model."""
        return run(emulator(self.arch, cpu), self.program, "variant").stdout.strip()

    def assert_right(self, cpu: str | None) -> None:
        """Every function gives what the reference does, on a CPU model."""
        for entry in self.manifest["functions"]:
            for fill in verify.FILLS:
                check = verify.check(_Function(self, entry, cpu), entry, fill)
                assert check.ok, (cpu, check)


class _Function:
    def __init__(self, library: Emulated, entry: dict[str, Any], cpu: str | None) -> None:
        self.library, self.entry, self.cpu = library, entry, cpu

    def bind(self, *weights: np.ndarray | None) -> Any:
        def call(*inputs: np.ndarray, out: np.ndarray) -> None:
            given = {"input": iter(inputs), "weight": (w for w in weights if w is not None)}
            arrays = [next(given[a["role"]]) for a in self.entry["arguments"] if a["role"] != "output"]
            code, said, y = self.library.call(self.entry["name"], arrays, self.cpu)
            assert code == 0, (self.entry["descriptor"], self.cpu, code, said)
            out[...] = np.frombuffer(y, out.dtype).reshape(out.shape)

        return call


# Of targets whose code differs little: of their specs some.
_EVEN, _ODD = slice(0, None, 2), slice(1, None, 2)
_SHARES = {"cortex-a53": _EVEN, "cortex-a72": _ODD, "armv7-generic": _EVEN}


def specs_for(target: str) -> dict[str, str]:
    """What is tried on a target."""
    return dict([*SPECS.items()][_SHARES.get(target, slice(None))])


def build(target: str, folder: Path, suffix: str = ".so") -> tuple[Path, tvmconv.Library]:
    """A library of these for ``target``."""
    library = tvmconv.compile(specs_for(target), target)
    return library.export(folder / f"edge{suffix}"), library
