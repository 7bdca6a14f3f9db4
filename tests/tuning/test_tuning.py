"""Tuning for real, briefly: winners are faster, the log survives kill -9, a failure costs one trial."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_tools import tool

import tvmconv
from tvmconv.base.errors import TuningError
from tvmconv.base.processes import Process, ProcessError
from tvmconv.compiler import codegen
from tvmconv.formats.choice import Choice
from tvmconv.formats.kernel import Kernel, Param
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.entries import read_index
from tvmconv.formats.logs.traces import is_cold, read
from tvmconv.frontends.verify import operands, prepare, verify
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import Spec, parse_spec
from tvmconv.tuning.measuring import measure
from tvmconv.tuning.measuring.builder import Builder
from tvmconv.tuning.measuring.runner import BASELINE, DUEL, SEARCH, Effort, LocalRunner, Measured
from tvmconv.tuning.search.space import TuningSpace
from tvmconv.tuning.search.task import Task
from tvmconv.tuning.search.tuner import Options, run

DW = "conv2d:1x20x20x512:o512:k3x3:p1:g512:NHWC:float32"  # by groups_last everywhere, of two strategies
PW = "conv2d:1x14x14x32:o48:k1x1:NHWC:float32:bias:relu6"
NATIVE = resolve("native")
LONG = ("--trials", "5000", "--threads", "1")
KILLS = int(os.environ.get("TVMCONV_TEST_KILLS", "2"))


def records(root: Path) -> list[tuple]:
    """(descriptor, point, error or None) of each whole line of a log."""
    lines, _ = folders.read_lines(folders.folder_of(root, NATIVE) / folders.RECORDS)
    return [read(facts[0]) for _, facts in lines]


class FakeRunner:
    """Stands for a machine on which points have known times, ``seconds(kernel)``; nothing is run."""

    cpu, threads, emulated = "none", 1, False

    def __init__(self, seconds) -> None:
        self.seconds = seconds
        self.asked: list[dict] = []

    def measure(
        self, kernels: Mapping[str, Kernel], names: Sequence[str], effort: Effort
    ) -> Iterator[Measured]:
        for name in names:
            point = kernels[name].schedule["point"]
            self.asked.append(point)
            told = self.seconds(point)
            base = self.seconds(kernels[BASELINE].schedule["point"])
            yield Measured(error=told) if isinstance(told, str) else Measured([told], [base])

    def stop(self) -> None:
        pass


class FakeBuilder:
    """Gives kernels that say their points and hold no code."""

    def __init__(self) -> None:
        self.count = itertools.count()

    def build(self, spec: Spec, choices: Sequence[Choice]) -> list[Kernel]:
        y = Param("y", spec.output_shape, spec.dtype)
        return [
            Kernel(f"k{next(self.count)}", str(spec), b"", (), (), (), y,
                   {"strategy": c.strategy, "point": c.point})
            for c in choices
        ]  # fmt: skip

    def stop(self) -> None:
        pass


def tune(root: Path, seconds, trials: int | None = 20, **options) -> tuple[dict, FakeRunner]:
    runner, specs = FakeRunner(seconds), {parse_spec(DW): 1}
    options = Options(trials, threads=1, **options)
    return run(specs, NATIVE, root, options, runner=runner, builder=FakeBuilder()), runner


def test_a_model_of_two_layers(tmp_path: Path) -> None:
    """The whole way: two layers, in the log and out of it; run again, there is nothing left to do."""
    found = tvmconv.tune([DW, PW], trials=6, tuning_logs=tmp_path, threads=1)
    assert set(map(str, found)) == {DW, PW}
    seen = records(tmp_path)
    assert {descriptor for descriptor, _, _ in seen} == {DW, PW} and len(seen) >= 12
    assert not [error for *_, error in seen if error]
    for spec, entry in found.items():
        assert entry.seconds <= entry.default_seconds
        default = TuningSpace(spec, NATIVE).default
        assert entry.seconds < 0.98 * entry.default_seconds or entry.choice == default
    library = tvmconv.compile([DW, PW], tuning_logs=tmp_path)
    assert {function["schedule"]["source"] for function in library.manifest["functions"]} == {"tuned"}
    again = tvmconv.tune([DW, PW], trials=6, tuning_logs=tmp_path, threads=1)
    assert again == found and len(records(tmp_path)) == len(seen)
    said = json.loads((folders.folder_of(tmp_path, NATIVE) / folders.METADATA).read_text())
    assert said["target"] == NATIVE.name and said["runs"][0]["threads"] == 1


def test_cold_weights_are_a_setting_of_their_own(tmp_path: Path) -> None:
    """Their records, trials and verdicts are kept apart from the others."""
    spec = parse_spec(DW)
    width = TuningSpace(spec, NATIVE).default.point["width"]

    def near(point):
        return 1e-4 if point.get("width") == width else 2e-4

    (hot,) = tune(tmp_path, near, trials=12)[0].values()
    (cold,), runner = (lambda pair: (list(pair[0].values()), pair[1]))(
        tune(tmp_path, lambda point: 3e-4 - near(point), trials=12, cold=True)
    )
    assert len(runner.asked) > 12, "all trials are made again"
    assert (hot.cold, cold.cold) == (False, True) and hot.point["width"] == width != cold.point.get("width")
    folder = folders.folder_of(tmp_path, NATIVE)
    assert read_index(folder) == {DW: hot, f"{DW} cold": cold}
    stamped = {folders.record_name(facts): is_cold(facts[0]) for _, _, facts in folders.read_records(folder)}
    assert not stamped[hot.record] and stamped[cold.record]
    again, _ = tune(tmp_path, lambda point: "not measured again", trials=12, cold=True)
    assert again == {spec: cold}
    with pytest.raises(TuningError, match="cold: True, expected False for cuda-sm_90"):
        run({spec: 1}, resolve("cuda-sm_90"), tmp_path, Options(1, cold=True))


def test_cold_weights_take_turns() -> None:
    """Enough copies that the bytes asked for are read between two calls with the same one; all are right."""
    module = tvmconv.compile({"f": PW}).load()
    case = prepare(module.manifest["functions"][0], "normal")
    seen = []

    class Seen:
        arguments = module["f"].arguments

        def bind(self, *weights):
            bound = module["f"].bind(*weights)
            made = [bound, *(bound.copy() for _ in range(3))]
            assert len({one._pointer for one in made}) == 4 and bound.packed_bytes >= 32 * 48 * 4
            results = [one(case.arrays["x"]) for one in made]
            assert all(np.array_equal(result, results[0]) for result in results)
            seen.append(bound)
            return bound

    call = measure._call(Seen(), case, 10 * module["f"].bind(*prepared(case)).packed_bytes)
    turns = call.__closure__[0].cell_contents
    used = [next(turns) for _ in range(20)]
    assert len(set(map(id, used))) == 10 and used[:10] == used[10:]
    assert np.array_equal(call(), seen[0](case.arrays["x"]))
    assert measure._call(Seen(), case, 0)() is not None


def prepared(case) -> list:
    """The weights of a case, as ``bind`` takes them."""
    return operands(case.entry["arguments"], case.arrays)[0]


def test_the_search_finds_what_is_best(tmp_path: Path) -> None:
    """On a machine that likes narrow tiles, and taps written out, in far fewer trials than points."""
    def seconds(point):
        if "inner" in point:  # of the other strategy
            return 1e-3
        return 1e-4 * (1 + abs(point["width"] - 2) + 3 * (point["taps"] == 1) + point["rows"] / 28)

    found, runner = tune(tmp_path, seconds, trials=64)
    (entry,) = found.values()
    best = [p for p in runner.asked if p.get("width") == 2 and p["taps"] == 2]
    assert entry.point["width"] == 2 and entry.point["taps"] == 2
    assert len(best) > len(runner.asked) / 8, "the search goes where it is good"
    assert TuningSpace(parse_spec(DW), NATIVE).size > 4 * 64
    points = [json.dumps(p, sort_keys=True) for _, c, _ in records(tmp_path) for p in [c.point]]
    assert len(points) - len(set(points)) <= 10, "nothing is measured twice but by the duels"


def test_what_is_not_faster_is_not_kept(tmp_path: Path) -> None:
    default = TuningSpace(parse_spec(DW), NATIVE).default
    found, _ = tune(tmp_path, lambda point: 1e-4 if point == default.point else 0.99e-4, trials=20)
    (entry,) = found.values()
    assert entry.choice == default and entry.seconds == entry.default_seconds


def test_failures_are_records_with_a_reason(tmp_path: Path) -> None:
    default = TuningSpace(parse_spec(DW), NATIVE).default

    def seconds(point):
        if point.get("width") == 3:
            return "running: ended with SIGSEGV"
        return 1e-4 if point == default.point else 'wrong: 5 elements, "as" \\ said'

    found, _ = tune(tmp_path, seconds, trials=20)
    (entry,) = found.values()
    assert entry.choice == default
    errors = {error for *_, error in records(tmp_path)}
    assert errors >= {None, "wrong: 5 elements, 'as' / said"}


def test_nothing_measurable_is_an_error_with_the_first_cause(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="nothing could be measured: running: ended with SIGILL"):
        tune(tmp_path, lambda point: "running: ended with SIGILL")
    assert read_index(folders.folder_of(tmp_path, NATIVE)) == {}


def test_ended_between_the_last_trial_and_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All trials are there and no verdict: the same command gives it."""
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Task, "decide", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(tmp_path, lambda point: 1e-4)
    made = len(records(tmp_path))
    assert made >= 10 and read_index(folders.folder_of(tmp_path, NATIVE)) == {}
    found, runner = tune(tmp_path, lambda point: 1e-4, trials=made)
    assert len(found) == 1 and len(runner.asked) < 10


def test_one_strategy_of_several(tmp_path: Path) -> None:
    """A search of one strategy goes on where another's record wins, and where it is the default's."""
    def seconds(point):
        if "inner" in point:
            return 1e-4 * (0.6 + abs(point["rows"] - 3) / 10 + (point["inner"] == "pairs") / 5)
        return 0.7e-4 if point["width"] == 2 else 1e-4

    (entry,) = tune(tmp_path, seconds, trials=40, strategy="groups_last")[0].values()
    assert (entry.strategy, entry.point["width"]) == ("groups_last", 2)
    found, runner = tune(tmp_path, seconds, trials=100, strategy="winograd_rows")
    (entry,) = found.values()
    assert (entry.strategy, entry.point["rows"], entry.point["inner"]) == ("winograd_rows", 3, "vectors")
    assert sum("inner" in point for point in runner.asked) >= 50


def test_kernels_are_timed_on_cache_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the arrays of the check begin: else vectors straddle lines, and what loads few wins."""
    module = tvmconv.compile({"f": DW}).load()
    (entry,) = module.manifest["functions"]
    case = prepare(entry, "normal")
    memory = np.empty(case.arrays["x"].nbytes + 68, np.uint8)
    start = -memory.ctypes.data % 64 + 4
    x = memory[start : start + case.arrays["x"].nbytes].view(np.float32).reshape(case.arrays["x"].shape)
    x[...] = case.arrays["x"]
    given: list[np.ndarray] = []

    def on(self: tvmconv.Bound, x: np.ndarray, out: np.ndarray) -> Callable[[], np.ndarray]:
        given.extend((x, out))
        return lambda: self(x, out=out)

    monkeypatch.setattr(tvmconv.Bound, "on", on)
    y = measure._call(module["f"], replace(case, arrays={**case.arrays, "x": x}), 0)()
    assert [array.ctypes.data % 64 for array in given] == [0, 0] and y is given[1]
    np.testing.assert_array_equal(y, module["f"](*case.arrays.values()))


def test_replay_measures_the_best_again(tmp_path: Path) -> None:
    default = TuningSpace(parse_spec(DW), NATIVE).default
    found, _ = tune(tmp_path, lambda point: 1e-4 if point == default.point else 0.5e-4, trials=20)
    assert next(iter(found.values())).choice != default
    again, runner = tune(tmp_path, lambda point: 1e-4 + (point != default.point), trials=None, replay=True)
    assert next(iter(again.values())).choice == default and len(runner.asked) < 12
    assert read_index(folders.folder_of(tmp_path, NATIVE))[DW].choice == default


def test_meta_schedules_own_space_is_a_rival(tmp_path: Path) -> None:
    """Its traces are measured, kept and replayed as points are; the faster of the two spaces' schedules stays
    the winner whichever is searched later, and what a twin compiles by it is right."""
    def seconds(point):
        return 0.5e-4 if "trace" in point else 0.7e-4 if point.get("width") == 2 else 1e-4

    (entry,) = tune(tmp_path, seconds, trials=20, space="meta")[0].values()
    assert entry.strategy == "meta" and entry.trials == 20
    assert "tvm.s_tir.tensor_intrin" not in sys.modules, "its import takes 25 s"
    functions = {"own": DW, "twin": f"{DW}:bias:residual:relu"}
    library = tvmconv.compile(functions, tuning_logs=tmp_path)
    for function in library.manifest["functions"]:
        assert (function["schedule"]["source"], function["schedule"]["strategy"]) == ("tuned", "meta")
    assert all(check.ok for check in verify(library.load()))
    (again,) = tune(tmp_path, seconds, trials=20)[0].values()
    assert again.choice == entry.choice
    (other,) = tune(tmp_path / "other", seconds, trials=20)[0].values()
    tried = [seconds(choice.point) for _, choice, _ in records(tmp_path / "other")]
    assert other.strategy != "meta" and seconds(other.point) == min(tried)
    (other,) = tune(tmp_path / "other", seconds, trials=8, space="meta")[0].values()
    assert other.strategy == "meta"
    traces = [choice for _, choice, _ in records(tmp_path) if choice.strategy == "meta"]
    assert len(set(map(str, traces))) == 20 and len(traces) < 30, "nothing is measured twice but by the duels"
    # TVM's own database finds it, and schedules by it.
    from tvm.s_tir import meta_schedule as ms

    from tvmconv.tuning.search.database import Database
    from tvmconv.tuning.search.meta import MetaSpace

    folder = folders.folder_of(tmp_path, NATIVE)
    space = MetaSpace(parse_spec(DW), NATIVE, entry.choice)
    target = Database(folder, space, 1).target
    found = ms.database.JSONDatabase(work_dir=str(folder)).query_schedule(space.module, target, "main")
    assert "T.parallel" in found.mod.script() and "T.parallel" not in space.module.script()
    with pytest.raises(ValueError, match=r"trace: .* expected one of this kernel"):
        codegen.build_kernel(parse_spec(PW), NATIVE, entry.choice)


@pytest.mark.parametrize(
    ("spec", "options", "says"),
    [
        ("conv2d:1x8x8x16:o16:k3x3:NHWC:uint8/int32", {}, "space 'meta': .* expected floats"),
        ("tconv2d:1x8x8x16:o16:k3x3:NHWC:float32", {}, "expected a convolution that is not transposed"),
        ("maxpool2d:1x8x8x16:k3x3:NHWC:float32", {}, "expected a convolution that is not transposed"),
        ("conv2d:1x8x8x16:o16:k3x3:NHWC:float32:winograd", {}, "expected no algorithm but direct"),
        (DW, {"strategy": "groups_last"}, "strategy: 'groups_last', expected none beside space 'meta'"),
        (DW, {"space": "stock"}, "space: 'stock', expected one of strategies, meta"),
    ],
)
def test_what_meta_schedules_space_does_not_take(tmp_path: Path, spec: str, options: dict, says: str) -> None:
    with pytest.raises(TuningError, match=says):
        tvmconv.tune(spec, trials=1, tuning_logs=tmp_path, **{"space": "meta", **options})


def broken(kernel: Kernel, how: str) -> Kernel:
    """The kernel with other machine code in place of its entry's."""
    import dataclasses
    import io

    from elftools.elf.elffile import ELFFile

    codes = {"crash": b"\x0f\x0b", "hang": b"\xeb\xfe", "wrong": b"\x31\xc0\xc3"}  # ud2; jmp .; return 0
    elf = ELFFile(io.BytesIO(kernel.object))
    symbol = next(
        s for s in elf.get_section_by_name(".symtab").iter_symbols() if s.name == f"__tvm_ffi_{kernel.symbol}"
    )
    at = elf.get_section(symbol["st_shndx"])["sh_offset"] + symbol["st_value"]
    code = bytearray(kernel.object)
    code[at : at + len(codes[how])] = codes[how]
    return dataclasses.replace(kernel, object=bytes(code))


def test_a_crash_a_hang_and_a_wrong_result_cost_one_candidate_each() -> None:
    spec = parse_spec(DW)
    default = TuningSpace(spec, NATIVE).default
    builder, runner = Builder(NATIVE, 1), LocalRunner(NATIVE, 1, timeout=1.5)
    try:
        base, *others = builder.build(spec, [default] * 5)
        hows = ("crash", "hang", "wrong")
        kernels = {BASELINE: base, "good": others[3]}
        kernels |= {how: broken(kernel, how) for how, kernel in zip(hows, others, strict=False)}
        results = dict(zip((*hows, "good"), runner.measure(kernels, [*hows, "good"], SEARCH), strict=True))
    finally:
        builder.stop()
        runner.stop()
    assert results["crash"].error == "running: ended with SIGILL"
    assert results["hang"].error == "running: no result within 2 s"
    assert re.match(r"wrong: \d+ elements on normal data", results["wrong"].error)
    assert not results["good"].error and 0.2 < results["good"].ratio < 5


def test_a_schedule_that_rounds_integers_is_no_wrong_one() -> None:
    spec = parse_spec("conv2d:1x14x14x16:o16:k3x3:p1:NHWC:float32")
    builder, runner = Builder(NATIVE, 2), LocalRunner(NATIVE, 1)
    points = [{"tall": 2, "wide": 2}, {"tall": 4, "wide": 4}]
    try:
        built = builder.build(spec, [Choice("winograd_tiles", point) for point in points])
        assert [kernel.schedule["exact"] for kernel in built] == [True, False]
        kernels = {BASELINE: built[0], "rounds": built[1]}
        assert [m.error for m in runner.measure(kernels, [BASELINE, "rounds"], DUEL)] == ["", ""]
    finally:
        builder.stop()
        runner.stop()


def test_a_candidate_that_does_not_compile_costs_one_trial() -> None:
    spec = parse_spec(DW)
    default = TuningSpace(spec, NATIVE).default
    builder = Builder(NATIVE, 1)
    try:
        bad = type(default)(default.strategy, {**default.point, "width": 10_000})
        wrong, right = builder.build(spec, [bad, default])
        assert "width: 10000" in wrong and isinstance(right, Kernel)
        process = builder.forks.process.pid
        (fork,) = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        for pid in (process, int(fork)):
            os.kill(pid, signal.SIGKILL)
        assert builder.build(spec, [default] * 2) == ["compiling: the process ended with SIGKILL"] * 2
        assert isinstance(builder.build(spec, [default])[0], Kernel)
    finally:
        builder.stop()


def test_a_process_that_does_not_answer() -> None:
    process = Process("tests_no_such_module")
    with pytest.raises(ProcessError, match="ended with status 1"):
        process.ask({}, 30)
    process.stop()


def test_kill_9_loses_nothing(tmp_path: Path) -> None:
    """Killed at random moments the log loads, all records are still there, and the next run goes on."""
    command = [sys.executable, "-m", "tvmconv", "tune", DW, *LONG, "--log", tmp_path]
    rng, before = random.Random(0), 0
    folder = folders.folder_of(tmp_path, NATIVE)
    for _ in range(KILLS):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline and count(folder) <= before:
            time.sleep(0.02)
        time.sleep(rng.random())
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        after = len(records(tmp_path))
        assert after > before, "no progress"
        before = after
        for entry in read_index(folder).values():
            assert entry.seconds > 0
    found = tvmconv.tune(DW, trials=before + 3, tuning_logs=tmp_path, threads=1)
    assert [str(spec) for spec in found] == [DW] and before < len(records(tmp_path)) < before + 15


def count(folder: Path) -> int:
    path = folder / folders.RECORDS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_ctrl_c_ends_cleanly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tvmconv", "tune", DW, *LONG, "--log", tmp_path]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr))
    reader.start()
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline and count(folders.folder_of(tmp_path, NATIVE)) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    reader.join()
    assert "interrupted" in lines[-1] and "Traceback" not in "".join(lines)
    assert len(records(tmp_path)) >= 2


def test_an_interrupt_waits_for_tvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes while TVM calls back into Python ends the run as any other does."""
    def interrupt(self: TuningSpace, choice: Choice) -> bool:
        signal.raise_signal(signal.SIGINT)
        return True

    monkeypatch.setattr(TuningSpace, "fits", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path, lambda point: 1e-4)


def test_errors_of_the_command(tmp_path: Path) -> None:
    log = ("--log", tmp_path / "log")

    def said(*arguments: object) -> str:
        done = tool("tune", *arguments)
        assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    assert "nothing to tune" in said(*log)
    assert "trials: 0, expected more than 0" in said(DW, "--trials", 0, *log)
    assert "threads: 4096, expected at most" in said(DW, "--trials", 1, "--threads", 4096, *log)
    assert "strategy: 'fast', expected one of groups_last, winograd_rows for" in said(
        DW, "--trials", 1, "--strategy", "fast", *log
    )
    (tmp_path / "file").write_text("")
    assert "cannot be written: Not a directory" in said(DW, "--trials", 1, "--log", tmp_path / "file" / "log")
    folder = folders.folder_of(tmp_path / "old", NATIVE)
    folders.prepare(folder, NATIVE)
    folders.write_json(folder / folders.METADATA, {"target": NATIVE.name, "tvm": "0.1"})
    assert "made with TVM 0.1" in said(DW, "--trials", 1, "--log", tmp_path / "old")
    folders.write_json(folder / folders.METADATA, {"target": "cortex-a72"})
    assert "of target cortex-a72" in said(DW, "--trials", 1, "--log", folder)
