"""The pool and its process: rounding as the caller does, forks, how many threads run and where."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import libraries
import numpy as np
import pytest
import torch
from places import DATA, SUPPORT

import tvmconv
from tvmconv.base import cpus


def build(folder: Path, *options: str) -> Path:
    program = folder / "launches"
    artifact = Path(tvmconv.__file__).parent / "compiler" / "artifact"
    line = ["cc", "-O1", "-std=gnu99", "-frounding-math", "-pthread", f"-I{artifact}", *options]
    subprocess.run(
        [*line, DATA / "launches.c", "-lm", "-o", program], check=True, capture_output=True
    )
    return program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("launches"))


@pytest.mark.parametrize("scenario", ["rounding", "forks"])
def test_in_c(program: Path, scenario: str) -> None:
    """The launching thread's rounding and flushing holds for every task; a child has a pool of its own, at
    whatever moment and by whatever call it was forked."""
    done = subprocess.run([program, scenario], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "right\n")


def test_flush_to_zero_from_python() -> None:
    """PyTorch's switch, turned after the pool started, decides the same for the whole result."""
    x, w, bias, _ = libraries.case("large")
    f = libraries.module()["large"].bind(np.full_like(w, 1e-10), np.zeros_like(bias))
    tiny = np.full_like(x, 1e-30)
    tvmconv.set_num_threads(4)
    try:
        assert (f(tiny) > 0).all()
        assert torch.set_flush_denormal(True)
        flushed = [f(tiny) for _ in range(50)]
        torch.set_flush_denormal(False)
        assert all((y == 0).all() for y in flushed) and (f(tiny) > 0).all()
    finally:
        torch.set_flush_denormal(False)
        tvmconv.set_num_threads(1)


def threads(program: Path, **environment: str) -> tuple[int, str]:
    """What the pool takes for its number of threads, and what it prints about that."""
    names = {"TVMCONV_NUM_THREADS": "", "TVM_NUM_THREADS": ""}
    line = [program, "threads"]
    done = subprocess.run(line, capture_output=True, text=True, env={**names, **environment}, check=True)
    return int(done.stdout), done.stderr


WRONG = ["1e3", "=foo", "0", "257", "-1", "4 ", "+2", "2.0", "99999999999999999999", "\x1b[31m\n2", "zwölf"]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_numbers_of_threads(program: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in Python; in C a line, once, and the next of the ways to find the number."""
    found, said = threads(program, TVMCONV_NUM_THREADS=text, TVM_NUM_THREADS="5")
    assert found == 5 and said.startswith("tvmconv: TVMCONV_NUM_THREADS: '") and said.count("\n") == 1
    assert said[:-1].isprintable() and said[:-1].isascii()
    assert threads(program, TVMCONV_NUM_THREADS="3", TVM_NUM_THREADS=text) == (3, "")
    for name in ("TVMCONV_NUM_THREADS", "TVM_NUM_THREADS"):
        monkeypatch.delenv("TVMCONV_NUM_THREADS", raising=False)
        monkeypatch.setenv(name, text)
        with pytest.raises(
            tvmconv.Error, match=f"{name}: .*, expected a whole number from 1 to 256"
        ) as caught:
            tvmconv.load(libraries.module().path)
        libraries.assert_one_line(caught)


@pytest.mark.parametrize("text", ["1", "256", "007"])
def test_plain_numbers_of_threads(program: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads(program, TVM_NUM_THREADS=text) == (int(text), "")
    monkeypatch.setenv("TVMCONV_NUM_THREADS", text)
    tvmconv.load(libraries.module().path)


GROUPS = [  # /proc/self/cgroup, files of quotas, the CPUs that they are worth
    ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 1),
    ("0::/a/b\n", {"a/b/cpu.max": "150000 100000", "a/cpu.max": "400000 100000"}, 2),
    ("0::/\n", {"cpu.max": "100000 100000"}, 1),
    ("0::/\n", {"cpu.max": "max 100000"}, None),
    ("0::/../elsewhere\n", {}, None),
    ("3:cpuset:/x\n2:cpu,cpuacct:/x/y\n0::/x\n",
     {"cpu/x/cpu.cfs_quota_us": "20000", "cpu/x/cpu.cfs_period_us": "100000"}, 1),
    ("2:cpuacct,cpu:/outside/of/here\n",
     {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ("2:cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "20000", "cpu/x/cpu.cfs_period_us": "100000"}, None),
]  # fmt: skip


def test_quotas_of_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least of the group's and its parents', of both versions, rounded up; not more than the affinity."""
    own = tmp_path / "self"
    groups = tmp_path / "groups"
    monkeypatch.setattr(cpus, "_OWN_GROUPS", own)
    monkeypatch.setattr(cpus, "_GROUPS", groups)
    program = build(tmp_path, f'-DTCV_CGROUPS="{groups}"', f'-DTCV_CGROUP_OF_SELF="{own}"')
    everything, _ = threads(program)
    for number, (text, files, worth) in enumerate(GROUPS):
        if groups.exists():
            groups.rename(tmp_path / f"groups{number}")
        own.write_text(text)
        for name, line in files.items():
            (groups / name).parent.mkdir(parents=True, exist_ok=True)
            (groups / name).write_text(line + "\n")
        assert threads(program) == (min(worth or everything, everything), ""), text
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(everything))
        assert cpus.available() == min(worth or everything, everything), text
    assert threads(program, TVM_NUM_THREADS="9") == (9, "")


AFFINITY = """
import os, sys
sys.path.insert(0, HERE)
import libraries, tvmconv
x, w, bias, _ = libraries.case("large")
f = libraries.module()["large"].bind(w, bias)
tvmconv.set_num_threads(3)
before = {int(t) for t in os.listdir("/proc/self/task")}
for _ in range(20):
    f(x)
workers = [t for t in map(int, os.listdir("/proc/self/task")) if t not in before]
assert len(workers) == 2
every = sorted(os.sched_getaffinity(0))
for turn in range(4):
    for cpu in every[:2]:
        for thread in map(int, os.listdir("/proc/self/task")):  # as taskset -ap does
            os.sched_setaffinity(thread, {cpu})
        for _ in range(10):
            f(x)
        assert all(os.sched_getaffinity(w) == {cpu} for w in workers), (cpu, turn)
    for thread in map(int, os.listdir("/proc/self/task")):
        os.sched_setaffinity(thread, every)
    for _ in range(10):
        f(x)
    assert all(os.sched_getaffinity(w) <= set(every) for w in workers)
"""


def test_affinities_that_others_set_stay() -> None:
    script = AFFINITY.replace("HERE", repr(str(SUPPORT)))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
