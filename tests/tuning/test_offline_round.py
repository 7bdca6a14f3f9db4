"""Tuning for a GPU that is elsewhere. What times the candidates here is a stand-in on the CPU, so the times
mean nothing, and its logs are thrown away: the way from one round to the next is what is tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import emulation
import pytest
from libraries import assert_one_line

import tvmconv
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.entries import read_index
from tvmconv.formats.logs.traces import read
from tvmconv.specs.kinds import parse_spec
from tvmconv.tuning.measuring import gpu_round
from tvmconv.tuning.measuring.carried import carry
from tvmconv.tuning.offline_rounds import offline_round

SPEC = parse_spec("conv2d:1x6x7x8:o8:k3x3:p1:g8:NHWC:float32:bias")
TARGET, TRIALS = "cuda-sm_90", 4


def next_round(folder: Path, logs: Path, target: str = TARGET) -> dict:
    return offline_round({SPEC: 1}, target, logs, folder, TRIALS)


def run_on_a_cpu_stand_in(folder: Path) -> None:
    """What run.sh does on a machine with a GPU, with a fake driver."""
    driver, kernels = emulation.build_driver(), emulation.build_kernels(sorted(folder.glob("*.so")))
    env = {**os.environ, "LD_PRELOAD": f"{driver}:{kernels}", "PYTHON": sys.executable}
    env.pop("PYTHONPATH", None)
    done = subprocess.run([folder / "run.sh"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" us") == TRIALS


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A round that has its results, and the logs that it was made with."""
    top = tmp_path_factory.mktemp("offline")
    made = next_round(top / "round", top / "logs")
    assert made["read"] == 0 and made["candidates"] == TRIALS and not made["best"]
    with pytest.raises(tvmconv.TuningError, match=r"no results\.json yet") as error:
        next_round(top / "round", top / "logs")
    assert_one_line(error)
    run_on_a_cpu_stand_in(top / "round")
    return top / "round", top / "logs"


def test_all_that_a_round_needs_goes_with_it(tmp_path: Path) -> None:
    """Of this package: the machine with the GPU has numpy alone."""
    carry(tmp_path)
    program = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path.insert(0, sys.argv[1])
import tvmconv.frontends.verify, tvmconv.runtime, tvmconv.specs.reference
import tvmconv.tuning.measuring.gpu_clock, tvmconv.tuning.measuring.gpu_round
mine = {name: module.__file__ for name, module in sys.modules.items() if name.startswith("tvmconv")}
assert all(file.startswith(sys.argv[1]) for file in mine.values()), mine
assert "tvm" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, cwd=tmp_path)


def test_rounds_of_meta_schedules_space(tmp_path: Path) -> None:
    """Its candidates run, are right, and a record of one is what a later compile and round go by."""
    round_, logs = tmp_path / "round", tmp_path / "logs"
    made = offline_round({SPEC: 1}, TARGET, logs, round_, TRIALS, space="meta")
    assert made["candidates"] == TRIALS
    run_on_a_cpu_stand_in(round_)
    results = json.loads((round_ / "results.json").read_text())
    del results["digest"]
    results["results"]["task0.so:c1"]["seconds"] = [1e-9]  # whatever a CPU says, this one is to win
    digest = gpu_round.digest(results)
    (round_ / "results.json").write_text(json.dumps({**results, "digest": digest}))
    made = next_round(round_, logs)
    assert made["read"] == TRIALS and made["best"][str(SPEC)]["strategy"] == "meta"
    (known,) = tvmconv.compile({"f": SPEC}, TARGET, tuning_logs=logs).manifest["functions"]
    assert known["schedule"]["strategy"] == "meta" and "unused_record" not in known["schedule"]
    lines, _ = folders.read_lines(logs / TARGET / folders.RECORDS)
    found = [read(trace) for _, (trace, *_) in lines]
    assert {choice.strategy for _, choice, _ in found} == {"meta"} and not any(wrong for *_, wrong in found)


def copied(measured: tuple[Path, Path], folder: Path) -> tuple[Path, Path]:
    import shutil

    for path, name in zip(measured, ("round", "logs"), strict=True):
        shutil.copytree(path, folder / name)
    return folder / "round", folder / "logs"


def test_two_rounds_and_what_was_learnt(measured: tuple[Path, Path], tmp_path: Path) -> None:
    round_, logs = copied(measured, tmp_path)
    first = json.loads((round_ / "round.json").read_text())
    made = next_round(round_, logs)
    assert made["read"] == TRIALS and set(made["best"]) == {str(SPEC)}
    second = json.loads((round_ / "round.json").read_text())
    assert second["number"] == 2 and not (round_ / "results.json").exists()

    def points(facts: dict) -> set[str]:
        return {json.dumps(choice) for choice in facts["tasks"][0]["candidates"].values()}

    assert points(second) and not points(first) & points(second)  # nothing is measured twice
    (entry,) = read_index(logs / TARGET).values()
    assert entry.cpu == "no GPU: emulated on the CPU" and entry.trials >= TRIALS
    library = tvmconv.compile({"f": SPEC}, TARGET, tuning_logs=logs)
    assert library.manifest["functions"][0]["schedule"]["point"] == entry.point
    run_on_a_cpu_stand_in(round_)
    assert next_round(round_, logs)["read"] == TRIALS


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda r: r["results"].pop("task0.so:c1"), "was edited"),
        (lambda r: r["results"]["task0.so:c1"].update(seconds=[1e-9]), "was edited"),
        (lambda r: r.update(round="0" * 64), "of another round"),
    ],
)
def test_results_that_are_not_the_rounds(
    measured: tuple[Path, Path], tmp_path: Path, spoil, expected: str
) -> None:
    round_, logs = copied(measured, tmp_path)
    results = json.loads((round_ / "results.json").read_text())
    spoil(results)
    (round_ / "results.json").write_text(json.dumps(results))
    with pytest.raises(tvmconv.TuningError, match=expected) as error:
        next_round(round_, logs)
    assert_one_line(error)


def test_a_round_that_was_edited(measured: tuple[Path, Path], tmp_path: Path) -> None:
    round_, logs = copied(measured, tmp_path)
    facts = json.loads((round_ / "round.json").read_text())
    facts["tasks"][0]["candidates"]["c0"] = facts["tasks"][0]["candidates"]["c1"]
    (round_ / "round.json").write_text(json.dumps(facts))
    with pytest.raises(tvmconv.TuningError, match=r"round\.json was edited") as error:
        next_round(round_, logs)
    assert_one_line(error)


def test_a_round_where_there_is_no_such_gpu(measured: tuple[Path, Path], tmp_path: Path) -> None:
    """Nothing is written: failures of every candidate would go into the logs."""
    round_, _ = copied(measured, tmp_path)
    (round_ / "results.json").unlink()
    for target, expected in ((TARGET, "error: no NVIDIA driver"), ("cuda-sm_80", "is of cuda-sm_90")):
        facts = json.loads((round_ / "round.json").read_text())
        (round_ / "round.json").write_text(json.dumps({**facts, "target": target}))
        env = {**os.environ, "PYTHON": sys.executable}
        if target != TARGET:
            env["LD_PRELOAD"] = str(emulation.build_driver())
        done = subprocess.run([round_ / "run.sh"], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and expected in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert not (round_ / "results.json").exists()


def test_results_that_lack_entries(measured: tuple[Path, Path], tmp_path: Path) -> None:
    round_, logs = copied(measured, tmp_path)
    results = json.loads((round_ / "results.json").read_text())
    del results["results"]["task0.so:c0"], results["digest"]
    (round_ / "results.json").write_text(json.dumps({**results, "digest": gpu_round.digest(results)}))
    with pytest.raises(tvmconv.TuningError, match=r"lacks 1 entries, as task0\.so:c0"):
        next_round(round_, logs)


def test_rounds_of_other_targets(measured: tuple[Path, Path], tmp_path: Path) -> None:
    round_, logs = copied(measured, tmp_path)
    for target, expected in (("cuda-sm_80", "a round for cuda-sm_90"), ("native", "expected one cuda target"),
                             ("cuda-sm_80,cuda-sm_90", "expected one cuda target")):  # fmt: skip
        with pytest.raises(tvmconv.TuningError, match=expected):
            next_round(round_, logs, target)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(tvmconv.TuningError, match="no round, expected one, or a new folder"):
        next_round(tmp_path / "mine", logs)
