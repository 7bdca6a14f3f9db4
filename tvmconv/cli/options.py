"""Options that several verbs have, each with one name, form, help and place in the order of `ORDER`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tvmconv.base.errors import Error
from tvmconv.cli import completion, given

ORDER = (
    "--file", "--onnx", "--shape", "--set", "--layout", "--whole", "--input", "--target", "--log",
    "--no-user-logs", "--threads", "--rounds", "--seed", "--output", "--verbose", "--json",
)  # fmt: skip
"""Where verbs have these, they come in this order, whatever stands between: what, how, where to."""

Descriptors = Annotated[
    list[str] | None,
    typer.Argument(metavar="DESCRIPTOR", help="DESCRIPTOR or NAME=DESCRIPTOR, several.", show_default=False),
]
DescriptorsOrModel = Annotated[
    list[str] | None,
    typer.Argument(metavar="DESCRIPTOR|MODEL", show_default=False,
                   help="DESCRIPTOR or NAME=DESCRIPTOR, several; or one ONNX model, all of it."),
]  # fmt: skip
Library = Annotated[
    Path,
    typer.Argument(metavar="LIBRARY", help="A library that tvmconv compiled.", callback=given.expect_library),
]
Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="An ONNX model.", callback=given.expect_model)
]
Functions = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Functions of it, by name or ONNX node (default: all).",
                   show_default=False, autocompletion=completion.functions),
]  # fmt: skip
Files = Annotated[
    list[str] | None,
    typer.Option("--file", "-f", metavar="FILE", help="Read descriptors from a file ('-': stdin).",
                 show_default=False, callback=given.expect_lists),
]  # fmt: skip
Target = Annotated[
    str,
    typer.Option(
        "--target", "-t", metavar="TARGET", help="One of 'tvmconv targets', or several, joined by commas.",
        autocompletion=completion.targets,
    ),
]  # fmt: skip
OneTarget = Annotated[
    str,
    typer.Option("--target", "-t", metavar="TARGET", help="One of 'tvmconv targets'.",
                 autocompletion=completion.targets),
]  # fmt: skip
ReadLogs = Annotated[
    list[str] | None,
    typer.Option(
        "--log", metavar="DIR", show_default=False, autocompletion=completion.words("user", "shipped"),
        help="Folder of tuning logs to read, several in order; 'user' and 'shipped' stand for your own and "
             "tvmconv's (default: user, shipped).",
    ),
]  # fmt: skip
NoUserLogs = Annotated[
    bool, typer.Option("--no-user-logs", help="As --log shipped: the result does not depend on who runs it.")
]
WriteLog = Annotated[
    list[Path] | None,
    typer.Option("--log", metavar="DIR", show_default=False,
                 help="Folder of tuning logs to write to (default: your own)."),
]  # fmt: skip
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, show_default=False,
                 help="Threads that kernels run on (default: the CPUs that this process may use)."),
]  # fmt: skip
Timed = Annotated[
    list[str] | None,
    typer.Argument(metavar="LIBRARY [NAME]|DESCRIPTOR", autocompletion=completion.functions,
                   show_default=False, help="Layers; or one library, and functions of it (default: all)."),
]  # fmt: skip
Against = Annotated[
    str | None,
    typer.Option("--against", metavar="ENGINES", show_default=False,
                 autocompletion=completion.parts("torch", "onnxruntime", "openvino", "litert", "all"),
                 help="Of torch, onnxruntime, openvino, litert; or all."),
]  # fmt: skip
SampleMs = Annotated[
    float, typer.Option("--sample-ms", metavar="N", min=0.01, help="How long a sample lasts.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of random numbers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def logs_of(log: list[str] | None, no_user_logs: bool) -> list[str] | None:
    """What ``tuning_logs`` is of the two options; None for the default."""
    if no_user_logs and "user" in (log or ()):
        raise Error("--no-user-logs: expected no --log user beside it")
    return log or (["shipped"] if no_user_logs else None)


def log_of(log: list[Path] | None) -> Path | None:
    """The one folder of `WriteLog`; None for the user's own."""
    if len(log or ()) > 1:
        raise Error(f"--log: {', '.join(map(str, log or ()))}, expected one folder to write to")
    return log[0] if log else None


def refuse_with_library(target: str, logs: Sequence[str] | None) -> None:
    """Raise Error for options that say how to compile, beside a library."""
    if target != "native" or logs is not None:
        which = "--target" if target != "native" else "--log, --no-user-logs"
        raise Error(f"{which}: expected descriptors to compile, not a library")
