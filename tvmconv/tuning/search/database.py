"""Records of one spec: meta_schedule's, in a folder of logs that several processes may write to."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.target import Target

from tvmconv.compiler.lower.cuda import cuda_target
from tvmconv.formats.choice import Choice
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs import traces
from tvmconv.formats.logs.entries import check_choice
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import AnyMachine
from tvmconv.tuning.search.definition import workload_json
from tvmconv.tuning.search.meta import MetaSpace
from tvmconv.tuning.search.space import TuningSpace

FAILED = 1e10  # seconds, as meta_schedule records a candidate that gave no time


@dataclass(frozen=True)
class Known:
    """A record of the log: a point, and its seconds per call (None if it failed)."""

    choice: Choice
    seconds: float | None


class Database:
    """The records of a space's points in ``folder``; ``memory`` is what a search reads and fills: it can use
    only traces of its own space, and a log has others too. ``emulated``: records are from an emulated CPU;
    ``cold``: with cold weights. Others aren't read."""

    def __init__(
        self, folder: Path, space: TuningSpace | MetaSpace, threads: int, emulated: bool = False,
        cold: bool = False,
    ) -> None:  # fmt: skip
        self.folder, self.spec, self.stamp = folder, space.spec, space.stamp
        self.emulated, self.cold = emulated, cold
        self.target: Target = _target(space.machine, threads)
        self.memory = ms.database.MemoryDatabase()
        self.workload = self.memory.commit_workload(space.module)
        self.module = self.workload.mod
        self._place: tuple[int, int] | None = None  # the workload's line, in the file of this inode

    def known(self) -> list[Known]:
        """What the folder holds for the spec, in order. Raises TuningError."""
        found = []
        with folders.locked(self.folder):  # so that anything interrupted is completed
            records = folders.read_records(self.folder)
        for line, _, (trace, run_secs, *_) in records:
            try:
                descriptor, choice, error = traces.read(trace)
            except (ValueError, KeyError, IndexError, TypeError):
                continue  # of another tool
            measured = traces.is_emulated(trace), traces.is_cold(trace)
            if descriptor == str(self.spec) and measured == (self.emulated, self.cold):
                check_choice(choice, f"{self.folder / folders.RECORDS}:{line}")
                failed = error is not None or not run_secs or not 0 < min(run_secs) < FAILED
                found.append(Known(choice, None if failed else statistics.median(run_secs)))
        return found

    def commit(self, sch: Schedule, seconds: Sequence[float], error: str = "") -> str:
        """Append a record to the folder, and wait until it is on disk; returns its name. A failure has no
        seconds."""
        notes = dict(self.stamp)
        if self.emulated:
            notes[traces.EMULATED] = "true"
        if self.cold:
            notes[traces.COLD] = "true"
        if error:
            notes[traces.ERROR] = error.replace('"', "'").replace("\\", "/")
        if notes:
            sch = sch.copy()
            root = sch.get_sblock("root")
            for key, text in notes.items():
                sch.annotate(root, key, text)
        args = ms.arg_info.ArgInfo.from_entry_func(self.module, remove_preproc=True)
        record = ms.database.TuningRecord(
            sch.trace, self.workload, list(seconds) or [FAILED], self.target, args
        )
        facts = record.as_json()
        with folders.locked(self.folder):
            line = json.dumps([self._workload_line(), facts], separators=(",", ":"))
            folders.append_lines(self.folder / folders.RECORDS, line)
        return folders.record_name(facts)

    def _workload_line(self) -> int:
        """The line of the workload in the folder, appended if necessary."""
        path = self.folder / folders.WORKLOADS
        if self._place is None or not path.exists() or self._place[1] != path.stat().st_ino:
            mine = workload_json(self.workload)
            known = [None if found is None else found[0] for found in folders.read_workloads(self.folder)]
            if mine[0] not in known:
                folders.append_lines(path, json.dumps(mine))
                known.append(mine[0])
            self._place = known.index(mine[0]), path.stat().st_ino
        return self._place[0]


def _target(machine: AnyMachine, threads: int) -> Target:
    if isinstance(machine, GpuMachine):
        return cuda_target(machine.sms[0])
    return with_cores(llvm_target(machine), threads)


def with_cores(target: Target, cores: int) -> Target:
    """``target`` with the number of cores, which meta_schedule needs."""
    return Target({**json.loads(str(target)), "num-cores": cores})
