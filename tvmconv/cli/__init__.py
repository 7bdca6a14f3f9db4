"""The `tvmconv` command.

`main` is the entry point: it runs a verb and turns every user error into one line on stderr and exit
status 2. One module per verb; `app.VERBS` lists them. Nothing here imports TVM until a verb compiles.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

_SHELL_PACKAGES = {"typer", "rich", "click"}
# Of pip, where a verb finds that a package is missing which it cannot do without.
_EXTRAS = {
    "tvm": "compile", "tvm_ffi": "compile", "elftools": "compile", "onnx": "onnx", "onnxruntime": "onnx",
    "torch": "torch", "xgboost": "tune", "tornado": "rpc", "cloudpickle": "rpc", "matplotlib": "bench",
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own) and return the exit status.

    0: done; 1: ran, but the result is bad (a kernel failed `verify`); 2: a user error, reported in one line
    on stderr; 130: interrupted.
    """
    try:
        try:
            from tvmconv.cli.app import run_app
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in _SHELL_PACKAGES:
                raise
            return _fail("the command line needs typer and rich: pip install 'tvmconv[cli]'")
        return _run(run_app, list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return 130


def _run(run_app, argv: list[str]) -> int:
    from tvmconv.base.errors import Error
    from tvmconv.cli.app import usage_message

    try:
        status = run_app(argv)
        sys.stdout.flush()
        return status
    except Error as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _EXTRAS:
            raise
        return _fail(f"this needs {package}: pip install 'tvmconv[{_EXTRAS[package]}]'")
    except BrokenPipeError:  # the reader (`| head`) is gone
        _settle_stdout()
        return 1
    except OSError as error:
        if error.strerror is None:
            raise
        _settle_stdout()
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    except Exception as error:
        message = usage_message(error, argv)
        if message is None:
            raise
        return _fail(message)


def _settle_stdout() -> None:
    """Flush stdout, or discard its buffer if that fails: the flush at exit would fail again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str) -> int:
    print("tvmconv: error: " + " ".join(message.split()), file=sys.stderr)
    return 2
