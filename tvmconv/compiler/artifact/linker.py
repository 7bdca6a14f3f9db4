"""Compiles a library's C source and links it with the kernels' objects."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tvmconv.base import cache_folder, scratch
from tvmconv.base.errors import ArtifactError
from tvmconv.compiler.artifact import libc
from tvmconv.compiler.artifact.archive import archive
from tvmconv.compiler.artifact.compilers import find_cc, identity, is_zig, machine_options, say_if_slow
from tvmconv.schedules.gpu_machines import GpuMachine

if TYPE_CHECKING:
    from tvmconv.schedules.machines import AnyMachine

_COMPILE = ("-std=c99", "-fPIC", "-pthread", "-fvisibility=hidden", "-ffunction-sections",
            "-fdata-sections", "-g0", "-U_FORTIFY_SOURCE")  # fmt: skip
# No build id, no debug information and no symbols that are not exported: equal inputs give equal bytes.
# A CPU library stays mapped once it has its own threads or keys (tcv_stay); one for GPUs always does.
_LINK = ("-shared", "-Wl,-Bsymbolic", "-Wl,--gc-sections", "-Wl,--as-needed", "-Wl,-z,defs", "-Wl,-z,now",
         "-Wl,-z,relro", "-Wl,-z,noexecstack", "-Wl,--build-id=none",
         "-Wl,-s")  # fmt: skip


# What compilers heed besides their words.
_ENVIRONMENT = ("CPATH", "C_INCLUDE_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX", "CCC_OVERRIDE_OPTIONS")

_FULL = ("No space left on device", "Disk quota exceeded", "NoSpaceLeft")  # of a compiler's output

_KINDS = {".so": "shared", ".a": "archive", ".o": "object"}  # of libraries, by the suffix of their files


def kind_of(path: Path, machine: AnyMachine) -> str:
    """What ``link`` is to make for a file called ``path``, by its suffix. Raises ArtifactError."""
    suffix = Path(re.sub(r"\.so(\.\d+)+$", ".so", path.name)).suffix  # libconv.so.1 is a .so
    possible = (".so",) if isinstance(machine, GpuMachine) else tuple(_KINDS)
    if suffix not in possible:
        raise ArtifactError(f"path: {path}, expected a name in {', '.join(possible)}, for {machine.name}")
    return _KINDS[suffix]


def check_soname(soname: str, path: Path, kind: str) -> None:
    """Raises ArtifactError unless ``path``, of this ``kind``, can have such a name in it."""
    if kind != "shared":
        raise ArtifactError(f"soname: {soname!r}, expected none for {path}, which is linked into a program")
    if not re.fullmatch(r"[\w.+-]+", soname, re.ASCII):
        raise ArtifactError(f"soname: {soname!r}, expected the name of a file")


def link(
    sources: Sequence[str], objects: Sequence[bytes], exports: Sequence[str], machine: AnyMachine, *,
    soname: str, kind: str = "shared", data: Mapping[str, bytes] | None = None, cc: str | None = None,
    level: str = "-O2",
) -> tuple[bytes, str | None]:  # fmt: skip
    """Compile C ``sources`` for the baseline of ``machine``'s architecture, and link them with ``objects``.

    The last of the sources is the library's own; compiled code of others stays in the cache.
    ``kind``: "shared" for a library that is loaded, "object" for one relocatable object and "archive" for a
    static library of that. ``exports``: the symbols that a shared library exports, all others are local; in
    an object all are visible. ``data``: symbols for ``sources`` of read-only bytes, aligned to 64. ``level``:
    the optimisation level for them. Returns the library's bytes, and the C library that it needs
    (``libc.needed``). Raises ArtifactError: no compiler, one for another target, a failing command (shown in
    full with its output), or a full disk.
    """
    command = [*find_cc(machine, cc), level]
    say_if_slow(command, machine)
    try:
        with scratch.folder() as folder:
            make = _link if kind == "shared" else _join
            library = make(command, folder, sources, objects, exports, machine, soname, data or {})
    except OSError as error:
        raise ArtifactError(f"linking: {error.strerror or error} ({error.filename or command[0]})") from None
    needs = libc.needed(library, command, machine, kind)
    return archive(f"{Path(soname).stem[:13]}.o", library, exports) if kind == "archive" else library, needs


def _link(
    command: list[str], folder: Path, sources: Sequence[str], objects: Sequence[bytes],
    exports: Sequence[str], machine: AnyMachine, soname: str, data: Mapping[str, bytes],
) -> bytes:  # fmt: skip
    script = "".join(f"    {name};\n" for name in exports)
    (folder / "exports.map").write_text(f"{{\n  global:\n{script}  local: *;\n}};\n", encoding="ascii")
    *common, source = sources
    old, options = ("", []) if is_zig(command) else libc.older_symbols(command, machine.arch, sources[0])
    compiler = [*command, *machine_options(command, machine), *_COMPILE]
    if common:
        code = [kept_code(compiler, old + text, folder) for text in common]
        objects = [*objects, *code]
    else:
        source = old + source
    stays = ["-Wl,-z,nodelete"] if isinstance(machine, GpuMachine) else []
    return _run([
        *compiler, *_LINK, *stays, f"-Wl,-soname,{soname}",
        "-Wl,--version-script=exports.map", *_sources(folder, source, objects, data), *options,
        "-lm", "-ldl",
    ], folder)  # fmt: skip


def _join(
    command: list[str], folder: Path, sources: Sequence[str], objects: Sequence[bytes],
    exports: Sequence[str], machine: AnyMachine, soname: str, data: Mapping[str, bytes],
) -> bytes:  # fmt: skip
    options = (*command, *machine_options(command, machine))
    (source,) = sources
    *own, kernels = _sources(folder, source, objects, data)
    made = [f"own{i}.o" for i in range(len(own))]
    for name, output in zip(own, made, strict=True):  # separately, since with -nostdlib zig finds no headers
        _run([*options, *_COMPILE, "-c", name], folder, output)
    return _run([*options, "-r", "-nostdlib", *made, kernels], folder)


def _sources(folder: Path, source: str, objects: Sequence[bytes], data: Mapping[str, bytes]) -> list[str]:
    """Write what is to be linked; returns file names for a command that runs in ``folder``."""
    # Names without a path, and the folder as the working directory: no path gets into the file.
    (folder / "library.c").write_text(source, encoding="ascii")
    names = [f"kernel{i}.o" for i in range(len(objects))]
    for name, code in zip(names, objects, strict=True):
        (folder / name).write_bytes(code)
    (folder / "inputs.txt").write_text("\n".join(names), encoding="ascii")  # there may be very many
    return ["library.c", *_data_source(folder, data), "@inputs.txt"]


def kept_code(compiler: Sequence[str], source: str, folder: Path) -> bytes:
    """What the compiler makes of a C source, from the cache if it has been compiled before: by this compiler,
    as far as its files' sizes and times tell, with the same words and environment."""
    known = json.dumps([*compiler, source, *identity(compiler), *map(os.environ.get, _ENVIRONMENT)])
    entry = cache_folder.folder() / f"{hashlib.sha256(known.encode()).hexdigest()[:40]}.support"
    with suppress(OSError):
        digest, _, code = entry.read_bytes().partition(b"\n")
        if digest == hashlib.sha256(code).hexdigest().encode():
            return code
    (folder / "support.c").write_text(source, encoding="ascii")
    code = _run([*compiler, "-c", "support.c"], folder, "support.o")
    cache_folder.write(entry, hashlib.sha256(code).hexdigest().encode() + b"\n" + code)
    return code


def _run(line: Sequence[str], folder: Path, name: str = "library") -> bytes:
    """The result of a compiler's command. Raises ArtifactError with full details if it fails."""
    line = [*line, "-o", name]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0", "LC_ALL": "C"}
    done = subprocess.run(
        line, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", check=False,
    )  # fmt: skip
    output = folder / name
    if done.returncode != 0 or not output.exists():
        said = (done.stderr + done.stdout).strip() or f"exit status {done.returncode}, nothing printed"
        if full := next((words for words in _FULL if words in said), None):
            raise ArtifactError(f"linking: {full} ({line[0]} in {folder})")
        raise ArtifactError(f"linking failed: {shlex.join(line)}: {'; '.join(said.splitlines())}")
    return output.read_bytes()


def _data_source(folder: Path, data: Mapping[str, bytes]) -> list[str]:
    """Write ``data`` as files, and the assembly source that includes them; its name, if there is any data."""
    if not data:
        return []
    lines = []
    for i, (symbol, content) in enumerate(data.items()):
        (folder / f"data{i}.bin").write_bytes(content)
        # The hash, because compilers with a cache look only at this text and not at the file.
        lines += [
            f"/* {hashlib.sha256(content).hexdigest()} */",
            f'.section .rodata.{symbol}, "a", %progbits',
            ".balign 64", f".hidden {symbol}", f".globl {symbol}", f".type {symbol}, %object",
            f"{symbol}:", f'.incbin "data{i}.bin"', f".size {symbol}, . - {symbol}",
        ]  # fmt: skip
    lines += ['.section .note.GNU-stack, "", %progbits', ""]
    (folder / "data.s").write_text("\n".join(lines), encoding="ascii")
    return ["data.s"]
