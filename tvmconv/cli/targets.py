"""`tvmconv targets`: the machines that tvmconv compiles for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from tvmconv.base.errors import TargetError
from tvmconv.cli import console
from tvmconv.cli.options import AsJson
from tvmconv.schedules.gpu_machines import GpuMachine

if TYPE_CHECKING:
    from tvmconv.schedules.machines import AnyMachine, Machine


def check_one(target: str) -> None:
    """Raise TargetError for several targets."""
    from tvmconv.schedules.machines import resolve

    if len(getattr(resolve(target), "sms", ())) > 1:
        raise TargetError(f"target: {target!r}, expected one target here, not several")


def check_here(target: str) -> None:
    """Raise TargetError, before anything is compiled, if this machine cannot run code for ``target``."""
    from tvmconv.formats.cpu_features import host_arch, host_features
    from tvmconv.runtime.gpu.driver import why_not
    from tvmconv.schedules.machines import resolve_all

    for machine in resolve_all(target):
        if isinstance(machine, GpuMachine):
            if reason := why_not(machine.sms):
                raise TargetError(f"--target {target}: expected one that this machine runs: {reason}")
            return
        have = host_features()
        if machine.arch == host_arch() and (not have or have.issuperset(machine.requires)):
            return
    raise TargetError(f"--target {target}: expected one that this machine runs, as native")


def check_timed_here(target: str) -> None:
    """As `check_here`, and a warning where this CPU is not the one that ``target`` names."""
    from tvmconv.schedules.machines import resolve, warn_of_another_cpu

    check_here(target)
    warn_of_another_cpu(resolve(target))


HELP = """List the targets: what --target takes.

\b
Examples:
  tvmconv targets
  tvmconv targets --json
  tvmconv compile -f layers.txt -o layers.so --target cortex-a72
  tvmconv compile -f layers.txt -o layers.so --target cortex-a53,cortex-a76
  tvmconv compile -f layers.txt -o layers.so \\
      --target triple=aarch64-linux-gnu,cpu=cortex-a78,features=+dotprod

"native" is the best target that this machine runs; it is marked with "*". A target with tuned logs has
schedules that were measured on such a machine; the others use the default schedules.

Others are given in full, with names of LLVM's: --target triple=T,cpu=C,features=+F+G, where cpu and features
may be left out; their schedules are those of the target that is nearest. Several targets of one architecture,
joined by commas, make one library that chooses among them by the CPU that it runs on.
"""


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("targets", help=HELP, short_help="List the targets.")(targets_verb)


def targets_verb(as_json: AsJson = False) -> None:
    """See HELP."""
    from tvmconv.schedules.machines import names, resolve

    native = _native_name()
    machines = [resolve(name) for name in names() if name != "native"]
    gpus = [_gpu_row(m) for m in machines if isinstance(m, GpuMachine)]
    rows = [_row(m, native) for m in machines if not isinstance(m, GpuMachine)]
    if as_json:
        console.print_json({"native": native, "targets": rows + gpus})
        return
    print(f"native: {native or 'none of these'}\n")
    console.print_table(
        ("", "target", "arch", "vector", "registers", "L1", "L2", "tuned logs", "needs"),
        [
            (
                "*" if row["native"] else "",
                row["name"],
                row["arch"],
                f"{row['vector_bits']} bit",
                row["vector_registers"],
                *(_cache(row[level]) for level in ("l1", "l2")),
                "yes" if row["tuned_logs"] else "no",
                " ".join(row["requires"]) or "-",
            )
            for row in rows
        ],
        right=("registers", "L1", "L2"),
    )
    print("\nNVIDIA GPUs; several, joined by commas, for one library with code for each\n")
    console.print_table(
        ("target", "compute capability", "multiprocessors", "memory", "tuned logs"),
        [
            (
                row["name"],
                row["compute_capability"],
                row["multiprocessors"],
                f"{row['bandwidth']} GB/s",
                "yes" if row["tuned_logs"] else "no",
            )
            for row in gpus
        ],
        right=("compute capability", "multiprocessors", "memory"),
    )


def _cache(size: int) -> str:
    return f"{size // 1024} KiB"


def _native_name() -> str | None:
    from tvmconv.schedules.machines import native

    try:
        return native().name
    except TargetError:
        return None


def _row(machine: Machine, native: str | None) -> dict[str, Any]:
    return {
        "name": machine.name,
        "native": machine.name == native,
        "arch": machine.arch,
        "triple": machine.triple,
        "cpu": machine.cpu,
        "features": list(machine.features),
        "vector_bits": machine.vector_bits,
        "vector_registers": machine.vector_registers,
        "fma_ports": machine.fma_ports,
        "l1": machine.l1,
        "l2": machine.l2,
        "l3": machine.l3,
        "requires": list(machine.requires),
        "tuned_logs": _has_logs(machine),
    }


def _gpu_row(machine: GpuMachine) -> dict[str, Any]:
    (sm,) = machine.sms
    return {
        "name": machine.name,
        "native": False,
        "arch": machine.arch,
        "cpu": machine.cpu,
        "compute_capability": f"{sm // 10}.{sm % 10}",
        "multiprocessors": machine.multiprocessors,
        "fma_lanes": machine.fma_lanes,
        "bandwidth": machine.bandwidth,
        "requires": [],
        "tuned_logs": _has_logs(machine),
    }


def _has_logs(machine: AnyMachine) -> bool:
    """Whether records measured on such a machine ship."""
    from tvmconv.formats.logs.entries import read_index
    from tvmconv.formats.logs.folder import folders_of, shipped_root

    return any(read_index(folder) for folder, _, _ in folders_of(shipped_root(), machine))
