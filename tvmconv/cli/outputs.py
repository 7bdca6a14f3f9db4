"""What `compile` writes: whether it can be written, what it depends on, and the report of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmconv.base.errors import Error
from tvmconv.cli import console

_REPORTED = (
    "name", "descriptor", "packed_bytes", "baked", "flops", "schedule", "onnx_nodes", "arguments", "steps",
    "workspace_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class Outputs:
    """The library's file, the header's and the depfile's; None: not written."""

    library: Path
    header: Path | None
    depfile: Path | None

    @classmethod
    def of(cls, output: Path, header: Path | None, no_header: bool, depfile: Path | None) -> Outputs:
        """What the flags ask for. Raises Error for those that cannot go together, and for files that cannot
        be written."""
        check_file("-o", output)
        if header is not None and no_header:
            raise Error(f"--header {header}: expected no --no-header beside it")
        made = cls(output, None if no_header else header or output.with_suffix(".h"), depfile)
        for option, file in (("--header", made.header), ("--depfile", depfile)):
            if file is not None:
                check_file(option, file)
        files = [file.absolute() for file in made.files]
        if len(set(files)) < len(files):
            raise Error(f"-o {output}: expected files that differ for library, header and depfile")
        return made

    @property
    def files(self) -> list[Path]:
        """Those that are written."""
        return [file for file in (self.library, self.header, self.depfile) if file is not None]

    def check(self, target: str, cc: str | None, soname: str | None) -> None:
        """Find out before a long compile that such a file cannot be made. Raises Error."""
        from tvmconv.compiler.artifact.compilers import find_cc
        from tvmconv.compiler.artifact.linker import check_soname, kind_of
        from tvmconv.schedules.machines import resolve_all

        machine = resolve_all(target)[0]
        kind = kind_of(self.library, machine)
        if soname is not None:
            check_soname(soname, self.library, kind)
        find_cc(machine, cc)

    def write_depfile(self, inputs: Iterable[Path]) -> None:
        """A Makefile's rule that what is made depends on ``inputs``, which may be gone later."""
        if self.depfile is None:
            return
        made = " ".join(_escaped(file) for file in (self.library, self.header) if file is not None)
        sources = list(dict.fromkeys(_escaped(file) for file in inputs))
        lines = [" \\\n  ".join([f"{made}:", *sources]), *(f"{source}:" for source in sources)]
        try:
            self.depfile.write_text("\n".join(lines) + "\n", encoding="utf-8")
        except OSError as error:
            raise Error(f"--depfile {self.depfile}: cannot be written: {error.strerror}") from None

    def report(self, manifest: dict[str, Any], seconds: float) -> dict[str, Any]:
        """What was made, as ``--json`` has it."""
        kinds = [("library", self.library), ("header", self.header), ("depfile", self.depfile)]
        if weights := manifest.get("weights"):
            kinds.append(("weights", self.library.with_name(weights["file"])))
        return {
            "artifacts": [
                {"path": str(file), "kind": kind, "size": file.stat().st_size,
                 "sha256": console.file_sha256(file)}
                for kind, file in kinds
                if file is not None
            ],
            "target": ", ".join(variant["name"] for variant in manifest["variants"]),
            "seconds": round(seconds, 3),
            "functions": [
                {key: function[key] for key in _REPORTED if key in function}
                for function in manifest["functions"]
            ],
        }  # fmt: skip


def check_file(option: str, file: Path) -> None:
    """Find out before a long run that a file, which ``option`` names, cannot be written. Raises Error."""
    if file.is_dir():
        raise Error(f"{option}: {file} is a folder; expected the name of a file to write")
    if not file.parent.is_dir():
        raise Error(f"{option} {file}: no folder {file.parent}; expected one that exists")
    if not os.access(file.parent, os.W_OK):
        raise Error(f"{option} {file}: {file.parent} is not writable; expected a folder that is")


def inputs_of(
    model: Path | None, files: Sequence[str], names: str | None, target: str, logs: Sequence[str] | None
) -> list[Path]:
    """The files that a library is made from: the model with its external weights, lists of descriptors and of
    names, and tuning logs."""
    from tvmconv.formats.logs.lookup import Logs
    from tvmconv.schedules.machines import resolve_all

    found = [Path(file) for file in files if file != "-"]
    if model is not None:
        from tvmconv.onnx.reading.external import files_of

        found += [model, *files_of(model)]
    if names is not None and Path(names).is_file():
        found.append(Path(names))
    for machine in resolve_all(target):
        found += [file for file in Logs(machine, logs).files if file.is_file()]
    return found


def print_report(report: dict[str, Any], verbose: bool) -> None:
    """The report as tables."""
    functions = report["functions"]
    print(f"{console.count(len(functions), 'function')} for {report['target']} in {report['seconds']:.1f} s")
    console.print_table(
        ("file", "kind", "size", "sha256"),
        [(a["path"], a["kind"], console.size(a["size"]), a["sha256"]) for a in report["artifacts"]],
        right=("size",),
    )
    columns, rows = ["function", "descriptor"], [[f["name"], f["descriptor"]] for f in functions]
    if verbose:
        columns.append("schedule")
        for row, function in zip(rows, functions, strict=True):
            row.append(schedule_text(function["schedule"]))
    print()
    console.print_table(columns, rows)


def schedule_text(schedule: Mapping[str, Any]) -> str:
    """A function's schedule on one line: "default, depthwise", or "tuned, depthwise, RECORD", perhaps of a
    twin; whether it was tuned and the default won; and why a record was not used."""
    words = [str(schedule[key]) for key in ("source", "strategy", "record") if key in schedule]
    if "us" in schedule and schedule["us"] >= schedule["default_us"]:
        words[0] = "tuned: the default won"
    if "unused_record" in schedule:
        words.append(f"not {schedule['unused_record']}")
    if "twin" in schedule:
        words.append(f"the record of {schedule['twin']}")
    if "why" in schedule:
        words.append(f"for {schedule['why']}")
    return ", ".join(words)


def _escaped(path: Path) -> str:
    """A path in a Makefile's rule."""
    text = str(path).replace("$", "$$")
    return "".join("\\" + letter if letter in " #\t" else letter for letter in text)
