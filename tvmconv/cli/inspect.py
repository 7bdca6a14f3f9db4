"""`tvmconv inspect`: what a library holds, read from the file without loading it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from tvmconv.base.errors import Error
from tvmconv.cli import console, given, networks
from tvmconv.cli.kernels import Kernel, kernels_of
from tvmconv.cli.options import AsJson, Functions, Library, NoUserLogs, ReadLogs, logs_of
from tvmconv.cli.outputs import schedule_text

HELP = """Show a library's manifest, or its kernels' code: what it holds, and whether this machine can run it.

\b
Examples:
  tvmconv inspect conv.so
  tvmconv inspect conv.so dw pw
  tvmconv inspect conv.so --json | python3 -m json.tool
  tvmconv inspect conv.so dw --tir --asm
  tvmconv inspect net.so main --step 2 --asm
  tvmconv inspect gpu.so dw --source

Nothing is loaded or run, so it works for a library of any architecture. A damaged or edited file is refused.
With NAMEs, the arguments of these functions. --json adds "path", "size" and "runs_here" to the manifest.
Workspace is what a call needs besides its arrays: once, and for each thread.

--tir and --asm print kernels as scheduled loops and as assembly. A library has neither: its kernels are
compiled again, from their descriptors and the logs (--log, as when it was compiled), and a line before each
says whether that gave the machine code which is in the library. --source prints the CUDA source that a
library for GPUs holds.
"""


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("inspect", help=HELP, short_help="Show what a library holds.")(inspect_verb)


def inspect_verb(
    library: Library,
    names: Functions = None,
    source: Annotated[bool, typer.Option("--source", help="Print the CUDA source of the kernels.")] = False,
    tir: Annotated[
        bool, typer.Option("--tir", help="Print the kernels' scheduled loops, in TVMScript.")
    ] = False,
    asm: Annotated[bool, typer.Option("--asm", help="Print the kernels' assembly.")] = False,
    step: Annotated[
        int | None,
        typer.Option("--step", metavar="N", min=1, show_default=False,
                     help="With --tir, --asm: of a whole network, only this step's kernel."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", metavar="TARGET", show_default=False,
                     help="With --tir, --asm: of the library's targets (default: its first)."),
    ] = None,
    log: ReadLogs = None,
    no_user_logs: NoUserLogs = False,
    as_json: AsJson = False,
) -> None:
    """See HELP."""
    from tvmconv.formats import manifest as reader
    from tvmconv.runtime import libc

    manifest = reader.read(library)
    shown = given.functions_of(library, manifest, names)
    logs = logs_of(log, no_user_logs)
    if tir or asm:
        if source:
            raise Error("--source: expected no --tir, --asm beside it")
        if asm and "sms" in manifest["target"]:
            raise Error(f"--asm: {library} is for GPUs, expected --source, or --tir")
        found = kernels_of(library, manifest, shown, target, logs, step)
        _print_kernels(found, tir, asm, as_json)
        return
    for option, value in (("--step", step), ("--target", target), ("--log, --no-user-logs", logs)):
        if value is not None:
            raise Error(f"{option}: needs --tir or --asm")
    if source:
        _print_source(library, [function["name"] for function in shown])
        return
    missing = _missing(manifest["target"]) or libc.why_not(manifest.get("libc"))
    if as_json:
        facts = {"path": str(library), "size": library.stat().st_size, "runs_here": missing is None}
        console.print_json({**facts, **manifest, "functions": shown})
    elif names:
        for number, function in enumerate(shown):
            print(end="\n" if number else "")
            _print_function(function)
    else:
        _print_library(library, manifest, missing)


def _print_source(library: Path, names: list[str]) -> None:
    from tvmconv.formats import cuda_source as sources

    found = sources.read(library)
    if not found:
        raise Error(f"--source: {library} holds none, expected a library for a cuda target, or --tir, --asm")
    print("\n".join(dict.fromkeys(found[name] for name in names)))


def _print_kernels(kernels: Iterable[Kernel], tir: bool, asm: bool, as_json: bool) -> None:
    found = []
    for kernel in kernels:
        texts = {"tir": kernel.source.tir} if tir else {}
        texts |= {"asm": kernel.source.assembly} if asm else {}
        if as_json:
            found.append({"function": kernel.function, "steps": list(kernel.steps), "target": kernel.target,
                          "descriptor": kernel.descriptor, "same": kernel.same, **texts})  # fmt: skip
            continue
        steps = f", step {', '.join(map(str, kernel.steps))}" if kernel.steps else ""
        print(f"# {kernel.function}{steps}: {kernel.descriptor}")
        print(f"# {kernel.origin}")
        print("\n".join(texts.values()), flush=True)
    if as_json:
        console.print_json({"kernels": found})


def _missing(target: dict[str, Any]) -> str | None:
    """Why this machine cannot run a library for `target`; None if it can."""
    from tvmconv.formats.cpu_features import host_arch, host_features

    if target["arch"] != host_arch():
        return f"it is for {target['arch']}, this machine is {host_arch()}"
    if "sms" in target:
        from tvmconv.runtime.gpu.driver import why_not

        return why_not(target["sms"])
    lacking = sorted(set(target["requires"]) - host_features())
    return f"this CPU lacks {' '.join(lacking)}" if lacking else None


def _print_library(library: Path, manifest: dict[str, Any], missing: str | None) -> None:
    from tvmconv.formats.manifest import WORKSPACE, libc_text

    target, functions = manifest["target"], manifest["functions"]
    facts = (
        ("library", f"{library}, {console.size(library.stat().st_size)}, contents intact"),
        ("made by", f"tvmconv {manifest['tvmconv']}, TVM {manifest['tvm']}"),
        ("formats", f"manifest {manifest['format']}, C ABI {manifest['abi']}, prefix {manifest['prefix']}"),
        ("target", f"{', '.join(v['name'] for v in manifest['variants'])} ({target['triple']})"),
        ("needs", _needs(target)),
        ("libc", libc_text(manifest)),
        ("runs here", "yes" if missing is None else f"no: {missing}"),
        *([("weights", f"{weights['file']}, {console.size(weights['bytes'])}, sha256 {weights['sha256']}")]
          if (weights := manifest.get("weights")) else []),
        ("sha256", f"{manifest['sha256']} (of the file with this field zeroed)"),
        ("functions", len(functions)),
    )
    for label, value in facts:
        print(f"{label:<10} {value}")
    print()
    console.print_table(
        ("function", "descriptor", "call", "output", "packed", "workspace", "MFLOP", "schedule"),
        [
            (
                function["name"],
                function["descriptor"],
                ", ".join(a["name"] for a in function["arguments"] if a["role"] != "output"),
                ", ".join(
                    console.shape(a["shape"]) for a in function["arguments"] if a["role"] == "output"
                ),
                console.size(function["packed_bytes"]),
                " + ".join(console.size(function[key]) for key in WORKSPACE if function.get(key)) or "none",
                f"{function['flops'] / 1e6:.2f}",
                schedule_text(function["schedule"]),
            )
            for function in functions
        ],
        right=("packed", "workspace", "MFLOP"),
    )


def _needs(target: dict[str, Any]) -> str:
    if "sms" in target:
        return "an NVIDIA GPU of compute capability " + " or ".join(f"{sm / 10:.1f}" for sm in target["sms"])
    return " ".join(target["requires"]) or f"any {target['arch']} CPU"


def _print_function(function: dict[str, Any]) -> None:
    print(f"{function['name']}  {function['descriptor']}")
    if "steps" in function:
        print(f"{function['flops']} flops in its layers, {function['bytes']} bytes of arrays and weights")
        networks.print_function(function, steps=True)
        return
    print(
        f"{function['flops']} flops, {function['bytes']} bytes moved, {function['packed_bytes']} bytes packed"
    )
    from tvmconv.formats.manifest import workspace_text

    print(workspace_text(function).rstrip(",") or "workspace not stated")
    print(f"schedule: {' '.join(f'{key}={value}' for key, value in function['schedule'].items())}\n")
    console.print_table(
        ("argument", "role", "shape", "dtype", "layout"),
        [
            (a["name"], a["role"], console.shape(a["shape"]), a["dtype"], a["layout"])
            for a in function["arguments"]
        ],
    )
