"""`tvmconv verify`: each kernel against the float64 reference."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmconv.base.errors import Error
from tvmconv.cli import completion, console, given, models, networks
from tvmconv.cli.compile import build
from tvmconv.cli.options import AsJson, NoUserLogs, ReadLogs, Seed, Target, logs_of, refuse_with_library
from tvmconv.cli.specs import collect, looks_like_descriptor
from tvmconv.cli.targets import check_here

if TYPE_CHECKING:
    from tvmconv.frontends.verify import Check
    from tvmconv.runtime import Module

HELP = """Check a library's functions, or descriptors compiled on the spot, against a float64 reference.

\b
Examples:
  tvmconv verify conv.so
  tvmconv verify conv.so dw --seed 7
  tvmconv verify conv2d:1x14x14x32:o32:k3x3:p1:g32:NHWC:float32:bias:relu --target native
  tvmconv verify --onnx model.onnx model.so --input x.npy --time
  tvmconv verify model.so --onnx model.onnx --steps

Every function runs twice: on standard normal data, within a tolerance, and on small integers, where the
result has to be equal (the activations relu, relu6, clip and none; others may round, and so may Winograd's
larger tiles: 'allowed' says what is). The relative error is the largest error over the size of the result.
A failure prints a line that repeats it, and the exit status is 1. With --onnx, the model from which the
library was compiled runs in onnxruntime, and each kernel on the activations that arrive at its layer;
errors are relative to the range of the layer's output. --time adds the median time of each layer, and
onnxruntime's by its own profiler. The results of a library of a whole network are compared with
onnxruntime's (--whole: refuse another); --steps names the first step that deviates from a float64
reference, if one does.
"""


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("verify", help=HELP, short_help="Check kernels against a reference.")(verify_verb)


def verify_verb(
    what: Annotated[
        list[str],
        typer.Argument(metavar="LIBRARY [NAME]|DESCRIPTOR", autocompletion=completion.functions,
                       help="One library, and functions of it (default: all); or descriptors."),
    ],
    onnx: models.Onnx = None,
    whole: models.Whole = False,
    steps: Annotated[
        bool, typer.Option("--steps", help="Of a whole network: look for the first step that deviates.")
    ] = False,
    inputs: models.Inputs = None,
    timed: models.Time = False,
    target: Target = "native",
    log: ReadLogs = None,
    no_user_logs: NoUserLogs = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="N",
            min=0.0,
            show_default=False,
            help="Largest relative error on normal data (default: by type and length of the sums).",
        ),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """See HELP."""
    from tvmconv.frontends.verify import FILLS, verify

    logs = logs_of(log, no_user_logs)
    if given.kind_of_file(what[0]) == "model":
        given.expect_library(Path(what[0]))
    if not all(map(looks_like_descriptor, what)):
        given.expect_library(Path(what[0]))
        refuse_with_library(target, logs)
        whole = whole or (onnx is not None and networks.is_whole(Path(what[0])))
    if whole or steps:
        networks.check_verified(onnx, what, timed, whole)
        assert onnx is not None
        if not networks.verify_library(onnx, Path(what[0]), inputs or [], seed, tolerance, steps, as_json):
            raise typer.Exit(1)
        return
    if onnx is not None:
        if len(what) != 1:
            raise Error("--onnx: expected one library, all of which is checked")
        if not models.verify_library(onnx, Path(what[0]), inputs or [], seed, tolerance, timed, as_json):
            raise typer.Exit(1)
        return
    if inputs or timed:
        raise Error(f"{'--input' if inputs else '--time'}: needs --onnx MODEL")
    module, chosen = _chosen(what, target, logs)
    checks: list[Check] = []
    with console.progress("verifying") as step:
        step(0, len(chosen) * len(FILLS), chosen[0] if chosen else "")
        for check in verify(module, chosen, seed=seed, tolerance=tolerance):
            checks.append(check)
            step(len(checks), len(chosen) * len(FILLS), check.name)
    target = module.variant
    if as_json:
        ok = all(check.ok for check in checks)
        console.print_json({"target": target, "ok": ok, "checks": [_json(check) for check in checks]})
    else:
        _print(checks, target, tolerance)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _chosen(what: Sequence[str], target: str, logs: Sequence[str] | None) -> tuple[Module, list[str]]:
    """The library, and the names of its functions that are to be checked."""
    if all(map(looks_like_descriptor, what)):
        check_here(target)
        module = build(collect(what), target, tuning_logs=logs).load()
        return module, list(module.functions)
    from tvmconv.runtime import load

    library, *names = what
    module = load(Path(library))
    return module, [entry["name"] for entry in given.functions_of(Path(library), module.manifest, names)]


def repro(check: Check, target: str, tolerance: float | None = None) -> str:
    """The command that repeats a failure, from the descriptor alone."""
    command = f"tvmconv verify --seed {check.seed} '{check.descriptor}' --target {shlex.quote(target)}"
    return command if tolerance is None else f"{command} --tolerance {tolerance!r}"


def _json(check: Check) -> dict[str, Any]:
    finite = {key: None if value == float("inf") else value for key, value in asdict(check).items()}
    return {**finite, "ok": check.ok}


def _print(checks: Sequence[Check], target: str, tolerance: float | None) -> None:
    columns = ("function", "data", "max abs", "max rel", "allowed", "result", "descriptor")
    rows = [
        (
            check.name,
            check.fill,
            f"{check.max_abs:.2e}",
            f"{check.max_rel:.2e}",
            f"{check.tolerance:.1e}" if check.tolerance else "equal",
            "ok" if check.ok else "FAIL",
            check.descriptor,
        )
        for check in checks
    ]
    console.print_table(columns, rows, right=("max abs", "max rel", "allowed"))
    failed = [check for check in checks if not check.ok]
    for check in failed:
        wrong = console.count(check.wrong, "element")
        print(f"FAIL {check.name}: {check.fill} data, {wrong} wrong, the worst at {check.worst}")
        print(f"  repeat with: {repro(check, target, tolerance)}")
    functions = console.count(len({check.name for check in checks}), "function")
    print(f"{functions} checked, {console.count(len(checks), 'run')}, {len(failed)} failed")
