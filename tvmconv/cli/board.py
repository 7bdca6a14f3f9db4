"""`tvmconv board`: what runs on a board used for tuning by other machines."""

from __future__ import annotations

import os
import socket
import sys
from typing import Annotated

import typer

from tvmconv.cli import console

HELP = "Serve as a board that 'tvmconv tune --tracker' measures on."

SERVE_HELP = """Serve this machine to 'tvmconv tune --tracker', through TVM's RPC tracker.

\b
On the machine that tunes, the tracker ('rpc' extra):
  tvmconv board tracker
On the board:
  tvmconv board serve --tracker 127.0.0.1:9190 --key rpi4

It prints "ready" once the tracker knows it. The server is restarted when it dies, until SIGTERM or
Ctrl-C. It needs tvmconv and TVM ('compile' extra; libtvm_compiler.so may be deleted) but no compiler:
libraries come linked.

Anyone who reaches the port of the server, or of the tracker, can run any code as you: TVM's RPC knows neither
passwords nor encryption. Both listen on loopback unless told otherwise. Between machines go by SSH, or use
--host in a network where you trust everybody:

\b
  ssh -R 9190:127.0.0.1:9190 -L 9090:127.0.0.1:9090 pi@board tvmconv board serve --tracker 127.0.0.1:9190 \\
      --key rpi4
"""


TRACKER_HELP = """Run TVM's RPC tracker, with which boards register, until Ctrl-C.

\b
Examples:
  tvmconv board tracker
  tvmconv board tracker --port 9200

'tvmconv board serve --tracker HOST:PORT' on a board and 'tvmconv tune --tracker HOST:PORT' find each other by
it. It needs the 'rpc' extra, listens on loopback unless told otherwise, and knows no passwords: see 'tvmconv
board serve --help'.
"""


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    group = typer.Typer(rich_markup_mode=None, help=HELP, no_args_is_help=True)
    group.command("serve", help=SERVE_HELP, short_help="Run the RPC server of a board.")(serve)
    group.command("tracker", help=TRACKER_HELP, short_help="Run what boards register with.")(tracker)
    app.add_typer(group, name="board", help=HELP, short_help="Serve as a board for 'tune --tracker'.")


def serve(
    tracker: Annotated[
        str,
        typer.Option("--tracker", metavar="HOST:PORT", help="TVM's RPC tracker, with which boards register."),
    ],
    key: Annotated[str, typer.Option("--key", metavar="NAME", help="What kind of boards.")],
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on; see above.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=1, max=65400, help="The first port to try.")
    ] = 9090,
) -> None:
    """See SERVE_HELP."""
    from importlib.util import find_spec

    from tvmconv.base.errors import TuningError
    from tvmconv.tuning.measuring import board
    from tvmconv.tuning.measuring import tracker as trackers

    if find_spec("tvm") is None:
        raise TuningError("serving needs TVM's RPC: pip install 'tvmconv[compile]'")
    if not key or any(c.isspace() or c == ":" for c in key):
        raise TuningError(f"key: {key!r}, expected a name without spaces and colons")
    where = trackers.address(tracker)
    trackers.boards(where)
    board.supervise(board.Server(host, port, where, key), console.log)


def tracker(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=1, max=65534, help="Its port.")] = 9190,
) -> None:
    """See TRACKER_HELP."""
    from importlib.util import find_spec

    from tvmconv.base.errors import TuningError

    if find_spec("tvm") is None or find_spec("tornado") is None:
        raise TuningError("a tracker needs TVM's RPC: pip install 'tvmconv[rpc]'")
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        why = error.strerror or error
        raise TuningError(f"--host {host} --port {port}: cannot listen there: {why}") from None
    where = ["--host", host, "--port", str(port), "--port-end", str(port + 1)]
    os.execv(sys.executable, [sys.executable, "-m", "tvm.exec.rpc_tracker", *where])
