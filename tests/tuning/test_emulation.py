"""Emulated CPUs are told from real ones, and what was measured on them is kept apart."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import edge
import pytest
from cli_tools import tool
from places import ROOT
from test_tuning_logs import DW, NATIVE, log_of

import tvmconv
from tvmconv.base.errors import TuningError
from tvmconv.formats.logs import emulation
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.entries import read_index, write_entry
from tvmconv.formats.logs.lookup import Logs
from tvmconv.formats.logs.traces import is_emulated
from tvmconv.specs.kinds import parse_spec
from tvmconv.tuning.log_upkeep import merge
from tvmconv.tuning.search.database import Database
from tvmconv.tuning.search.space import TuningSpace

# The module alone, for the C library's own emulator has no numpy: what it takes from elsewhere stands in.
_PROGRAM = """
import platform, sys, types
cpu = types.ModuleType("tvmconv.formats.cpu_features")
cpu.host_arch = lambda: {"armv7l": "armv7"}.get(platform.machine(), platform.machine())
sys.modules.update({"tvmconv": types.ModuleType("tvmconv"), "tvmconv.formats.cpu_features": cpu})
sys.modules["tvmconv.runtime"] = types.ModuleType("tvmconv.runtime")
source = {}
exec(compile(open(sys.argv[1]).read(), "emulation", "exec"), source)
signs = source["_other_program"], source["_other_kernel"], source["_other_cpu"]
print(source["emulator"](), *(sign() for sign in signs), sep="|")
"""


def test_this_cpu_is_none() -> None:
    assert emulation.emulator() is None


def test_a_name_without_a_number_says_too_little() -> None:
    cpu = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC{}\n\n"
    assert emulation.name_in(2 * cpu.format("")) == "AMD EPYC (family 25, model 17)"
    assert emulation.name_in(cpu.format(" 9554 64-Core")) == "AMD EPYC 9554 64-Core"
    assert emulation.name_in("processor\t: 0\nCPU part\t: 0xd0c\n") == ""


@pytest.mark.parametrize("arch", ["aarch64", "armv7"])
def test_an_emulated_cpu_tells(arch: str) -> None:
    """By each of the signs alone, since another emulator may hide some."""
    edge.emulator(arch)
    python = edge.root(arch) / "python3"
    command = [python, "-c", _PROGRAM, emulation.__file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found, program, kernel, cpu = done.stdout.strip().split("|")
    assert found == program and program.startswith("qemu-a")
    assert kernel in ("a machine of x86_64", "None") and cpu == "a machine of x86_64"


def test_a_record_under_emulation_is_stamped(tmp_path: Path) -> None:
    """And a run on real CPUs doesn't count it among its trials, nor the other way round."""
    folder = tmp_path / NATIVE.name
    folders.prepare(folder, NATIVE, emulated=True)
    space = TuningSpace(parse_spec(DW), NATIVE)
    Database(folder, space, 1, emulated=True).commit(space.schedule(space.default), [1e-5])
    ((_, _, facts),) = folders.read_records(folder)
    assert is_emulated(facts[0])
    assert len(Database(folder, space, 1, emulated=True).known()) == 1
    assert Database(folder, space, 1).known() == []


def test_folders_of_the_two_are_not_mixed(tmp_path: Path) -> None:
    real, other = log_of(tmp_path / "real", DW), log_of(tmp_path / "other", DW)
    metadata = folders.read_metadata(other)
    folders.write_json(other / folders.METADATA, {**metadata, "emulated": True})
    write_entry(other, DW, replace(read_index(other)[DW], emulated=True))
    with pytest.raises(TuningError, match="was measured on real CPUs"):
        folders.prepare(real, NATIVE, emulated=True)
    with pytest.raises(TuningError, match="was measured under emulation"):
        folders.prepare(other, NATIVE)
    with pytest.raises(TuningError, match="was measured under emulation"):
        tvmconv.compile(DW, tuning_logs=other)
    with pytest.raises(TuningError, match="one was measured under emulation"):
        merge(other, real)
    listed = json.loads(tool("logs", "list", "--log", other, "--json").stdout)
    assert [record["emulated"] for record in listed["records"]] == [True]
    # The mark of an entry counts by itself, wherever the entry is.
    write_entry(real, DW, replace(read_index(real)[DW], emulated=True))
    assert Logs(NATIVE, real).find(parse_spec(DW)) is None


def test_what_ships_was_measured_on_cpus() -> None:
    """Of the architecture that it is for, by the kernel's own name for it."""
    checked = 0
    for index in (ROOT / "tuning_logs").glob("*/index.json"):
        folder = index.parent
        assert not folders.read_metadata(folder).get("emulated")
        for descriptor, entry in read_index(folder).items():
            assert not entry.emulated and entry.cpu.startswith(("AMD", "Intel")), descriptor
        for _, _, facts in folders.read_records(folder):
            assert not is_emulated(facts[0])
            checked += 1
    assert checked > 500
