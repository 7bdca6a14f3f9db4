"""Tuning over RPC: two emulated boards, one of whose servers is killed; boards that hang; keys and trackers
that are not there.

The emulated boards have TVM's runtime alone, neither its compiler nor another one; what they measure is
thrown away.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import edge
import onnx
import pytest
from cli_tools import tool
from small_networks import model, node, weights

import tvmconv
from tvmconv.base.errors import TuningError
from tvmconv.cli import main
from tvmconv.compiler.codegen import build_kernel
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.emulation import cpu_model
from tvmconv.formats.logs.entries import read_index, write_entry
from tvmconv.formats.logs.lookup import Logs
from tvmconv.formats.logs.traces import is_emulated
from tvmconv.schedules.machines import native, resolve
from tvmconv.specs.kinds import parse_spec
from tvmconv.tuning.measuring import remote, runner
from tvmconv.tuning.measuring import tracker as trackers

LAYER = "conv2d:1x8x8x16:o16:k3x3:p1:g16:NHWC:float32"
KEY = "test-board"
CPU = "cortex-a72"


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _wait(ready, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(TuningError):
            if ready():
                return
        time.sleep(0.2)
    raise AssertionError("nothing after a minute")


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(20)


@pytest.fixture(scope="module")
def tracker() -> Iterator[str]:
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tvmconv", "board", "tracker", "--host", "127.0.0.1", "--port", str(port)],
        start_new_session=True,
    )  # fmt: skip
    try:
        _wait(lambda: trackers.boards(("127.0.0.1", port)) is not None)
        yield f"127.0.0.1:{port}"
    finally:
        _end(process)


def _on_board(folder: Path, *arguments: object, **options: object) -> subprocess.Popen[bytes]:
    """The command line as a board runs it, with the packages that scripts/board_packages.sh chose for it."""
    packages = edge.root("aarch64").parent / "board"
    if not packages.is_dir():
        pytest.skip("no packages for a board: scripts/board_packages.sh, $TVMCONV_ROOTS")
    environment = {**os.environ, "PYTHONPATH": str(packages), "TVMCONV_QEMU_CPU": CPU}
    command = [edge.root("aarch64") / "python3", "-m", "tvmconv", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, cwd=folder, start_new_session=True, **options)


def _board(tracker: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as errors:
        return _on_board(folder, "board", "serve", "--tracker", tracker, "--key", KEY,
                         "--port", min(_free_port(), 65400), stderr=errors)  # fmt: skip


def _servers(log: Path) -> list[int]:
    """Process groups of the servers that a supervisor has started."""
    return [int(pid) for pid in re.findall(r"server (\d+) for key", log.read_text())]


def test_a_network_runs_on_the_board(tracker: str, tmp_path: Path) -> None:
    """Its steps and the whole of it: on this machine, as a board of its own."""
    nodes = [node("Conv", "x w", "a", pads=[1] * 4), node("Relu", "a", "y")]
    onnx.save(model(*nodes, **weights(w=(16, 3, 3, 3))), tmp_path / "net.onnx")
    command = [sys.executable, "-m", "tvmconv", "board", "serve", "--tracker", tracker, "--key", "here",
               "--port", str(min(_free_port(), 65400))]  # fmt: skip
    place = trackers.address(tracker)
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as board:
        try:
            _wait(lambda: trackers.boards(place)["here"] == 1)
            done = tool("tune", "--onnx", "net.onnx", "--whole", "--trials", 1, "--target", "x86-64-v3",
                        "--tracker", tracker, "--key", "here", "--log", "logs", cwd=tmp_path)  # fmt: skip
        finally:
            _end(board)
    assert done.returncode == 0, done.stderr
    assert "measured, in turns" in done.stdout
    (run,) = folders.read_metadata(tmp_path / "logs" / "x86-64-v3")["runs"]
    assert run["cpu"] == cpu_model()


def test_tuning_survives_a_killed_server(tracker: str, tmp_path: Path) -> None:
    edge.emulator("aarch64")
    logs = [tmp_path / "one", tmp_path / "two"]
    boards = [_board(tracker, tmp_path, log) for log in logs]
    place = trackers.address(tracker)
    tune = [sys.executable, "-m", "tvmconv", "tune", "--tracker", tracker, "--key", KEY, "--target", CPU,
            "--log", str(tmp_path / "logs"), "--trials", "32", LAYER]  # fmt: skip
    try:
        _wait(lambda: trackers.boards(place)[KEY] == 2, 300)
        refused = subprocess.run([*tune[:-5], *tune[-3:]], capture_output=True, text=True, check=False,
                                 env={**os.environ, "XDG_DATA_HOME": str(tmp_path / "home")})  # fmt: skip
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1
        assert "expected a folder for records of aarch64, emulated" in refused.stderr
        assert not (tmp_path / "home").exists()
        with subprocess.Popen(tune, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tuning:
            said = ""
            while "trials" not in said:  # until the default has been measured; batches follow
                line = tuning.stderr.readline()
                said += line
                assert line, said
            (killed,) = _servers(logs[0])
            os.killpg(killed, signal.SIGKILL)
            printed, errors = tuning.communicate(timeout=240)
        assert tuning.returncode == 0, errors
        assert LAYER in printed
        # Not more fails than what the killed server was measuring.
        assert "32/32 trials" in errors and set(re.findall(r"(\d+) failure", errors)) <= {"1"}, errors
        _wait(lambda: len(_servers(logs[0])) == 2)  # the supervisor started another
        _wait(lambda: trackers.boards(place)[KEY] == 2)
    finally:
        for process in boards:
            _end(process)
    for pid in _servers(logs[0]) + _servers(logs[1]):
        with pytest.raises(ProcessLookupError):
            os.killpg(pid, 0)  # nothing is left when the supervisor has ended
    folder = tmp_path / "logs" / CPU
    with pytest.raises(TuningError, match="measured under emulation"):
        tvmconv.compile({"f": LAYER}, CPU, tuning_logs=tmp_path / "logs")
    listed = tool("logs", "list", "--log", tmp_path / "logs", "--target", CPU)
    assert "aarch64, emulated" in listed.stdout
    records = folders.read_records(folder)
    assert records and all(is_emulated(facts[0]) for _, _, facts in records)
    (entry,) = read_index(folder).values()
    assert entry.emulated
    # Even if somebody copies it among others: both the entry and the record say so.
    metadata = folders.read_metadata(folder)
    folders.write_json(folder / folders.METADATA, {k: v for k, v in metadata.items() if k != "emulated"})
    assert Logs(resolve(CPU), folder).find(parse_spec(LAYER)) is None
    write_entry(folder, LAYER, replace(entry, emulated=False))  # as if it were real, to see that it works
    library = tvmconv.compile({"f": LAYER}, CPU, tuning_logs=tmp_path / "logs")
    assert library.manifest["functions"][0]["schedule"]["source"] == "tuned"
    made = library.export(tmp_path / "f.so")
    checked = _on_board(tmp_path, "verify", made, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = checked.communicate(timeout=120)
    assert checked.returncode == 0, said.decode()


def test_a_board_that_hangs_does_not_hold_up_the_others(
    tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers on this machine; one stops answering, then the other one too."""
    monkeypatch.setattr(remote, "_CONNECT", 30.0)
    monkeypatch.setattr(remote, "_WITHOUT_BOARD", 45.0)
    key, machine, logs = "hanging", native(), [tmp_path / "one", tmp_path / "two"]
    serve = [sys.executable, "-m", "tvmconv", "board", "serve", "--tracker", tracker, "--key", key,
             "--host", "127.0.0.1", "--port"]  # fmt: skip
    boards = []
    kernels = {
        name: build_kernel(parse_spec(LAYER), machine, None, f"kernel_{name}")
        for name in (runner.BASELINE, "a", "b", "c", "d")
    }
    try:
        for log in logs:
            with log.open("wb") as errors:
                port = str(min(_free_port(), 65400))
                boards.append(subprocess.Popen([*serve, port], stderr=errors, start_new_session=True))
        _wait(lambda: all("ready: server" in log.read_text() for log in logs))
        assert trackers.boards(trackers.address(tracker))[key] == 2  # "ready" says so
        running = remote.RPCRunner(machine, tracker, key, threads=1)
        (stuck,), (other,) = _servers(logs[0]), _servers(logs[1])
        try:
            os.killpg(stuck, signal.SIGSTOP)
            measured = list(running.measure(kernels, ["a", "b", "c", "d"], runner.SEARCH))
            assert len(measured) == 4 and not any(found.error for found in measured)
            os.killpg(other, signal.SIGSTOP)
            with pytest.raises(TuningError, match="no board for 45 s"):
                list(running.measure(kernels, ["a"], runner.SEARCH))
        finally:
            running.stop()
            for server in (stuck, other):
                os.killpg(server, signal.SIGCONT)
    finally:
        for process in boards:
            _end(process)


def test_what_is_not_there_is_an_error_in_seconds(
    tracker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.monotonic()
    monkeypatch.setattr(trackers, "_WAIT", 2.0)  # a minute, else
    words = ["--tracker", tracker, "--key", "rpi9", "-t", "cortex-a72", "--trials", "4", LAYER]
    assert main(["tune", *words]) == 2
    waiting, failed = capsys.readouterr().err.splitlines()
    assert "waiting for a board of key 'rpi9'" in waiting and "key 'rpi9': no board of it" in failed
    nobody = f"127.0.0.1:{_free_port()}"
    done = tool("tune", "--tracker", nobody, "--key", KEY, "-t", "cortex-a72", "--trials", "4", LAYER)
    assert (done.returncode, f"tracker {nobody}" in done.stderr) == (2, True)
    done = tool("board", "serve", "--tracker", nobody, "--key", KEY)
    assert (done.returncode, f"tracker {nobody}" in done.stderr) == (2, True)
    done = tool("tune", "--tracker", tracker, "-t", "cortex-a72", "--trials", "4", LAYER)
    assert (done.returncode, "--key" in done.stderr) == (2, True)
    done = tool("tune", "-t", "cortex-a72", "--trials", "4", LAYER)
    assert (done.returncode, "; on boards: --tracker and --key" in done.stderr) == (2, True)
    assert time.monotonic() - start < 60


@contextlib.contextmanager
def _answering(*answers: bytes, drip: float = 0.0) -> Iterator[tuple[str, int]]:
    """A service with the tracker's first word and these answers, the last one for ever."""
    def serve() -> None:
        for number in range(1000):
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            answer = answers[min(number, len(answers) - 1)]
            with connection, contextlib.suppress(OSError):
                connection.sendall(struct.pack("<i", trackers._MAGIC))
                for i in range(0, len(answer), 1 if drip else len(answer)):
                    connection.sendall(answer[i : i + 1] if drip else answer)
                    time.sleep(drip)
                connection.recv(64)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()
        listening.shutdown(socket.SHUT_RDWR)


def _answer(value: object) -> bytes:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("<i", len(text)) + text


@pytest.mark.parametrize("answer", [
    _answer(None), _answer(3), _answer([0]), _answer([0, None]), _answer([0, {}]),
    _answer([0, {"server_info": 1}]), _answer([0, {"server_info": [{}]}]),
    _answer([0, {"server_info": [{"key": "a", "addr": []}]}]),
    _answer([0, {"server_info": [{"key": 1, "addr": ["h", 1]}]}]), _answer(b"no JSON"), _answer(b"\xff"),
    _answer(b"[" * 100000), struct.pack("<i", -5), struct.pack("<i", 1 << 30), b"\0",
])  # fmt: skip
def test_a_tracker_that_answers_wrongly(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "_SECONDS", 1.0)
    with _answering(answer) as place, pytest.raises(TuningError) as error:
        trackers.boards(place)
    text = str(error.value)
    why = "another service answers|timed out|the connection was closed"
    command = f"'tvmconv board tracker --port {place[1]}'"
    assert re.fullmatch(rf"tracker 127.0.0.1:\d+: ({why}); expected a running {command}", text), text


def test_a_tracker_that_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "_SECONDS", 1.0)
    with _answering(_answer([0, {"server_info": []}]), drip=0.3) as place:
        start = time.monotonic()
        with pytest.raises(TuningError, match="timed out"):
            trackers.boards(place)
        assert time.monotonic() - start < 30  # and not a second for each byte


def test_waiting_for_the_first_board() -> None:
    none = _answer([0, {"server_info": []}])
    one = _answer([0, {"server_info": [{"key": "server:rpi4", "addr": ["127.0.0.1", 9090]}]}])
    said: list[str] = []
    with _answering(none, none, none, one) as place:
        assert trackers.wait(place, "rpi4", said.append) == 1
        assert trackers.servers(place) == [("rpi4", 9090)]
    assert len(said) == 1 and "waiting for a board of key 'rpi4'" in said[0]


def test_a_service_that_is_no_tracker() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with pytest.raises(TuningError, match="timed out"):
            trackers.boards(listening.getsockname())
        place = listening.getsockname()
    with pytest.raises(TuningError, match=f"expected a running 'tvmconv board tracker --port {place[1]}'"):
        trackers.boards(place)
    with pytest.raises(TuningError, match="expected HOST:PORT"):
        trackers.address("rpi4.local")
