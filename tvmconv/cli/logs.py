"""`tvmconv logs`: what tuning found, and housekeeping of its folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tvmconv.base.errors import SpecError, TuningError
from tvmconv.cli import console, models
from tvmconv.cli.options import AsJson, Files
from tvmconv.cli.targets import OneTarget as Target

HELP = """List, prune and merge the logs of 'tvmconv tune', and say which descriptors have no record.

\b
Examples:
  tvmconv logs list                                the user's own and the shipped ones
  tvmconv logs list --log my_logs --target x86-64-v3 --json
  tvmconv logs missing -f layers.txt --target x86-64-v4 --exact
  tvmconv logs missing --onnx model.onnx --shape x=1x3x224x224
  tvmconv logs prune --log my_logs                 keep the best record of each descriptor
  tvmconv logs merge theirs --log my_logs          take over their records, the faster one if both have it

A folder of logs has a folder for each target. A layer with an epilogue (bias, residual, activation) takes the
record of its bare twin where it has none of its own; 'missing' counts that as covered, unless --exact.
"""

Log = Annotated[
    Path | None, typer.Option("--log", metavar="DIR", help="Folder of logs (default: the user's own).",
                              show_default=False)
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    logs = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    logs.callback(help=HELP)(lambda: None)
    logs.command("list", help="Print the verdict of each descriptor.")(list_verb)
    logs.command("missing", help="Print the descriptors that a target has no record of.")(missing_verb)
    logs.command("prune", help="Keep the best record of each descriptor.")(prune_verb)
    logs.command("merge", help="Take over the best records of other folders.")(merge_verb)
    app.add_typer(logs, name="logs", short_help="List, prune and merge what tuning found.")


def list_verb(log: Log = None, target: Target = "native", as_json: AsJson = False) -> None:
    """The verdicts of a folder, or of the user's own and the shipped one."""
    from dataclasses import asdict

    from tvmconv.formats.logs.entries import descriptor_of, read_index
    from tvmconv.schedules.machines import resolve
    from tvmconv.specs.kinds import parse_spec

    found = []
    for folder in _folders(log, target):
        for key, entry in sorted(read_index(folder).items()):
            descriptor = descriptor_of(key)
            try:
                parse_spec(descriptor)
            except SpecError as error:
                console.log(f"warning: {folder}: passed over: {error}")
                continue
            found.append({"descriptor": descriptor, "folder": str(folder), **asdict(entry)})
    if as_json:
        console.print_json({"target": resolve(target).name, "records": found})
        return
    rows = [
        (
            f"{r['seconds'] * 1e6:.1f}", f"{r['default_seconds'] * 1e6:.1f}",
            f"{r['default_seconds'] / r['seconds']:.2f}",
            f"{parse_spec(r['descriptor']).flops / r['seconds'] / 1e9:.1f}", r["trials"], r["threads"],
            r["record"], r["strategy"], "cold" if r["cold"] else "near", r["cpu"], r["descriptor"],
        )
        for r in found
    ]  # fmt: skip
    columns = ("us", "default us", "gain", "GFLOP/s", "trials", "threads", "record", "strategy",
               "weights", "cpu", "descriptor")
    console.print_table(columns, rows, right=columns[:6])


def missing_verb(
    descriptors: Annotated[
        list[str] | None, typer.Argument(metavar="DESCRIPTOR", show_default=False)
    ] = None,
    files: Files = None,
    onnx: models.Onnx = None,
    shapes: models.Shapes = None,
    layout: models.Layout = "auto",
    log: Log = None,
    target: Target = "native",
    strict: Annotated[
        bool, typer.Option("--exact", help="Also those covered by a twin's record.")
    ] = False,
) -> None:
    """Descriptors without a record, one per line; those with a twin's, on stderr."""
    from tvmconv.formats.logs.lookup import Logs
    from tvmconv.schedules.machines import resolve

    layers = models.requested(descriptors or [], files or [], onnx, shapes or [], layout, "look for")
    found = [spec for _, spec in layers]
    logs = Logs(resolve(target), None if log is None else _own(log, target))
    for spec in dict.fromkeys(found):
        known = [relative for relative, _, _ in logs.known(spec)]
        if spec in known:
            continue
        if strict or not known:
            print(spec)
        else:
            console.log(f"{spec}: covered by the record of {known[0]}")


def prune_verb(log: Log = None, target: Target = "native") -> None:
    """Keep the best record of each descriptor."""
    from tvmconv.tuning.log_upkeep import prune

    folder = _own(log, target)
    kept, dropped = prune(folder)
    print(f"{folder}: kept {console.count(kept, 'record')}, dropped {dropped}")


def merge_verb(
    others: Annotated[list[Path], typer.Argument(metavar="DIR", show_default=False)],
    log: Log = None,
    target: Target = "native",
) -> None:
    """Take over the best records of other folders."""
    from tvmconv.formats.logs import folder as folders
    from tvmconv.schedules.machines import resolve
    from tvmconv.tuning.log_upkeep import merge

    machine = resolve(target)
    into = folders.folder_of(folders.user_root() if log is None else log, machine)
    folders.prepare(into, machine)
    for other in others:
        source = folders.folder_of(other, machine)
        if not (source / folders.METADATA).exists():
            raise TuningError(f"{other}: no logs for {machine.name} in it")
        print(f"{into}: took {console.count(merge(source, into), 'record')} from {source}")


def _folders(log: Path | None, target: str) -> list[Path]:
    from tvmconv.formats.logs import folder as folders
    from tvmconv.schedules.machines import resolve

    machine = resolve(target)
    if log is not None:
        return [_own(log, target)]
    roots = (folders.user_root(), folders.shipped_root())
    return [folder for root in roots for folder, _, _ in folders.folders_of(root, machine)]


def _own(log: Path | None, target: str) -> Path:
    from tvmconv.formats.logs import folder as folders
    from tvmconv.schedules.machines import resolve

    machine = resolve(target)
    folder = folders.folder_of(folders.user_root() if log is None else log, machine)
    if not (folder / folders.METADATA).exists():
        raise TuningError(f"{folder}: no logs of {machine.name} there")
    return folder
