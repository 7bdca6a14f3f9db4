"""`tvmconv logs`: what tuning found, and housekeeping of its folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tvmconv.base.errors import SpecError, TuningError
from tvmconv.cli import console, models
from tvmconv.cli.options import (
    AsJson,
    Descriptors,
    Files,
    NoUserLogs,
    OneTarget,
    ReadLogs,
    WriteLog,
    log_of,
    logs_of,
)

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

def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    logs = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    logs.callback(help=HELP)(lambda: None)
    logs.command("list", help="Print the verdict of each descriptor.")(list_verb)
    logs.command("missing", help="Print the descriptors that a target has no record of.")(missing_verb)
    logs.command("prune", help="Keep the best record of each descriptor.")(prune_verb)
    logs.command("merge", help="Take over the best records of other folders.")(merge_verb)
    app.add_typer(logs, name="logs", short_help="List, prune and merge what tuning found.")


def list_verb(
    target: OneTarget = "native", log: ReadLogs = None, no_user_logs: NoUserLogs = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """The verdicts of the folders, in the order in which compile asks them."""
    from dataclasses import asdict

    from tvmconv.formats.logs.entries import descriptor_of, read_index
    from tvmconv.schedules.machines import resolve
    from tvmconv.specs.kinds import parse_spec

    found = []
    for folder in _folders(logs_of(log, no_user_logs) or ["user", "shipped"], target):
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
    descriptors: Descriptors = None,
    files: Files = None,
    onnx: models.Onnx = None,
    shapes: models.Shapes = None,
    fixed: models.Fixed = None,
    layout: models.Layout = "auto",
    target: OneTarget = "native",
    log: ReadLogs = None,
    no_user_logs: NoUserLogs = False,
    strict: Annotated[
        bool, typer.Option("--exact", help="Also those covered by a twin's record.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Descriptors without a record, one per line; those with a twin's, on stderr."""
    from tvmconv.formats.logs.lookup import Logs
    from tvmconv.schedules.machines import resolve

    layers = models.requested(
        descriptors or [], files or [], onnx, shapes or [], layout, "look for", fixed or []
    )
    folders = logs_of(log, no_user_logs)
    for folder in folders or ():
        if folder not in ("user", "shipped"):
            _own(Path(folder), target)  # raises an error where there are none
    logs, missing, covered = Logs(resolve(target), folders), [], {}
    for spec in dict.fromkeys(spec for _, spec in layers):
        known = [relative for relative, _, _ in logs.known(spec)]
        if spec in known:
            continue
        if strict or not known:
            missing.append(str(spec))
        else:
            covered[str(spec)] = str(known[0])
    if as_json:
        console.print_json({"target": resolve(target).name, "missing": missing, "covered": covered})
        return
    for text in missing:
        print(text)
    for text, relative in covered.items():
        console.log(f"{text}: covered by the record of {relative}")


def prune_verb(target: OneTarget = "native", log: WriteLog = None) -> None:
    """Keep the best record of each descriptor."""
    from tvmconv.tuning.log_upkeep import prune

    folder = _own(log_of(log), target)
    kept, dropped = prune(folder)
    print(f"{folder}: kept {console.count(kept, 'record')}, dropped {dropped}")


def merge_verb(
    others: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="Folders of logs to read.", show_default=False)
    ],
    target: OneTarget = "native",
    log: WriteLog = None,
) -> None:
    """Take over the best records of other folders."""
    from tvmconv.formats.logs import folder as folders
    from tvmconv.schedules.machines import resolve
    from tvmconv.tuning.log_upkeep import merge

    machine, own = resolve(target), log_of(log)
    into = folders.folder_of(folders.user_root() if own is None else own, machine)
    folders.prepare(into, machine)
    for other in others:
        source = folders.folder_of(other, machine)
        if not (source / folders.METADATA).exists():
            raise TuningError(f"{other}: no logs for {machine.name} in it")
        print(f"{into}: took {console.count(merge(source, into), 'record')} from {source}")


def _folders(logs: Sequence[str], target: str) -> list[Path]:
    from tvmconv.formats.logs import folder as folders
    from tvmconv.schedules.machines import resolve

    roots = {"user": folders.user_root, "shipped": folders.shipped_root}
    found: list[Path] = []
    for log in logs:
        if log in roots:
            found += [folder for folder, _, _ in folders.folders_of(roots[log](), resolve(target))]
        else:
            found.append(_own(Path(log), target))
    return found


def _own(log: Path | None, target: str) -> Path:
    from tvmconv.formats.logs import folder as folders
    from tvmconv.schedules.machines import resolve

    machine = resolve(target)
    folder = folders.folder_of(folders.user_root() if log is None else log, machine)
    if not (folder / folders.METADATA).exists():
        raise TuningError(f"{folder}: no logs of {machine.name} there")
    return folder
