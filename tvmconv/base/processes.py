"""Python processes: one that answers lines of JSON, started again after it died or took too long; forks that
do one task; the settings under which TVM is imported. Plain subprocesses, so that a caller's script needs no
``__main__`` guard."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any


def command(module: str, *arguments: object, torch: bool = False) -> list[str]:
    """The command of a process that runs ``serve`` of ``module``.

    It has this process's import path, which does not begin with the working directory, and no torch unless
    asked for: TVM would import it wherever it is installed, which takes longer than everything else.
    """
    without = "" if torch else "sys.modules['torch'] = None; "
    source = f"import sys; sys.path[:] = {sys.path!r}; {without}from {module} import serve; serve()"
    return [sys.executable, "-c", source, *map(str, arguments)]


@contextlib.contextmanager
def without_torch() -> Iterator[None]:
    """For importing TVM in this process as ``command`` does, where the process is ours. (If torch is imported
    later, tvm_ffi takes its tensors by the common protocol, not by its own faster path.)"""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None
    try:
        yield
    finally:
        del sys.modules["torch"]


@contextlib.contextmanager
def importing_tvm() -> Iterator[None]:
    """For importing TVM in somebody else's process: without torch, which takes longer than all else and which
    TVM imports where it is installed; but not while another thread could import it too."""
    with contextlib.nullcontext() if threading.active_count() > 1 else without_torch():
        yield


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """For importing TVM: a sixth of its time goes into garbage collection that finds nothing."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class ProcessError(Exception):
    """The process gave no answer: says how it ended, or that it took too long."""


def output(
    line: Sequence[str], data: bytes = b"", timeout: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> bytes:  # fmt: skip
    """What a process that is given ``data`` prints, within ``timeout`` seconds if not None. Raises
    ProcessError, with its last line on stderr."""
    try:
        done = subprocess.run(line, input=data, capture_output=True, timeout=timeout, check=False,
                              env=environment)  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ProcessError(f"no result within {timeout:.0f} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ProcessError(": ".join([f"ended with {ended(done.returncode)}", *said]))
    return done.stdout


class Process:
    """``module.serve()`` in its own process group, so that the parent handles Ctrl-C.

    ``environment``: variables in addition to this process's own; ``stderr``: as subprocess's, discarded if
    not given; ``torch``: may it be imported. The process starts with the first question.
    """

    def __init__(
        self, module: str, environment: Mapping[str, str] | None = None, *,
        stderr: int | IO[Any] | None = subprocess.DEVNULL, torch: bool = False,
    ) -> None:  # fmt: skip
        self.module, self.stderr, self.torch = module, stderr, torch
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self._read = b""

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, unless it is running."""
        if self.process is not None:
            return self.process
        self._read = b""
        self.process = subprocess.Popen(
            command(self.module, torch=self.torch), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.stderr, env=self.environment, start_new_session=True,
        )  # fmt: skip
        return self.process

    def ask(self, message: Any, timeout: float | None = None) -> Any:
        """The answer to ``message``, both JSON values, within ``timeout`` seconds if not None. Raises
        ProcessError; the next question then starts another process."""
        process = self.start()  # held, since another thread may stop it meanwhile
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            return json.loads(self._line(process.stdout, timeout))
        except TimeoutError:
            self.stop()
            raise ProcessError(f"no answer within {timeout:.0f} s") from None
        except ValueError:  # from its closed pipes, or from invalid JSON
            self.stop()
            raise ProcessError("the process was stopped, or answered what is no JSON") from None
        except (OSError, EOFError):
            code = process.wait()
            self.stop()
            raise ProcessError(f"the process ended with {ended(code)}") from None

    def _line(self, stdout: IO[bytes], timeout: float | None) -> bytes:
        output, start = stdout.fileno(), time.monotonic()
        while b"\n" not in self._read:
            left = None if timeout is None else max(0.0, start + timeout - time.monotonic())
            ready, _, _ = select.select([output], [], [], left)
            if not ready:
                raise TimeoutError
            data = os.read(output, 1 << 16)
            if not data:
                raise EOFError
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line

    def stop(self) -> None:
        """End the process and what it started."""
        process, self.process = self.process, None
        if process is None:
            return
        end_group(process.pid)
        process.communicate()


def is_running(pid: int) -> bool:
    """Whether a thread of a process has a CPU, or wants one."""
    with contextlib.suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                if (task / "stat").read_text().rpartition(")")[2].split()[0] == "R":
                    return True
            except OSError:  # that thread has ended
                continue
    return False


def settle(pid: int, limit: float = 0.5) -> bool:
    """Wait until no thread of a process runs, at most ``limit`` seconds; whether it came to that."""
    end = time.monotonic() + limit
    while is_running(pid):
        if time.monotonic() >= end:
            return False
        time.sleep(0.001)
    return True


def ended(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def answer_lines(answer: Any) -> None:
    """A process's main loop until its input ends: ``answer(message)`` for each line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # other output must not mix with the answers
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


def forked(work: Callable[[], dict[str, Any]], timeout: float) -> dict[str, Any]:
    """What ``work`` returns in a fork of this process, JSON; ``{"error": text}`` where it raises, dies or
    takes more than ``timeout`` seconds."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            try:
                answer = work()
            except Exception as error:
                answer = {"error": f"running: {error}"}
            with os.fdopen(writing, "w") as out:
                json.dump(answer, out)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        ready, _, _ = select.select([file], [], [], timeout)
        if not ready:
            os.kill(child, signal.SIGKILL)
        data = file.read()
    _, status = os.waitpid(child, 0)
    if not ready:
        return {"error": f"running: no result within {timeout:.0f} s"}
    if not data:
        return {"error": f"running: ended with {ended(os.waitstatus_to_exitcode(status))}"}
    return json.loads(data)


def end_group(group: int) -> None:
    """Kill a process that leads its own group, and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
