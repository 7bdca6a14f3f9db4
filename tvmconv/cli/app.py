"""The Typer application: the verbs, and what `tvmconv --help` teaches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from tvmconv.cli import console, old_spellings

VERBS = (
    "compile", "run", "verify", "bench", "report", "tune", "logs", "inspect", "extract", "explain", "show",
    "targets", "board", "cmake_dir",
)  # fmt: skip
"""Modules of this package; each has `register(app)`, which adds its verb."""

HELP = """Compile convolutions into one shared library that needs nothing but the C library.

\b
A convolution is described on one line, tokens joined by ":":
  conv2d:1x112x112x32:o64:k3x3:s2:p1:NHWC:float32:bias:relu6
\b
  conv2d        kind and rank: conv1d, conv2d, conv3d
  1x112x112x32  input shape, in the order that the layout names
  o64           output channels
  k3x3          kernel
  s2            stride              (default 1; s1x2 per dimension)
  p1            padding             (default 0; p1x2, p0+1x0+1 low+high, pSAME, pVALID, pFULL)
  reflect       what padding holds  (default zeros; reflect, replicate, circular)
  d2            dilation            (default 1)
  g32           groups              (default 1; depthwise: as many as input channels)
  NHWC          layout: NHWC or NCHW
  float32       element type: float32, float64, float16, bfloat16, int8, uint8; int8/int32 for exact sums
  bias, relu6   optional: bias, then an activation (relu, relu6, hard_swish, clip=0,6, ...)
  sh2           optional: output channels shuffled in this many groups
\b
Poolings and deformable convolutions likewise:
  maxpool2d:1x56x56x64:k3x3:s2:p1:ceil:NHWC:float32  avgpool2d:...:countpad  (stride: the kernel's size)
  deform2d:1x64x28x28:o64:k3x3:p1:og2:mask:bias:NCHW:float32

\b
A first session:
  tvmconv compile first=conv2d:1x224x224x3:o32:k3x3:s2:p1:NHWC:float32:bias:relu6 -o conv.so
  tvmconv inspect conv.so
  tvmconv verify conv.so
  tvmconv run conv.so first

Results go to stdout, progress and logs to stderr; errors are one line and exit status 2.
'tvmconv VERB --help' has examples for each verb; after 'tvmconv --install-completion', perhaps with bash, zsh
or fish, the shell completes verbs, options, targets, and the functions of a library.
"""

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def build(verb: str | None = None) -> typer.Typer:
    """The application with every verb registered, or one alone, which imports less."""
    app = typer.Typer(
        name="tvmconv",
        rich_markup_mode=None,  # plain help keeps the examples' line breaks, and pipes well
        pretty_exceptions_enable=False,
        context_settings=_CONTEXT,
    )
    app.callback(invoke_without_command=True, help=HELP)(_root)
    for module in VERBS:
        if verb in (None, module.replace("_", "-")):
            import_module(f"tvmconv.cli.{module}").register(app)
    return app


def whole_command(verb: str | None = None) -> Any:
    """The command with every verb, or one alone, as the parser has it."""
    made = typer.main.get_command(build(verb))
    commands = [made]
    for command in commands:
        commands += getattr(command, "commands", {}).values()
        for parameter in command.params:  # some versions show Python's types of arguments: list[str]
            if parameter.param_type_name == "argument" and hasattr(parameter, "display_type_rich"):
                parameter.display_type_rich = lambda ctx: None
    return made


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from tvmconv.base.version import own_version

        print(f"tvmconv {own_version()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def run_app(argv: Sequence[str]) -> int:
    """Run the verb that `argv` names; usage errors and tvmconv's own errors propagate."""
    console.show_log()
    if len(argv) == 2 and argv[0] in ("--install-completion", "--show-completion"):
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"  # typer would ignore the name
    verbs = [module.replace("_", "-") for module in VERBS]
    command = whole_command(argv[0] if argv and argv[0] in verbs else None)
    try:
        with console.warnings_in_a_line():
            words = old_spellings.renewed(argv)
            result = command.main(args=words, prog_name="tvmconv", standalone_mode=False)
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        return 130
    return result if isinstance(result, int) else 0


def usage_message(error: Any, argv: Sequence[str]) -> str | None:
    """The one line for an error of the argument parser in `argv`; None if `error` is something else."""
    # Typer brings its own copy of click since 0.20 or so: take the base class from what it raises.
    bases = [base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"]
    if not any(isinstance(error, base) for base in bases):
        return None
    context = getattr(error, "ctx", None)
    verb = f" {argv[0]}" if argv and argv[0].replace("-", "_") in VERBS else ""
    where = context.command_path if context is not None else f"tvmconv{verb}"
    return f"{error.format_message().rstrip('.')} (see '{where} --help')"
