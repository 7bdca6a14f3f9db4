"""Finds a C compiler and links a shared library with it."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tvmconv.errors import ArtifactError
from tvmconv.runtime.cpu import host_arch

if TYPE_CHECKING:
    from tvmconv.schedules.machines import Machine

# The support code must run on every CPU of the architecture, or it could not say that the kernels do not;
# compilers may have a newer default. zig takes its own names.
_BASELINE = {
    "x86_64": ("-march=x86-64",),
    "aarch64": ("-march=armv8-a",),
    "armv7": ("-march=armv7-a", "-mfpu=vfpv3-d16", "-mfloat-abi=hard"),
}
_ZIG_BASELINE = {"x86_64": "x86_64", "aarch64": "generic", "armv7": "generic+v7a", "riscv64": "baseline_rv64"}

_COMPILE = ("-std=c99", "-O2", "-fPIC", "-pthread", "-fvisibility=hidden", "-ffunction-sections",
            "-fdata-sections", "-g0")  # fmt: skip
# No build id, no debug information and no symbols that are not exported: equal inputs give equal bytes.
# The pool's threads outlive any handle, so the library must stay mapped (nodelete).
_LINK = ("-shared", "-Wl,-Bsymbolic", "-Wl,--gc-sections", "-Wl,--as-needed", "-Wl,-z,defs", "-Wl,-z,now",
         "-Wl,-z,relro", "-Wl,-z,nodelete", "-Wl,-z,noexecstack", "-Wl,--build-id=none",
         "-Wl,-s")  # fmt: skip

_ELF_MACHINES = {"x86_64": 62, "aarch64": 183, "armv7": 40, "riscv64": 243}


def find_cc(machine: Machine, cc: str | None = None) -> list[str]:
    """The command of the C compiler to use for ``machine``.

    ``cc`` if given (a command line, may hold options), else $CC, else cc, gcc or clang for this machine's own
    architecture, else ziglang from PyPI. Raises ArtifactError if there is none.
    """
    for source, text in (("cc", cc), ("$CC", os.environ.get("CC", "").strip() or None)):
        if text is None:
            continue
        try:
            command = shlex.split(text)
        except ValueError:
            command = []
        if not command or shutil.which(command[0]) is None:
            raise ArtifactError(f"{source}: {text!r}, expected a C compiler that can be run")
        return command
    if machine.arch == host_arch():
        for name in ("cc", "gcc", "clang"):
            path = shutil.which(name)
            if path is not None:
                return [path]
    if find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    wanted = "cc, gcc or clang" if machine.arch == host_arch() else "cc=..."
    raise ArtifactError(
        f"C compiler for {machine.arch}: none, expected {wanted}, or pip install 'tvmconv[cross]'"
    )


def link(
    source: str, objects: Sequence[bytes], exports: Sequence[str], machine: Machine, *, soname: str,
    data: Mapping[str, bytes] | None = None, cc: str | None = None,
) -> bytes:  # fmt: skip
    """Compile C ``source`` for the baseline of ``machine``'s architecture, and link it with ``objects``.

    ``exports``: the symbols that the library shows; all others are local. ``data``: symbols for ``source`` of
    read-only bytes, aligned to 64. Returns the library's bytes. Raises ArtifactError: no compiler, a failing
    command (shown whole with what it printed), or a full disk.
    """
    command = find_cc(machine, cc)
    try:
        with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
            return _link(command, Path(folder), source, objects, exports, machine, soname, data or {})
    except OSError as error:
        where = error.filename or tempfile.gettempdir()
        raise ArtifactError(f"linking: {error.strerror or error} ({where})") from None


def _link(
    command: list[str], folder: Path, source: str, objects: Sequence[bytes], exports: Sequence[str],
    machine: Machine, soname: str, data: Mapping[str, bytes],
) -> bytes:  # fmt: skip
    # Names without a path, and the folder as the working one: nothing of the place gets into the file.
    (folder / "library.c").write_text(source, encoding="ascii")
    names = [f"kernel{i}.o" for i in range(len(objects))]
    for name, code in zip(names, objects, strict=True):
        (folder / name).write_bytes(code)
    script = "".join(f"    {name};\n" for name in exports)
    (folder / "exports.map").write_text(f"{{\n  global:\n{script}  local: *;\n}};\n", encoding="ascii")
    (folder / "inputs.txt").write_text("\n".join(names), encoding="ascii")  # they may be very many
    sources = ["library.c", *_data_source(folder, data)]
    line = [
        *command, *_machine_options(command, machine), *_COMPILE, *_LINK, f"-Wl,-soname,{soname}",
        "-Wl,--version-script=exports.map", *sources, "@inputs.txt", "-lm", "-ldl", "-o", "library.so",
    ]  # fmt: skip
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0", "LC_ALL": "C"}
    done = subprocess.run(
        line, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", check=False,
    )  # fmt: skip
    output = folder / "library.so"
    if done.returncode != 0 or not output.exists():
        said = (done.stderr + done.stdout).strip() or f"exit status {done.returncode}, nothing printed"
        raise ArtifactError(f"linking failed: {shlex.join(line)}\n{said}")
    library = output.read_bytes()
    found = int.from_bytes(library[18:20], "little")
    if found != _ELF_MACHINES.get(machine.arch, found):
        raise ArtifactError(
            f"cc: {shlex.join(command)} makes code for ELF machine {found}, "
            f"expected {machine.arch} ({_ELF_MACHINES[machine.arch]})"
        )
    return library


def _data_source(folder: Path, data: Mapping[str, bytes]) -> list[str]:
    """Write ``data`` as files, and the assembly source that takes them in; its name, if there is any data."""
    if not data:
        return []
    lines = []
    for i, (symbol, content) in enumerate(data.items()):
        (folder / f"data{i}.bin").write_bytes(content)
        # The hash, because compilers with a cache look at this text alone and not at the file.
        lines += [
            f"/* {hashlib.sha256(content).hexdigest()} */",
            f'.section .rodata.{symbol}, "a", %progbits',
            ".balign 64", f".hidden {symbol}", f".globl {symbol}", f".type {symbol}, %object",
            f"{symbol}:", f'.incbin "data{i}.bin"', f".size {symbol}, . - {symbol}",
        ]  # fmt: skip
    lines += ['.section .note.GNU-stack, "", %progbits', ""]
    (folder / "data.s").write_text("\n".join(lines), encoding="ascii")
    return ["data.s"]


def _machine_options(command: Sequence[str], machine: Machine) -> tuple[str, ...]:
    if is_zig(command):
        # Without a target zig would build for this very CPU and the newest glibc.
        cpu = _ZIG_BASELINE.get(machine.arch)
        return ("-target", machine.zig, *([f"-mcpu={cpu}"] if cpu else []))
    return _BASELINE.get(machine.arch, ())


def is_zig(command: Sequence[str]) -> bool:
    """Whether the compiler is zig, which wants its target said."""
    return Path(command[0]).stem == "zig" or "ziglang" in command
