"""Which C compiler links a library, whether it is for the target, and what options it needs."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.base import cache_folder
from tvmconv.base.errors import ArtifactError
from tvmconv.formats.cpu_features import host_arch

if TYPE_CHECKING:
    from tvmconv.schedules.machines import AnyMachine

_log = logging.getLogger("tvmconv")

# The support code must run on every CPU of the architecture, or it could not report that the kernels don't;
# compilers may have a newer default. zig has its own names.
_BASELINE = {
    "x86_64": ("-march=x86-64",),
    "aarch64": ("-march=armv8-a",),
    "armv7": ("-march=armv7-a", "-mfpu=vfpv3-d16", "-mfloat-abi=hard"),
    "riscv64": ("-march=rv64gc", "-mabi=lp64d"),
}
_ZIG_BASELINE = {"x86_64": "x86_64", "aarch64": "generic", "armv7": "generic+v7a", "riscv64": "baseline_rv64"}

# The first part of a compiler's name for its target.
_ARCHES = {"x86_64": "x86_64|amd64", "aarch64": "aarch64|arm64", "armv7": r"(arm|thumb)(?!eb)\w*",
           "riscv64": r"riscv64\w*"}  # fmt: skip


def find_cc(machine: AnyMachine, cc: str | None = None) -> list[str]:
    """The command of the C compiler to use for ``machine``.

    ``cc`` if given (a command line, may hold options); else $CC and else cc, gcc or clang where they make
    code for the machine's architecture; else ziglang from PyPI. Raises ArtifactError if there is none, or
    ``cc`` is for another architecture.
    """
    if cc is not None:
        command = _command("cc", cc)
        _check(command, machine, f"cc: {cc!r}")
        return command
    text = os.environ.get("CC", "").strip()
    if text:
        command = _command("$CC", text)
        if machine.arch == host_arch():
            _check(command, machine, f"$CC: {text!r}")
        # A compiler meant for this machine must not prevent a library for another.
        if machine.arch == host_arch() or _fits(target_of(tuple(command)), machine):
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


def identity(command: Sequence[str]) -> list[Any]:
    """What tells a compiler from another, or another version, of the same command: the programs among its
    words, with the sizes and times of their files."""
    found: list[Any] = []
    for word in command:
        path = shutil.which(word) if word and not word.startswith("-") else None
        if path is not None:
            facts = Path(path).stat()
            found += [path, facts.st_size, facts.st_mtime_ns]
    with suppress(PackageNotFoundError):
        found += [version("ziglang")] if "ziglang" in command else []
    return found


def _command(source: str, text: str) -> list[str]:
    try:
        command = shlex.split(text)
    except ValueError:
        command = []
    if not command or shutil.which(command[0]) is None:
        raise ArtifactError(f"{source}: {text!r}, expected a C compiler that can be run")
    return command


def _check(command: Sequence[str], machine: AnyMachine, said: str) -> None:
    target = target_of(tuple(command))
    if target is not None and not _fits(target, machine):
        raise ArtifactError(f"{said} makes code for {target}, expected a compiler for {machine.triple}")


def _fits(target: str | None, machine: AnyMachine) -> bool:
    """Whether a compiler's target is Linux on ``machine``'s architecture, with its calling convention."""
    arch, *rest = (target or "").split("-")
    if not re.fullmatch(_ARCHES.get(machine.arch, machine.arch), arch) or not rest:
        return False
    if not any(part.startswith("linux") for part in rest) or re.search("android|ohos|x32|ilp32", rest[-1]):
        return False
    return machine.arch != "armv7" or "hf" in rest[-1] or arch.endswith("hl")  # hard-float


@lru_cache
def target_of(command: tuple[str, ...]) -> str | None:
    """A compiler's target, such as "x86_64-linux-gnu"; None if it does not say, or has to be told."""
    if is_zig(command):
        target = _option(command, "target")
        return None if target is None or target.startswith("native") else target
    try:
        done = subprocess.run([*command, "-dumpmachine"], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, errors="replace", check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _option(command: Sequence[str], name: str) -> str | None:
    """The value of an option in a command line: the last of -NAME VALUE, --NAME VALUE, -NAME=VALUE."""
    found = re.findall(rf"(?:^|\0)--?{name}[\0=]([^\0]*)", "\0".join(command))
    return found[-1] if found else None


def machine_options(command: Sequence[str], machine: AnyMachine) -> tuple[str, ...]:
    """Options that tell a compiler the architecture and its baseline, where the command does not already."""
    if not is_zig(command):
        return _BASELINE.get(machine.arch, ())
    # Without a target zig would build for this very CPU and the newest glibc.
    target = () if _option(command, "target") else ("-target", machine.zig)
    cpu = None if _option(command, "mcpu") else _ZIG_BASELINE.get(machine.arch)
    return (*target, *([f"-mcpu={cpu}"] if cpu else []))


def is_zig(command: Sequence[str]) -> bool:
    """Whether the compiler is zig, which needs to be told its target."""
    return Path(command[0]).stem == "zig" or "ziglang" in command


def say_if_slow(command: Sequence[str], machine: AnyMachine) -> None:
    """Log that zig will take a while, if it has not yet built the C library's parts for this target."""
    if not is_zig(command):
        return
    target = _option(command, "target") or machine.zig
    mark = cache_folder.folder() / f"zig-{target}.used"
    if not mark.exists():
        _log.info("zig prepares its C library for %s, once: about half a minute ...", target)
        cache_folder.write(mark, b"")
