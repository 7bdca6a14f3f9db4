"""The C library that a library needs: which one, how old it may be, and how to allow older ones."""

from __future__ import annotations

import io
import shlex
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tvmconv.base.errors import ArtifactError

if TYPE_CHECKING:
    from tvmconv.schedules.machines import AnyMachine

_ELF_MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64", "armv7": "EM_ARM", "riscv64": "EM_RISCV"}

# glibc 2.34 absorbed libpthread and libdl, with new versions of the symbols, which a linker picks by itself.
# The old versions stay: those of each architecture's first release, and later ones for two symbols.
_FIRST = {"x86_64": "2.2.5", "aarch64": "2.17", "armv7": "2.4", "riscv64": "2.27"}
_CHANGED = {("x86_64", "pthread_setaffinity_np"): "2.3.4", ("x86_64", "pthread_getaffinity_np"): "2.3.4"}
_MOVED = {
    "libpthread.so.0": (
        "pthread_attr_setstacksize", "pthread_create", "pthread_detach", "pthread_getaffinity_np",
        "pthread_getspecific", "pthread_join", "pthread_key_create", "pthread_key_delete", "pthread_kill",
        "pthread_once", "pthread_setaffinity_np", "pthread_setspecific", "pthread_sigmask",
        "sem_destroy", "sem_init", "sem_post", "sem_wait",
    ),
    "libdl.so.2": ("dladdr", "dlclose", "dlerror", "dlopen", "dlsym"),
}  # fmt: skip
# Kernels call this one, whose newer version (2.29) leaves errno alone; they do not read errno.
_EXP = """extern double tcv_old_exp(double);
__asm__(".symver tcv_old_exp, exp@GLIBC_{version}");
__attribute__((visibility("hidden"))) double __wrap_exp(double x);
double __wrap_exp(double x) {{ return tcv_old_exp(x); }}
"""


def older_symbols(command: Sequence[str], arch: str, source: str) -> tuple[str, list[str]]:
    """What to put before a C ``source``, and the linker's options, so that the library does not need a glibc
    as new as the compiler's own. Nothing for another C library."""
    version = _FIRST.get(arch)
    if version is None or not _has_glibc(tuple(command)):
        return "", []
    lines, options = [_EXP.format(version=version)], ["-Wl,--wrap=exp"]
    for library, names in _MOVED.items():
        used = [name for name in names if f"{name}(" in source]
        path = _file(tuple(command), library) if used else None
        if path is None:
            continue
        lines += [
            f'__asm__(".symver {name}, {name}@GLIBC_{_CHANGED.get((arch, name), version)}");\n'
            for name in used
        ]
        # Where the symbols were still separate, the library must be linked explicitly.
        options += ["-Wl,--no-as-needed", path, "-Wl,--as-needed"]
    return "".join(lines), options


@lru_cache
def _has_glibc(command: tuple[str, ...]) -> bool:
    asked = "#include <features.h>\nglibc __GLIBC__\n"
    return "glibc 2" in _said([*command, "-E", "-P", "-x", "c", "-"], asked).split("\n")


@lru_cache
def _file(command: tuple[str, ...], name: str) -> str | None:
    path = _said([*command, f"-print-file-name={name}"]).strip()
    return path if Path(path).is_absolute() else None


def _said(line: Sequence[str], text: str = "") -> str:
    try:
        done = subprocess.run(line, input=text, capture_output=True, text=True, timeout=60, errors="replace",
                              check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def needed(library: bytes, command: Sequence[str], machine: AnyMachine, kind: str) -> str | None:
    """The C library that a linked ``library`` needs: "glibc 2.17", the oldest with all symbol versions that
    it needs, or "musl"; None for an object, which does not say. Raises ArtifactError if ``command`` has not
    made a Linux ELF file for the machine's architecture."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerNeedSection

    wrong = f"cc: {shlex.join(command)} makes"
    try:
        file = ELFFile(io.BytesIO(library))
        made, wanted = file["e_machine"], _ELF_MACHINES.get(machine.arch, file["e_machine"])
        bits = 32 if machine.arch == "armv7" else 64
        if made != wanted or file.elfclass != bits or not file.little_endian:
            what = f"{file.elfclass}-bit {'little' if file.little_endian else 'big'}-endian code for {made}"
            raise ArtifactError(f"{wrong} {what}, expected {machine.arch} ({wanted})")
        if kind != "shared":
            return None
        sections = list(file.iter_sections())
        libraries = [
            str(tag.needed)  # type: ignore[attr-defined]  # pyelftools sets it by the tag's kind
            for section in sections
            if isinstance(section, DynamicSection)
            for tag in section.iter_tags("DT_NEEDED")
        ]
        versions = [
            version.name
            for section in sections
            if isinstance(section, GNUVerNeedSection)
            for _, found in section.iter_versions()
            for version in found
        ]
    except ELFError:
        raise ArtifactError(f"{wrong} no ELF file, expected one for Linux") from None
    if "libc.so.6" in libraries:
        return f"glibc {'.'.join(map(str, max(map(_glibc, versions), default=(2, 0))))}"
    if not versions and any(name == "libc.so" or name.startswith("libc.musl-") for name in libraries):
        return "musl"
    raise ArtifactError(f"{wrong} a library that needs {', '.join(libraries)}, expected glibc or musl")


def _glibc(version: str) -> tuple[int, ...]:
    """The glibc release of a symbol version."""
    if version == "GLIBC_ABI_DT_RELR":
        return 2, 36
    numbers = version.removeprefix("GLIBC_").split(".")
    return tuple(map(int, numbers)) if all(n.isdecimal() for n in numbers) else (0,)
