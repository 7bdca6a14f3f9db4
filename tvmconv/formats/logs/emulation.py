"""Whether this process runs on a CPU or on an emulator, where no time means anything. No TVM here.

qemu's user mode emulates the ``/proc`` files about the process, and uname; the files it leaves alone tell the
truth, and so do the answers it takes from the host.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

from tvmconv.formats.cpu_features import host_arch

_KERNELS = {  # that run programs of an architecture: their names for theirs
    "x86_64": ("x86_64",), "aarch64": ("aarch64",), "riscv64": ("riscv64",),
    "armv7": ("armv7l", "armv8l", "aarch64"),
}  # fmt: skip
_ELF = {"armv7": 40, "x86_64": 62, "aarch64": 183, "riscv64": 243}  # their numbers in the head of a program


def emulator() -> str | None:
    """What emulates this CPU, as far as can be detected; None for a real CPU, or one shared by a
    hypervisor."""
    return _other_program() or _other_kernel() or _other_cpu()


def cpu_model() -> str:
    """This machine's CPU as the kernel names it; for a board, the board; if emulated, the emulator."""
    emulates = emulator()
    if emulates is not None:
        return f"{host_arch()}, emulated by {emulates}"
    name = name_in(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    if name:
        return name
    board = Path("/proc/device-tree/model")
    return board.read_text(encoding="utf-8").strip("\0\n ") if board.is_file() else os.uname().machine


def name_in(cpuinfo: str) -> str:
    """The x86 CPU's name in the text of ``/proc/cpuinfo``; with family and model where a hypervisor leaves no
    number in it ("AMD EPYC" is a Zen 3, 4 or 5). "" if there is none."""
    pairs = [line.partition(":") for line in cpuinfo.splitlines()]
    found = {key.strip(): value.strip() for key, _, value in reversed(pairs)}  # of the first CPU
    name = found.get("model name", "")
    if name and "cpu family" in found and not re.search(r"\d", name):
        name += f" (family {found['cpu family']}, model {found.get('model', 'unknown')})"
    return name


def _other_program() -> str | None:
    """The program that the kernel runs, if it is not the one reported to this process."""
    told, true = _link("/proc/self/exe"), _link("/proc/thread-self/exe")
    name = os.path.basename(true.removesuffix(" (deleted)"))
    if told and true and told != true:
        return name
    if re.match(r"(qemu|box64|box86|FEX|blink)", name):
        return name
    machine = _machine("/proc/thread-self/exe")
    return name if machine and machine != _ELF.get(host_arch(), machine) else None


def _other_kernel() -> str | None:
    """A kernel that cannot run this process by itself."""
    arch = _text("/proc/sys/kernel/arch").strip()  # Linux 6.1
    return f"a machine of {arch}" if arch and arch not in _KERNELS.get(host_arch(), (arch,)) else None


def _other_cpu() -> str | None:
    """The CPU as the kernel describes it, if it is of another architecture."""
    text = _text("/proc/cpuinfo")
    if re.search(r"^model name\s*:.*\bQEMU\b", text, re.MULTILINE):
        return "qemu"
    is_x86 = re.search(r"^vendor_id\s*:", text, re.MULTILINE) is not None
    is_arm = re.search(r"^CPU implementer\s*:", text, re.MULTILINE) is not None
    arch = host_arch()
    if is_x86 and arch in ("aarch64", "armv7", "riscv64"):
        return "a machine of x86_64"
    return "a machine of aarch64" if is_arm and arch in ("x86_64", "riscv64") else None


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _machine(path: str) -> int:
    """The architecture of an ELF file, 0 if it cannot be determined."""
    try:
        with open(path, "rb") as file:
            head = file.read(20)
    except OSError:
        return 0
    return struct.unpack("<H", head[18:20])[0] if head[:4] == b"\x7fELF" and len(head) == 20 else 0
