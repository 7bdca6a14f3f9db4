"""Folders of tuning logs: what compile makes of them, housekeeping, and damage of every kind. No tuning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_tools import tool

import tvmconv
from tvmconv.base.errors import TuningError
from tvmconv.cli.outputs import schedule_text
from tvmconv.compiler import codegen
from tvmconv.formats.choice import Choice
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.entries import Entry, read_index, write_entry
from tvmconv.formats.logs.lookup import Logs
from tvmconv.frontends.verify import verify
from tvmconv.schedules.machines import Machine, resolve
from tvmconv.specs.kinds import parse_spec
from tvmconv.tuning.log_upkeep import merge, prune

DW = "conv2d:1x9x9x16:o16:k3x3:s2:p1:g16:NHWC:float32"
PW = "conv2d:1x9x9x16:o24:k1x1:NHWC:float32"
NATIVE = resolve("native")


def choice_of(descriptor: str, machine: Machine = NATIVE) -> Choice:
    """A point that is not the default one."""
    made = codegen.scheduled(parse_spec(descriptor), machine).schedule
    return Choice(made["strategy"], {**made["point"], "width": 2})


def log_of(
    root: Path, descriptor: str, gain: float = 1.5, choice: Choice | None = None, machine: Machine = NATIVE,
    cold: bool = False,
) -> Path:  # fmt: skip
    """A folder with one record for each call, as the tuner writes them."""
    from tvmconv.tuning.search.database import Database
    from tvmconv.tuning.search.space import TuningSpace

    spec, folder = parse_spec(descriptor), folders.folder_of(root, machine)
    folders.prepare(folder, machine)
    choice = choice or choice_of(descriptor, machine)
    space = TuningSpace(spec, machine)
    known = Database(folder, space, 1, cold=cold)
    name = known.commit(space.schedule(choice_of(descriptor, machine)), [1e-5 / gain])
    facts = (choice.strategy, choice.point, 1e-5 / gain, 1e-5, 8, 1, "some CPU", folders.tvm_version())
    write_entry(folder, descriptor, Entry(*facts, folders.today(), name, cold=cold))
    return folder


def schedules(**options: object) -> list[dict]:
    library = tvmconv.compile([DW, PW], **options)
    return [function["schedule"] for function in library.manifest["functions"]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder, empty."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return folders.user_root()


def test_compile_uses_the_record_of_the_exact_spec(home: Path, tmp_path: Path) -> None:
    folder = log_of(tmp_path / "logs", DW)
    tuned, default = schedules(tuning_logs=tmp_path / "logs")
    assert (tuned["source"], tuned["log"], tuned["point"]["width"]) == ("tuned", "given", 2)
    assert tuned["record"] == read_index(folder)[DW].record
    assert default["source"] == "default"
    # The same folder by its own name; and the library, whose schedule is another one, computes the same.
    assert schedules(tuning_logs=folder)[0] == tuned
    x, w = np.random.default_rng(0).standard_normal((2, 1, 9, 9, 16)).astype(np.float32)
    w = np.ascontiguousarray(w.reshape(-1)[:144].reshape(3, 3, 1, 16))
    results = [
        next(iter(tvmconv.compile(DW, tuning_logs=logs).load().functions.values()))(x, w)
        for logs in (folder, None)
    ]
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)


def test_a_layer_with_an_epilogue_uses_the_record_of_its_twin(home: Path, tmp_path: Path) -> None:
    """The nearest one's, unless it has its own; a twin whose default was best says that."""
    full = f"{DW}:bias:residual:relu"

    def schedule() -> dict:
        return tvmconv.compile(full, tuning_logs=tmp_path).manifest["functions"][0]["schedule"]

    log_of(tmp_path, DW, gain=1.0)
    assert (schedule()["source"], schedule()["twin"]) == ("default", DW)
    assert "unused_record" not in schedule()
    assert schedule_text(schedule()).startswith("tuned: the default won, groups_last, ")
    folder = log_of(tmp_path, DW)
    assert (schedule()["source"], schedule()["twin"], schedule()["point"]["width"]) == ("tuned", DW, 2)
    assert schedule_text(schedule()).startswith("tuned, groups_last, ")
    library = tvmconv.compile({"f": full}, tuning_logs=tmp_path)
    assert all(check.ok for check in verify(library.load()))
    with_bias = Choice("groups_last", {**choice_of(DW).point, "width": 3})
    log_of(tmp_path, f"{DW}:bias", choice=with_bias)
    assert (schedule()["twin"], schedule()["point"]["width"]) == (f"{DW}:bias", 3)
    log_of(tmp_path, f"{DW}:bias", choice=Choice("groups_last", {"turns": 3}))
    assert schedule()["source"] == "default" and "turns" in schedule()["why"]
    assert (schedule()["unused_record"], schedule()["twin"]) == (
        read_index(folder)[f"{DW}:bias"].record, f"{DW}:bias",
    )  # fmt: skip
    log_of(tmp_path, full, gain=1.0)
    assert schedule()["source"] == "tuned" and "twin" not in schedule()
    assert schedule_text(schedule()).startswith("tuned: the default won, ")
    log_of(home, DW)
    said = tool("compile", full, "-v", "-o", tmp_path / "f.so").stdout
    assert f"tuned, groups_last, {read_index(folder)[DW].record}, the record of {DW}\n" in said


def test_cold_and_near_weights(home: Path, tmp_path: Path) -> None:
    """A network takes what was measured cold, wherever it is, a layer alone the other; each in the place of
    the other if there is none. Housekeeping keeps both."""
    spec, folder = parse_spec(DW), log_of(tmp_path, DW)
    colder = Choice("groups_last", {**choice_of(DW).point, "width": 3})

    def widths() -> list[int]:
        return [Logs(NATIVE, tmp_path, cold=cold).find(spec).choice.point["width"] for cold in (False, True)]

    assert widths() == [2, 2]
    log_of(tmp_path, DW, choice=colder, cold=True)
    assert widths() == [2, 3] and set(read_index(folder)) == {DW, f"{DW} cold"}
    assert Logs(NATIVE, tmp_path, cold=True).find(spec).origin["cold"] is True
    assert "cold" not in Logs(NATIVE, tmp_path).find(spec).origin
    bias = parse_spec(f"{DW}:bias")
    assert Logs(NATIVE, tmp_path, cold=True).find(bias).choice == colder
    other = folders.folder_of(tmp_path / "other", NATIVE)
    folders.prepare(other, NATIVE)
    assert prune(folder) == (2, 0) and merge(folder, other) == 2 and read_index(other) == read_index(folder)
    said = json.loads(tool("logs", "list", "--log", tmp_path, "--json").stdout)["records"]
    assert [(r["descriptor"], r["cold"]) for r in said] == [(DW, False), (DW, True)]
    assert "cold" in tool("logs", "list", "--log", tmp_path).stdout
    log_of(tmp_path / "new", DW, choice=colder, cold=True)
    assert Logs(NATIVE, tmp_path / "new").find(spec).choice == colder, "better than the rule's"
    index = json.loads((folder / folders.INDEX).read_text())
    index["best"][f"{DW} cold"].pop("cold")
    (folder / folders.INDEX).write_text(json.dumps(index))
    with pytest.warns(RuntimeWarning, match="cold: False, expected True, as its key says"):
        assert set(read_index(folder)) == {DW}


def test_a_targets_base_serves_its_floats(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x86-64-v4-vnni is x86-64-v4 but for 8-bit integers, and that takes what was measured on Zen 5: own
    records, where there are any, come first."""
    base, machine = resolve("x86-64-v4"), resolve("x86-64-v4-vnni")
    monkeypatch.setattr(folders, "shipped_root", lambda: tmp_path / "none")
    whole = DW.replace("float32", "int8")

    def known(descriptor: str, of: Machine, given: Path | None = None) -> list[int]:
        found = Logs(of, given).known(parse_spec(descriptor))
        return [entry.choice.point["width"] for _, _, entry in found]

    for descriptor in (DW, whole):
        log_of(home, descriptor, choice=Choice("groups_last", {"width": 3}), machine=base)
        log_of(home, descriptor, choice=Choice("groups_last", {"width": 2}), machine=resolve("znver5"))
    assert (known(DW, machine), known(whole, machine)) == ([3, 2], [])
    assert [known(DW, resolve(name)) for name in ("znver5", "znver4", "x86-64-v3")] == [[2], [], []]
    assert (known(DW, base), known(whole, base)) == ([3, 2], [3])
    log_of(home, DW, choice=Choice("groups_last", {"width": 5}), machine=machine)
    assert (known(DW, machine), known(DW, base)) == ([5, 3, 2], [3, 2])
    assert known(DW, machine, home) == [5, 3, 2]
    assert known(DW, machine, folders.folder_of(home, base)) == [3]
    assert known(DW, machine, folders.folder_of(home, machine)) == [5]
    with pytest.raises(TuningError, match="is of target x86-64-v4-vnni, expected x86-64-v4"):
        Logs(base, folders.folder_of(home, machine))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (f"{DW}:bias:residual:prelu", [f"{DW}:bias", DW]),
        (f"{DW}:relu", [DW]),
        (f"{DW}:bias", [DW]),
        (DW, []),
        ("conv2d:1x8x8x16:o16:k3x3:p1:NHWC:uint8:bias:relu", ["conv2d:1x8x8x16:o16:k3x3:p1:NHWC:uint8:bias",
                                                           "conv2d:1x8x8x16:o16:k3x3:p1:NHWC:uint8"]),
        ("tconv2d:1x9x9x16:o32:k4x4:s2:NHWC:float32:bias", ["tconv2d:1x9x9x16:o32:k4x4:s2:NHWC:float32"]),
        ("deform2d:1x16x9x9:o16:k3x3:p1:mask:bias:NCHW:float32",
         ["deform2d:1x16x9x9:o16:k3x3:p1:mask:NCHW:float32"]),
        ("maxpool2d:1x12x12x16:k3x3:s2:p1:NHWC:float32", []),
    ],
)  # fmt: skip
def test_twins(spec: str, expected: list[str]) -> None:
    assert [str(twin) for twin in parse_spec(spec).twins()] == expected


def test_the_users_own_log_wins_over_the_shipped_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_of(tmp_path / "shipped", DW)
    log_of(tmp_path / "shipped", PW)
    monkeypatch.setattr(folders, "shipped_root", lambda: tmp_path / "shipped")
    assert [s["log"] for s in schedules()] == ["shipped", "shipped"]
    log_of(home, DW)
    assert [s["log"] for s in schedules()] == ["user", "shipped"]
    # A log that has changed is seen by the next compile, and the cache does not stand in its way.
    entry = read_index(folders.folder_of(home, NATIVE))[DW]
    write_entry(folders.folder_of(home, NATIVE), DW, replace(entry, point={**entry.point, "width": 3}))
    assert schedules()[0]["point"]["width"] == 3


def test_a_record_that_no_longer_fits_is_told_and_not_used(home: Path, tmp_path: Path) -> None:
    log_of(tmp_path, DW, choice=Choice("groups_last", {"width": 4, "turns": 3}))
    schedule = schedules(tuning_logs=tmp_path)[0]
    assert schedule["source"] == "default" and "turns" in schedule["why"]
    assert schedule["unused_record"] == read_index(folders.folder_of(tmp_path, NATIVE))[DW].record


def test_lookup_needs_no_tvm(tmp_path: Path) -> None:
    log_of(tmp_path, DW)
    program = (
        "import sys\nfrom tvmconv.formats.logs.lookup import Logs\n"
        "from tvmconv.schedules.machines import resolve\n"
        "from tvmconv.specs.kinds import parse_spec\n"
        f"logs = Logs(resolve('native'), {str(tmp_path)!r})\n"
        f"assert logs.find(parse_spec({DW + ':bias:relu'!r})).choice.point['width'] == 2\n"
        "assert not any(name == 'tvm' or name.startswith('tvm.') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_meta_schedule_reads_what_we_write(tmp_path: Path) -> None:
    """TVM's own database loads the folder, and its best record is the point."""
    from tvm.s_tir import meta_schedule as ms

    from tvmconv.formats.logs.traces import read
    from tvmconv.tuning.search.definition import module_of

    folder = log_of(tmp_path, DW)
    log_of(tmp_path, PW)
    log_of(tmp_path, DW, gain=2)
    database = ms.database.JSONDatabase(work_dir=str(folder))
    assert len(database) == 3
    (best,) = database.get_top_k(database.commit_workload(module_of(parse_spec(DW))), 1)
    assert [float(s) for s in best.run_secs] == [5e-6]
    assert read(best.as_json()[0])[:2] == (DW, choice_of(DW))


def test_prune_and_merge(tmp_path: Path) -> None:
    ours, theirs = log_of(tmp_path / "ours", DW, gain=1.2), log_of(tmp_path / "theirs", DW, gain=1.5)
    log_of(tmp_path / "ours", DW, gain=1.3)
    log_of(tmp_path / "theirs", PW, gain=1.1)
    assert prune(ours) == (1, 1)
    assert merge(theirs, ours) == 2 and merge(theirs, ours) == 0
    assert [round(e.default_seconds / e.seconds, 3) for e in read_index(ours).values()] == [1.5, 1.1]
    assert prune(ours) == (2, 1)
    records, truncated = folders.read_lines(ours / folders.RECORDS)
    workloads, _ = folders.read_lines(ours / folders.WORKLOADS)
    assert not truncated and sorted(at for at, _ in records) == [0, 1] and len(workloads) == 2
    assert {folders.record_name(facts) for _, facts in records} == {
        entry.record for entry in read_index(ours).values()
    }


def test_a_line_that_was_cut_short_is_dropped_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert not folders.append_lines(path, '{"a": 1}')
    with open(path, "a") as file:
        file.write('{"b": ' + "2" * 100_000)
    assert folders.read_lines(path) == ([{"a": 1}], True)
    assert folders.append_lines(path, '{"c": 3}')
    assert folders.read_lines(path) == ([{"a": 1}, {"c": 3}], False)


def test_several_processes_write_whole_lines(tmp_path: Path) -> None:
    folder = log_of(tmp_path, DW)
    program = (
        "import json, sys\nfrom pathlib import Path\nfrom tvmconv.formats.logs import folder as f\n"
        "folder, line = Path(sys.argv[1]), json.dumps(sys.argv[2] * 5000)\n"
        "for _ in range(150):\n"
        "    with f.locked(folder): f.append_lines(folder / 'shared', line)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(folder), c]) for c in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    lines, truncated = folders.read_lines(folder / "shared")
    assert not truncated and sorted(lines) == sorted(c * 5000 for c in "abc" for _ in range(150))


def damage(folder: Path, name: str, **facts: object) -> None:
    found = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**found, **facts}))


def test_logs_that_cannot_be_used(home: Path, tmp_path: Path) -> None:
    def said(root: Path) -> str:
        with pytest.raises(TuningError) as error:
            tvmconv.compile(DW, tuning_logs=root)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "expected a folder of logs" in said(tmp_path / "nowhere")
    folder = log_of(tmp_path / "version", DW)
    damage(folder, folders.METADATA, tvm="0.26.0")
    assert "made with TVM 0.26.0" in said(tmp_path / "version")
    folder = log_of(tmp_path / "target", DW)
    damage(folder, folders.METADATA, target="cortex-a72")
    assert "of target cortex-a72" in said(folder)
    folder = log_of(tmp_path / "format", DW)
    damage(folder, folders.INDEX, format=7)
    assert "format 7" in said(folder)
    (folder / folders.INDEX).write_text("{")
    assert "cannot be read" in said(folder)
    # The user's own folder is not asked for: what is wrong with it is a warning.
    damage(log_of(home, DW), folders.METADATA, tvm="0.26.0")
    with pytest.warns(RuntimeWarning, match=r"passed over: .* made with TVM 0\.26\.0"):
        assert schedules()[0]["source"] == "default"


def test_the_command_lists_and_says_what_is_missing(tmp_path: Path) -> None:
    log_of(tmp_path, DW)
    listed = json.loads(tool("logs", "list", "--log", tmp_path, "--json").stdout)
    assert [(r["descriptor"], r["cpu"]) for r in listed["records"]] == [(DW, "some CPU")]
    assert DW in tool("logs", "list", "--log", tmp_path).stdout
    missing = tool("logs", "missing", DW, PW, f"{DW}:relu", "--log", tmp_path)
    assert missing.stdout == PW + "\n" and f"{DW}:relu: covered by the record of {DW}" in missing.stderr
    missing = tool("logs", "missing", DW, PW, f"{DW}:relu", "--log", tmp_path, "--exact")
    assert missing.stdout == f"{PW}\n{DW}:relu\n" and not missing.stderr
    assert "kept 1 record, dropped 0" in tool("logs", "prune", "--log", tmp_path).stdout
    into = tmp_path / "into"
    assert "took 1 record" in tool("logs", "merge", tmp_path, "--log", into).stdout
    for command in (["list", "--log", into / "x"], ["merge", into / "x", "--log", into], ["missing"]):
        failed = tool("logs", *command)
        assert failed.returncode == 2 and failed.stderr.count("\n") == 1
    assert os.listdir(into)
