"""Logs that somebody else wrote, or that something damaged: no code of theirs runs, nothing is lost, and what
is wrong is said in a line."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from cli_tools import tool
from test_tuning_logs import DW, NATIVE, PW, log_of

import tvmconv
from tvmconv.base.errors import Error, TuningError
from tvmconv.compiler import codegen
from tvmconv.formats.choice import META, TRACE, Choice
from tvmconv.formats.logs import files
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.entries import Entry, read_index, write_entry
from tvmconv.formats.logs.lookup import Logs
from tvmconv.formats.logs.trace_rules import refusal
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import parse_spec
from tvmconv.tuning.log_upkeep import merge, prune

# What meta_schedule's own space makes of a depthwise layer, shortened.
PLAIN = [
    [["GetSBlock", [], ["y", "main"], ["b0"]], ["GetLoops", ["b0"], [], ["l1", "l2", "l3", "l4", "l5"]],
     ["Annotate", ["l1", 64], ["pragma_auto_unroll_max_step"], []]],
    [],
]  # fmt: skip


def meta_entry(trace: Any, **facts: Any) -> Entry:
    text = trace if isinstance(trace, str) else json.dumps(trace)
    return Entry(**{
        "strategy": META, "point": {TRACE: text}, "seconds": 1e-5, "default_seconds": 2e-5, "trials": 8,
        "threads": 1, "cpu": "some CPU", "tvm": folders.tvm_version(), "date": folders.today(), "record": "r",
        **facts,
    })  # fmt: skip


def attack(marker: Path) -> list[Any]:
    """A trace that has LLVM put a constructor into the object, which runs when a library of it is loaded.
    This one makes a folder."""
    assembly = [
        ".text",
        "harmless:",
        "jmp 2f",
        f"1: .asciz \\22{marker}\\22",
        "2:",
        "leaq 1b(%rip), %rdi",
        "movq $0x1a4, %rsi",
        "movq $83, %rax",
        "syscall",
        "ret",
        ".section .init_array,\\22aw\\22",
        ".quad harmless",
        ".text",
    ]
    code = "\n".join(f'module asm "{line}"' for line in assembly) + "\n"
    insts = [*PLAIN[0], ["Annotate", ["l1", f'"{code}"'], ["pragma_import_llvm"], []]]
    return [insts, []]


def folder_with(tmp_path: Path, trace: Any) -> Path:
    folder = log_of(tmp_path, PW)
    write_entry(folder, DW, meta_entry(trace))
    return folder


@pytest.mark.skipif(NATIVE.arch != "x86_64", reason="this is x86's assembly")
def test_a_log_cannot_bring_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is what stands between: without it the file is made when the library is loaded."""
    marker = tmp_path / "made-by-the-log"
    trace = attack(marker)
    folder = folder_with(tmp_path, trace)
    program = ("import sys, tvmconv\nfrom tvmconv.formats.logs import trace_rules\n"
               "if sys.argv[3] == 'off':\n    trace_rules.refusal = lambda text: None\n"
               "    import tvmconv.formats.logs.entries as e; e.refusal = trace_rules.refusal\n"
               "try:\n    tvmconv.compile(sys.argv[1], tuning_logs=sys.argv[2]).load()\n"
               "except tvmconv.Error as error:\n    print(type(error).__name__, error)\n")  # fmt: skip

    def run(check: str) -> str:
        done = subprocess.run([sys.executable, "-c", program, DW, str(tmp_path), check], capture_output=True,
                              text=True, timeout=300, check=True,
                              env={**os.environ, "TVMCONV_CACHE": str(tmp_path / "cache")})  # fmt: skip
        return done.stdout

    said = run("on")
    assert not marker.exists()
    assert said.startswith("TuningError ") and said.count("\n") == 1
    assert f"{folder / folders.INDEX}: {DW!r}" in said
    assert "instruction 3, Annotate: 'pragma_import_llvm'" in said
    run("off")
    assert marker.exists(), "the attack does nothing, so this test shows nothing"
    # The other ways to a replay: a point at hand, and a record of the log that a tuner goes on from.
    with pytest.raises(TuningError, match="instruction 3, Annotate: 'pragma_import_llvm'"):
        codegen.build_kernel(parse_spec(DW), NATIVE, Choice(META, {TRACE: json.dumps(trace)}))
    stamps = [["GetSBlock", [], ["root", "main"], ["b9"]],
              ["Annotate", ["b9", json.dumps(DW)], ["tvmconv.spec"], []],
              ["Annotate", ["b9", '"meta"'], ["tvmconv.strategy:meta"], []]]  # fmt: skip
    stamps[2][2] = ["tvmconv.strategy"]
    (folder / folders.INDEX).unlink()
    record = [[[*trace[0], *stamps], []], [1e-5], {}, []]
    files.append_lines(folder / folders.RECORDS, json.dumps([0, record]))
    line = len((folder / folders.RECORDS).read_text().splitlines())
    with pytest.raises(TuningError, match=rf"{folders.RECORDS}:{line}: trace: instruction 3, Annotate"):
        tvmconv.tune(DW, trials=1, tuning_logs=tmp_path, space="meta", threads=1)


@pytest.mark.parametrize("target", ["x86-64-v3", "cuda-sm_80"])
def test_traces_of_meta_schedules_own_spaces_pass(target: str) -> None:
    """Whatever its rules and postprocessors make, for CPUs and GPUs, with random decisions."""
    from tvm.s_tir import meta_schedule as ms

    from tvmconv.tuning.search.database import Database
    from tvmconv.tuning.search.meta import MetaSpace
    from tvmconv.tuning.search.search import _without_tensor_intrinsics

    machine, kinds = resolve(target), set()
    for descriptor in (DW, "conv2d:1x16x12x12:o16:k3x3:p1:NCHW:float16:bias:gelu"):
        space = MetaSpace(parse_spec(descriptor), machine, Choice("none", {}))
        target_of = Database(Path("/nonexistent"), space, 2).target
        with _without_tensor_intrinsics():
            context = ms.TuneContext(mod=space.module, target=target_of, space_generator=space.generator(1),
                                     search_strategy="replay-trace", num_threads=1, rand_state=1)  # fmt: skip
        context.pre_tuning(12, 12, context.generate_design_space(), None, None)
        for candidate in context.generate_measure_candidates() or []:
            text = space.choice_of(candidate.sch.trace).point[TRACE]
            assert refusal(text) is None
            kinds |= {instruction[0] for instruction in json.loads(text)[0]}
    assert {"Annotate", "Split", "SamplePerfectTile", "EnterPostproc"} <= kinds


@pytest.mark.parametrize(
    ("instruction", "says"),
    [
        (["Annotate", ["l1", '"int main"'], ["pragma_import_c"], []], "'pragma_import_c'"),
        (["Annotate", ["l1", '"x"'], ["meta_schedule.auto_tensorize"], []], "'meta_schedule.auto_tensorize'"),
        (["Annotate", ["l1", '"x"'], ["meta_schedule.parallel"], []], "'meta_schedule.parallel' is '\"x\"'"),
        (["Annotate", ["l1", {"a": 1}], ["pragma_unroll_explicit"], []], "'pragma_unroll_explicit' is {'a'"),
        (["Annotate", ["l1", 4096], ["pragma_auto_unroll_max_step"], []], "is 4096, expected"),
        (["Annotate", ["l1"], ["pragma_unroll_explicit"], []], "inputs ['l1'], expected"),
        (["Tensorize", ["b0", '"dot"'], [True], []], "is 'Tensorize', which is none of"),
        (["UnsafeHideBufferAccess", ["b0"], ["read", [0]], []], "'UnsafeHideBufferAccess'"),
        (["TransformLayout", ["b0", "AAAA"], [0, 0, "x", True], []], "'TransformLayout'"),
        (["Bind", ["l1"], ["cpu"], []], "Bind: 'cpu' is none of"),
        (["CacheRead", ["b0"], [0, "wmma.matrix_a"], ["b1"]], "CacheRead: 'wmma.matrix_a'"),
        (["GetLoops", ["b0", "rm -r"], [], ["l1"]], "inputs ['b0', 'rm -r']"),
        (["GetLoops", ["b0"], [], ["x"]], "outputs ['x']"),
        (["SamplePerfectTile", ["l1"], [1 << 40, 16], ["v1"]], "1099511627776 is none of"),
        (["GetLoops", ["b0"], []], "expected a name, inputs, attributes and outputs"),
        (5, "is 5, expected"),
    ],
)
def test_what_a_trace_may_not_hold(instruction: Any, says: str) -> None:
    wrong = refusal(json.dumps([[PLAIN[0][0], instruction], []]))
    assert wrong is not None and says in wrong and wrong.startswith("instruction 1") and "\n" not in wrong
    assert refusal(json.dumps(PLAIN)) is None


_LOOP = PLAIN[0][:2]
_TILE = ["SamplePerfectTile", ["l4"], [2, 16], ["v6", "v7"]]
_PICK = ["SampleCategorical", [], [[0, 16], [0.5, 0.5]], ["v6"]]


def _split(*factors: Any) -> list[Any]:
    return ["Split", ["l4", *factors], [True, False], [f"l{8 + at}" for at in range(len(factors))]]


@pytest.mark.parametrize(
    ("instructions", "decisions", "says"),
    [
        ([_TILE], [[2, [1, 0]]], "decision [1, 0], expected 2 factors from 1 on"),
        ([_TILE], [[2, [0, 0]]], "decision [0, 0], expected 2 factors from 1 on"),
        ([_TILE], [[2, [-1, -16]]], "decision [-1, -16], expected"),
        ([_TILE], [[2, [1, 1 << 32]]], "decision [1, 4294967296], expected"),
        ([_TILE], [[2, [1 << 16, 1 << 16]]], "expected factors of a loop's extent"),
        ([_TILE], [[2, [16]]], "decision [16], expected 2 factors"),
        ([_TILE], [[2, 16]], "decision 16, expected 2 factors"),
        ([_TILE], [[2, None]], "decision [2, None], expected an instruction's number, and numbers"),
        ([_TILE], [], "decision None, expected 2 factors"),
        ([_TILE], [[2, [1, 16]], [2, [1, 16]]], "decision [2, [1, 16]], expected one an instruction"),
        ([[*_TILE[:2], [2, 0], _TILE[3]]], [[2, [1, 16]]], "0 is none of what"),
        ([[*_TILE[:2], [3, 16], _TILE[3]]], [[2, [1, 1, 16]]], "expected 3 factors"),
        ([_PICK], [[2, 2]], "decision 2, expected one of 2 places"),
        ([_PICK], [[2, -1]], "decision -1, expected one of 2 places"),
        ([["SampleCategorical", [], [[], []], ["v6"]]], [[2, 0]], "expected one of 0 places"),
        ([["SampleCategorical", [], [[1], [0.5, 0.5]], ["v6"]]], [[2, 0]], "expected a probability for each"),
        ([_PICK, _split(None, "v6")], [[2, 0]], "Split: factors [None, 0], expected numbers from 1 on"),
        ([_split(None, "v6")], [], "Split: factors [None, 'v6'], expected numbers from 1 on"),
        ([_split(0, 16)], [], "factors [0, 16], expected numbers from 1 on"),
        ([_split(None, -1)], [], "factors [None, -1], expected"),
        ([_split(None, None)], [], "at most one None"),
        ([_split(None, 1 << 30)], [], "expected a product of at most 1048576"),
        ([_split(1 << 16, 1 << 16)], [], "expected a product of at most 2147483647"),
        ([["SampleComputeLocation", ["b0"], [], ["l9"]]], [[2, 1 << 31]], "expected a loop's place"),
        ([["Vectorize", ["l5"], [], []]], [[2, 4]], "Vectorize: decision 4, expected none"),
        ([_PICK, ["Annotate", ["l5", "v6"], ["pragma_unroll_explicit"], []]], [[2, 1]], "is 16, expected"),
        ([["Annotate", ["l5", "v6"], ["pragma_unroll_explicit"], []]], [], "is 'v6', expected"),
    ],
)
def test_numbers_of_a_trace(instructions: list[Any], decisions: list[Any], says: str) -> None:
    """By a factor of zero TVM divides; and it goes on for ever where it finds none that is small enough."""
    trace = json.dumps([[*_LOOP, *instructions], decisions])
    assert says in refusal(trace) and "\n" not in refusal(trace)
    with pytest.raises(TuningError, match="trace: "):
        codegen.build_kernel(parse_spec(DW), NATIVE, Choice(META, {TRACE: trace}))


def test_factors_of_another_loop() -> None:
    """TVM would go on with others than those that were measured."""

    def made(*factors: int) -> Choice:
        trace = [[*_LOOP, _TILE, _split("v6", "v7")], [[2, list(factors)]]]
        assert refusal(json.dumps(trace)) is None
        return Choice(META, {TRACE: json.dumps(trace)})

    channels = parse_spec(DW).out_channels
    codegen.scheduled(parse_spec(DW), NATIVE, made(channels // 2, 2))
    for wrong in ((channels, 2), (1, channels + 1), (3, 5)):
        with pytest.raises(ValueError, match=r"trace: decision \[2, \[.*expected one of this kernel"):
            codegen.scheduled(parse_spec(DW), NATIVE, made(*wrong))


@pytest.mark.parametrize(
    "text", ["", "5", "[[]]", "[" * 100_000, "[[], [[0, 1]]]", "[[], [5]]", None, "x" * 2_000_000]
)
def test_what_is_no_trace(text: Any) -> None:
    assert "\n" not in refusal(text)


ENTRY = {"strategy": "groups_last", "point": {"width": 2}, "seconds": 1e-5, "default_seconds": 2e-5,
         "trials": 1, "threads": 1, "cpu": "c", "tvm": "t", "date": "d", "record": "r"}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (5, "int, expected an object"),
        (None, "NoneType, expected an object"),
        ({**ENTRY, "seconds": "a"}, "seconds: 'a', expected seconds"),
        ({**ENTRY, "seconds": float("nan")}, "seconds: nan, expected seconds"),
        ({**ENTRY, "default_seconds": 0}, "default_seconds: 0, expected seconds"),
        ({**ENTRY, "seconds": True}, "seconds: True, expected seconds"),
        ({**ENTRY, "point": [1]}, "point: [1], expected numbers and words by knobs"),
        ({**ENTRY, "point": {"width": 2.5}}, "point: {'width': 2.5}, expected numbers"),
        ({**ENTRY, "point": {"width": {"a": 1}}}, "expected numbers and words by knobs"),
        ({**ENTRY, "cpu": "a\x1b[2Jb"}, "cpu: 'a\\x1b[2Jb', expected one line"),
        ({**ENTRY, "record": None}, "record: None, expected one line"),
        ({**ENTRY, "threads": -1}, "threads: -1, expected a number from 0 on"),
        ({**ENTRY, "turbo": 1}, "'turbo', expected no such fact"),
        ({k: v for k, v in ENTRY.items() if k != "date"}, "no date"),
    ],
)
def test_a_damaged_entry_costs_itself_alone(tmp_path: Path, facts: Any, says: str) -> None:
    folder = log_of(tmp_path, PW)
    path = folder / folders.INDEX
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, "best": {**index["best"], DW: facts}}))
    with pytest.warns(RuntimeWarning) as told:
        assert list(read_index(folder)) == [PW]
    (message,) = [str(warning.message) for warning in told]
    assert says in message and str(path) in message and DW in message and "\n" not in message
    # Writing an entry leaves a damaged one as it is.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_entry(folder, DW + ":bias", Entry(**ENTRY))
        assert set(read_index(folder)) == {PW, DW + ":bias"}
    best = json.loads(path.read_text())["best"]
    assert DW in best and (best[DW] == facts or facts != facts or "nan" in str(facts))
    listed = tool("logs", "list", "--log", tmp_path)
    assert listed.returncode == 0 and PW in listed.stdout
    assert listed.stderr.count("\n") == 1 and listed.stderr.startswith("tvmconv: warning: tuning_logs: ")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (folders.INDEX, '{"format": 1, "best": null}', "has NoneType as best, expected an object"),
        (folders.INDEX, '{"format": 1, "best": [5]}', "has list as best"),
        (folders.INDEX, "5", "holds int, expected a JSON object"),
        (folders.INDEX, "[" * 100_000, "cannot be read"),
        (folders.INDEX, b"\xff\xfe{}", "cannot be read"),
        (folders.INDEX, None, "expected a file"),
        (folders.METADATA, "null", "holds NoneType"),
        (folders.METADATA, '{"target": 5}', "is of target 5, expected"),
        (folders.METADATA, '{"target": "cortex-a72"}', "is of target cortex-a72, expected"),
        (folders.METADATA, f'{{"target": "{NATIVE.name}", "tvm": [1]}}', "was made with TVM [1]"),
        (folders.METADATA, f'{{"target": "{NATIVE.name}", "emulated": true}}', "measured under emulation"),
    ],
)
def test_a_damaged_folder_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: Any, says: str
) -> None:
    """Or passed over with a warning, where it is the user's own; also as one folder of several."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = log_of(folders.user_root(), DW)
    (folder / name).unlink()
    if content is None:
        os.mkfifo(folder / name)
    else:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for given in (folders.user_root(), folder):
        with pytest.raises(TuningError) as error:
            Logs(NATIVE, given)
        assert says in str(error.value) and "\n" not in str(error.value)
    with pytest.warns(RuntimeWarning, match="passed over: tuning_logs: "):
        assert not [k for k in Logs(NATIVE).known(parse_spec(DW)) if k[1] == "user"]
    if name == folders.METADATA:
        (folders.user_root() / name).write_bytes((folder / name).read_bytes())
        with pytest.warns(RuntimeWarning, match="passed over: tuning_logs: "):
            Logs(NATIVE)


def test_damaged_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    """Wherever they are; what is whole keeps its place, and what comes later is found."""
    folder = log_of(tmp_path, DW)
    log_of(tmp_path, PW)
    records, workloads = (folder / name for name in (folders.RECORDS, folders.WORKLOADS))
    first, second = records.read_text().splitlines()
    bad = ["5", "null", "{]", '["a", [[], [], {}, []]]', "[0, 5]", '[0, [[], ["x"], {}, []]]', "[" * 5000]
    records.write_text("\n".join([first, *bad, second]) + "\n")
    with pytest.warns(RuntimeWarning) as told:
        found = folders.read_records(folder)
    assert [line for line, *_ in found] == [1, len(bad) + 2]
    (message,) = [str(warning.message) for warning in told]
    assert f"{folders.RECORDS}:2 is damaged and {len(bad) - 1} more" in message and "\n" not in message
    kept, other = workloads.read_text().splitlines()
    workloads.write_text("\n".join(["[5]", kept, "", other]) + "\n")  # every record now points at another
    from tvmconv.tuning.search.database import Database
    from tvmconv.tuning.search.space import TuningSpace

    for descriptor in (DW, PW):
        space = TuningSpace(parse_spec(descriptor), NATIVE)
        with pytest.warns(RuntimeWarning, match="damaged"):
            database = Database(folder, space, 1)
            assert len(database.known()) == 1
            database.commit(space.schedule(space.default), [1e-5])
            assert len(database.known()) == 2
    assert len(workloads.read_text().splitlines()) == 4
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert prune(folder) == (2, 2)
    check_whole(folder)


def check_whole(folder: Path) -> None:
    """Every record of a folder is of the workload that it names."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records, workloads = folders.read_records(folder), folders.read_workloads(folder)
    assert records
    for _, at, facts in records:
        (descriptor,) = (json.loads(i[1][1]) for i in facts[0][0] if i[2] == ["tvmconv.spec"])
        assert json.dumps(descriptor).encode() in base64.b64decode(workloads[at][1])
    from tvm.s_tir import meta_schedule as ms

    assert len(ms.database.JSONDatabase(work_dir=str(folder))) == len(records)


@pytest.mark.parametrize("how", ["none", "short", "swapped", "garbage"])
def test_a_workload_follows_from_its_record(tmp_path: Path, how: str) -> None:
    """Where the file of workloads is missing or wrong, pruning and merging make them anew."""
    folder = log_of(tmp_path / "ours", DW)
    log_of(tmp_path / "ours", PW)
    path = folder / folders.WORKLOADS
    lines = path.read_text().splitlines()
    if how == "none":
        path.unlink()
    else:
        changed = {"short": lines[:1], "swapped": lines[::-1], "garbage": ['["1", "%%%"]', "{"]}[how]
        path.write_text("".join(line + "\n" for line in changed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        into = tmp_path / "into" / NATIVE.name
        folders.prepare(into, NATIVE)
        assert merge(folder, into) == 2
        check_whole(into)
        made = (into / folders.WORKLOADS).read_text().splitlines()
        assert sorted(json.loads(line)[0] for line in made) == sorted(json.loads(line)[0] for line in lines)
        assert prune(folder) == (2, 0)
    check_whole(folder)


def test_pruning_without_an_index_would_lose_all(tmp_path: Path) -> None:
    folder = log_of(tmp_path, DW)
    before = (folder / folders.RECORDS).read_bytes()
    for content in (None, '{"format": 1, "best": {}}'):
        (folder / folders.INDEX).unlink()
        if content:
            (folder / folders.INDEX).write_text(content)
        with pytest.raises(TuningError, match="names no record"):
            prune(folder)
        (folder / folders.INDEX).touch()
    assert (folder / folders.RECORDS).read_bytes() == before


def test_a_last_line_without_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("[1]\n[2]")
    assert files.read_lines(path) == ([[1], [2]], False)
    assert not files.append_lines(path, "[3]", "[4]")
    assert path.read_text() == "[1]\n[2]\n[3]\n[4]\n"


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    """A folder of logs that came in an archive may have one to anywhere."""
    target = tmp_path / "precious"
    target.write_text("precious\n")
    (tmp_path / "log").symlink_to(target)
    with pytest.raises(TuningError, match="cannot be written"):
        files.append_lines(tmp_path / "log", "[1]")
    assert target.read_text() == "precious\n"


def test_a_full_disk_is_an_error_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = log_of(tmp_path, DW)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (lambda: prune(folder), lambda: files.write_json(folder / folders.INDEX, {})):
        with pytest.raises(TuningError, match="cannot be written: No space left on device"):
            write()
    monkeypatch.undo()
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert prune(folder) == (1, 0)


STOP = """
import os, sys
from pathlib import Path
from tvmconv.tuning import log_upkeep as upkeep
steps, left = ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir"), int(sys.argv[2])
def counted(real):
    def call(*arguments, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), 9)
        left -= 1
        return real(*arguments, **options)
    return call
for name in steps:
    setattr(os, name, counted(getattr(os, name)))
for name in ("rename", "replace", "mkdir"):
    setattr(Path, name, counted(getattr(Path, name)))
print(*(upkeep.prune(Path(sys.argv[1])) if len(sys.argv) == 3 else
        [upkeep.merge(Path(sys.argv[3]), Path(sys.argv[1]))]))
"""


@pytest.mark.parametrize("what", ["prune", "merge"])
def test_killed_between_any_two_steps_nothing_is_lost(tmp_path: Path, what: str) -> None:
    """Each time before another step that reaches the disk; the next writer finds all in place."""
    ours = log_of(tmp_path / "ours", PW, gain=1.1)
    log_of(tmp_path / "ours", PW, gain=1.2)
    log_of(tmp_path / "ours", DW)
    theirs = log_of(tmp_path / "theirs", PW, gain=1.5)
    wanted = {entry.record for entry in read_index(ours).values()}
    arguments = [str(theirs)] if what == "merge" else []
    for step in range(100):
        folder = tmp_path / f"at{step}" / NATIVE.name
        shutil.copytree(ours, folder)
        done = subprocess.run([sys.executable, "-c", STOP, str(folder), str(step), *arguments],
                              capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        index = read_index(folder)  # a compile reads it as it is
        assert set(index) == {DW, PW}
        with folders.locked(folder):
            names = {folders.record_name(facts) for _, _, facts in folders.read_records(folder)}
        assert wanted <= names and {entry.record for entry in index.values()} <= names
        check_whole(folder)
        prune(folder)
        check_whole(folder)
        assert not [path for path in folder.iterdir() if path.name.startswith(".replacing")]
        if done.returncode == 0:
            break
    assert step >= 6, "nothing was killed"


def test_killed_at_any_moment_nothing_is_lost(tmp_path: Path) -> None:
    """While one process prunes and others append, each killed at random."""
    folder = log_of(tmp_path, DW)
    log_of(tmp_path, PW)
    wanted = {entry.record for entry in read_index(folder).values()}
    _, at, facts = folders.read_records(folder)[0]
    line = json.dumps([folders.read_workloads(folder)[at][0], facts])
    pruner = ("import sys\nfrom pathlib import Path\nfrom tvmconv.tuning.log_upkeep import prune\n"
              "while True: prune(Path(sys.argv[1])); print(end='.', flush=True)")  # fmt: skip
    writer = (
        "import json, sys\nfrom pathlib import Path\nfrom tvmconv.formats.logs import folder as f\n"
        "folder, (shash, facts) = Path(sys.argv[1]), json.loads(sys.argv[2])\n"
        "while True:\n    with f.locked(folder):\n"
        "        at = [known[0] for known in f.read_workloads(folder)].index(shash)\n"
        "        f.append_lines(folder / f.RECORDS, json.dumps([at, facts]))\n"
        "    print(end='.', flush=True)"
    )
    rng = random.Random(0)
    for _ in range(4):
        processes = [
            subprocess.Popen([sys.executable, "-c", code, str(folder), line], stdout=subprocess.PIPE)
            for code in (pruner, writer)
        ]
        for process in processes:
            assert process.stdout.read(1) == b"."
        time.sleep(rng.random() * 0.2)
        for process in processes:
            process.kill()
            process.communicate()
        with folders.locked(folder):
            found = {folders.record_name(facts) for _, _, facts in folders.read_records(folder)}
        assert found == wanted
        check_whole(folder)


def test_knobs_of_a_log_are_checked(tmp_path: Path) -> None:
    """A point that does not fit is reported; none ends the process or takes longer than others."""
    default = codegen.scheduled(parse_spec(DW), NATIVE).schedule
    wrong = [("width", 1 << 40), ("width", "2"), ("rows", 0), ("block", 10**9), ("order", "x"), ("z", 1)]
    for knob, value in wrong:
        write_entry(log_of(tmp_path, PW), DW, meta_entry(
            PLAIN, strategy=default["strategy"], point={**default["point"], knob: value}))  # fmt: skip
        (function,) = tvmconv.compile(DW, tuning_logs=tmp_path).manifest["functions"]
        schedule = function["schedule"]
        assert (
            schedule["source"] == "default" and knob in schedule["why"] and schedule["unused_record"] == "r"
        )
    with pytest.raises(Error):
        codegen.build_kernel(parse_spec(DW), NATIVE, Choice(META, {TRACE: '[["Nothing"], []]'}))
