"""The board's side of tuning over a network: TVM's RPC server, and the supervisor that starts it again.

Candidates run in forks of a session's process (``measure``), so a crash or hang usually costs one trial. If
it takes down the session or the server, or the kernel's OOM killer strikes, it costs a restart.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tvmconv.base.errors import TuningError
from tvmconv.base.processes import command, end_group, ended
from tvmconv.tuning.measuring import tracker as trackers

MEASURE = "tvmconv.board.measure"
DESCRIBE = "tvmconv.board.describe"
_PORTS = 100  # that are tried from the first on
_PAUSE = 1.0  # seconds between a death and a new start


@dataclass(frozen=True)
class Server:
    """Where a server listens, the tracker it registers with, and under which key."""

    host: str
    port: int
    tracker: tuple[str, int]
    key: str


def supervise(server: Server, log: Callable[[str], None]) -> None:
    """Keep ``server`` running until SIGTERM or SIGINT, in a process group of its own that ends with it."""
    def stop(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    process = None
    try:
        while True:
            process = subprocess.Popen(
                command(__name__, json.dumps(asdict(server))), stdin=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
            log(f"server {process.pid} for key {server.key!r} on {server.host} is starting, "
                f"tracker {server.tracker[0]}:{server.tracker[1]}")  # fmt: skip
            code = process.wait()
            _end(process)
            log(f"server {process.pid} ended with {ended(code)}; starting another")
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        log("stopping")
    finally:
        if process is not None:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    end_group(process.pid)
    process.stdin.close()
    process.wait()


def serve() -> None:
    """The supervised process: TVM's server, until its loop or the supervisor ends."""
    facts = json.loads(sys.argv[1])
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    import tvm_ffi
    from tvm.rpc.server import PopenRPCServerState

    tvm_ffi.register_global_func(MEASURE, _measure, override=True)
    tvm_ffi.register_global_func(DESCRIBE, _describe, override=True)
    state = PopenRPCServerState(
        facts["host"], facts["port"], facts["port"] + _PORTS, tracker_addr=tuple(facts["tracker"]),
        key=facts["key"], silent=True,
    )  # fmt: skip
    threading.Thread(target=_say_when_known, args=(facts, state.port), daemon=True).start()
    state.thread.join()  # it ends when a session ended badly
    os._exit(1)


def _say_when_known(facts: dict[str, Any], port: int) -> None:
    """Print that the server is ready when the tracker has it, and not before."""
    while True:
        with contextlib.suppress(TuningError):
            if (facts["key"], port) in trackers.servers(tuple(facts["tracker"])):
                break
        time.sleep(0.5)
    text = f"tvmconv: ready: server {os.getpid()}, key {facts['key']!r}, port {port}\n"
    os.write(2, text.encode())  # in a single write, whatever else is printing


def _end_with_supervisor() -> None:
    while os.read(0, 1):  # not through sys.stdin: a fork would wait for the lock that this thread holds
        pass
    os.killpg(0, signal.SIGKILL)


def _describe() -> str:
    """Facts about this board, JSON."""
    from tvmconv.formats.cpu_features import host_arch
    from tvmconv.formats.logs.emulation import cpu_model, emulator

    facts = {"arch": host_arch(), "cpu": cpu_model(), "cpus": len(os.sched_getaffinity(0))}
    return json.dumps({**facts, "emulated": emulator() is not None})


def _measure(text: str) -> str:
    """``measure``'s answer to its message, both JSON; the library is a previously uploaded file."""
    import tvm_ffi

    from tvmconv.tuning.measuring import measure

    message = json.loads(text)
    os.environ["TVMCONV_NUM_THREADS"] = str(message["threads"])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: message["threads"]])
    library = str(tvm_ffi.get_global_func("tvm.rpc.server.workpath")(message["library"]))
    return json.dumps(measure.measure({**message, "library": library}))
