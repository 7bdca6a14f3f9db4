"""Tuning on the GPU of this machine. What stands for it is the CPU, so the times mean nothing, and the logs
are thrown away: the way from `tune` to an entry of the index is what is tested."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import emulation
import pytest
from cli_tools import tool
from guard import in_child
from libraries import assert_one_line

import tvmconv
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.entries import read_index
from tvmconv.formats.logs.traces import read
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import parse_spec
from tvmconv.tuning.measuring.gpu import GpuRunner
from tvmconv.tuning.measuring.runner import BASELINE, SEARCH
from tvmconv.tuning.search.tuner import Options, run

DW = "conv2d:1x6x7x8:o8:k3x3:p1:g8:NHWC:float32:bias"
PW = "conv2d:1x4x8x32:o32:k1x1:NHWC:bfloat16"


class OnACpuStandIn(GpuRunner):
    """Runs candidates by a fake driver, on the CPU."""

    def environment(self, path: Path) -> dict[str, str]:
        driver, kernels = emulation.build_driver(), emulation.build_kernels([path])
        return {**super().environment(path), "LD_PRELOAD": f"{driver}:{kernels}"}


def test_candidates_are_checked_timed_and_remembered(tmp_path: Path) -> None:
    in_child(tune_two, str(tmp_path))
    entries = read_index(tmp_path / "cuda-sm_90")
    assert set(entries) == {DW, PW}
    assert all(entry.cpu == "no GPU: emulated on the CPU" for entry in entries.values())
    lines, _ = folders.read_lines(tmp_path / "cuda-sm_90" / folders.RECORDS)
    found = [read(trace) for _, (trace, *_) in lines]
    assert len(found) >= 6 and not [error for *_, error in found if error]
    library = tvmconv.compile({"f": DW}, "cuda-sm_90", tuning_logs=tmp_path)
    assert library.manifest["functions"][0]["schedule"]["point"] == entries[DW].point


def tune_two(folder: str) -> None:
    emulation.fake_driver()
    machine = resolve("cuda-sm_90")
    runner = OnACpuStandIn(machine)
    found = run({parse_spec(text): 1 for text in (DW, PW)}, machine, folder, Options(trials=3), runner=runner)
    assert len(found) == 2


def test_a_candidate_that_ends_its_process_costs_itself(tmp_path: Path) -> None:
    in_child(measure_without_kernels)


def measure_without_kernels() -> None:
    """A driver that finds no kernel: each call fails, and the runner goes on to say so."""
    emulation.fake_driver()

    class Broken(OnACpuStandIn):
        def environment(self, path: Path) -> dict[str, str]:
            environment = super().environment(path)
            driver, _ = environment["LD_PRELOAD"].split(":")
            return {**environment, "LD_PRELOAD": driver}

    kernel = tvmconv.compile({"f": DW}, "cuda-sm_90").functions["f"]
    (found,) = Broken(resolve("cuda-sm_90")).measure({BASELINE: kernel}, [BASELINE], SEARCH)
    assert "CUDA error 500" in found.error, found


def test_gpus_of_another_kind() -> None:
    in_child(refuse_others)


def refuse_others() -> None:
    emulation.fake_driver()
    with pytest.raises(tvmconv.TuningError, match=r"cuda-sm_80, but no GPU: .* is of cuda-sm_90") as error:
        tvmconv.tune(DW, "cuda-sm_80", trials=1)
    assert_one_line(error)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--target", "cuda-sm_90"], "no NVIDIA driver on this .*GPU of cuda-sm_90, or --offline-round"),
        (["--target", "cuda-sm_80,cuda-sm_90"], "expected one target here, not several"),
        (["--target", "cuda-sm_90", "--threads", "2"], "threads: 2, expected none for a GPU"),
        (["--target", "cuda-sm_90", "--tracker", "127.0.0.1:1", "--key", "k"], "expected the boards' target"),
    ],
)
def test_what_cannot_be(options: list[str], expected: str) -> None:
    failed = tool("tune", DW, "--trials", "1", *options)
    assert failed.returncode == 2 and re.search(expected, failed.stderr), failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1


def test_the_processes_import_no_compiler(tmp_path: Path) -> None:
    """The part that runs a candidate needs numpy and the runtime, as on a machine with a GPU alone."""
    program = "import sys, tvmconv.tuning.measuring.gpu_round; sys.exit('tvm' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ})
