"""Which C compiler links a library, whether it is one for the target, and what it must be told."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tvmconv.errors import ArtifactError
from tvmconv.runtime.cpu import host_arch

if TYPE_CHECKING:
    from tvmconv.schedules.machines import Machine

_log = logging.getLogger("tvmconv")

# The support code must run on every CPU of the architecture, or it could not say that the kernels do not;
# compilers may have a newer default. zig takes its own names.
_BASELINE = {
    "x86_64": ("-march=x86-64",),
    "aarch64": ("-march=armv8-a",),
    "armv7": ("-march=armv7-a", "-mfpu=vfpv3-d16", "-mfloat-abi=hard"),
    "riscv64": ("-march=rv64gc", "-mabi=lp64d"),
}
_ZIG_BASELINE = {"x86_64": "x86_64", "aarch64": "generic", "armv7": "generic+v7a", "riscv64": "baseline_rv64"}

_DUMPED = (("x86_64", r"x86_64|amd64"), ("aarch64", r"aarch64|arm64"), ("armv7", r"arm\w*"),
           ("riscv64", "riscv64"))  # fmt: skip


def find_cc(machine: Machine, cc: str | None = None) -> list[str]:
    """The command of the C compiler to use for ``machine``.

    ``cc`` if given (a command line, may hold options); else $CC and else cc, gcc or clang where they make
    code for the machine's architecture; else ziglang from PyPI. Raises ArtifactError if there is none, or
    ``cc`` is for another architecture.
    """
    if cc is not None:
        command = _command("cc", cc)
        made = _made_for(tuple(command))
        if made not in (None, machine.arch):
            raise ArtifactError(f"cc: {cc!r} makes code for {made}, expected a compiler for {machine.arch}")
        return command
    text = os.environ.get("CC", "").strip()
    if text:
        command = _command("$CC", text)
        # One that is meant for this machine is no reason against a library for another.
        if _made_for(tuple(command)) == machine.arch or machine.arch == host_arch():
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


def _command(source: str, text: str) -> list[str]:
    try:
        command = shlex.split(text)
    except ValueError:
        command = []
    if not command or shutil.which(command[0]) is None:
        raise ArtifactError(f"{source}: {text!r}, expected a C compiler that can be run")
    return command


@lru_cache
def _made_for(command: tuple[str, ...]) -> str | None:
    """The architecture that a compiler makes code for; None where it does not say, or can do all."""
    if is_zig(command):
        return None
    try:
        done = subprocess.run([*command, "-dumpmachine"], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, errors="replace", check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    name = done.stdout.strip().partition("-")[0]
    return next((arch for arch, pattern in _DUMPED if re.fullmatch(pattern, name)), None)


def machine_options(command: Sequence[str], machine: Machine) -> tuple[str, ...]:
    """What says the architecture and its baseline to a compiler."""
    if is_zig(command):
        # Without a target zig would build for this very CPU and the newest glibc.
        cpu = _ZIG_BASELINE.get(machine.arch)
        return ("-target", machine.zig, *([f"-mcpu={cpu}"] if cpu else []))
    return _BASELINE.get(machine.arch, ())


def is_zig(command: Sequence[str]) -> bool:
    """Whether the compiler is zig, which wants its target said."""
    return Path(command[0]).stem == "zig" or "ziglang" in command


def say_if_slow(command: Sequence[str], machine: Machine) -> None:
    """Log that zig will take a while, where it has not yet made the C library's parts for this target."""
    from tvmconv import cache

    if not is_zig(command):
        return
    mark = cache.folder() / f"zig-{machine.zig}.used"
    if not mark.exists():
        _log.info("zig prepares its C library for %s, once: about half a minute ...", machine.zig)
        cache.write(mark, b"")
