"""Housekeeping of folders of logs: pruning and merging. TVM only if a workload has to be rebuilt."""

from __future__ import annotations

import base64
import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tvmconv.base.errors import Error, TuningError
from tvmconv.formats.choice import META
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs import traces
from tvmconv.formats.logs.entries import Entry, facts_of, index_of, read_best, read_index
from tvmconv.formats.logs.traces import SPEC

Record = tuple[int, int, list[Any]]  # as ``folders.read_records`` has it


def prune(folder: Path) -> tuple[int, int]:
    """Keep the record of each entry of the index, and the workloads they need; (kept, dropped).
    Raises TuningError, for a folder without an index too."""
    with folders.locked(folder):
        workloads, records = folders.read_workloads(folder), folders.read_records(folder)
        best = read_best(folder).values()  # of damaged entries too
        if records and not best:
            raise TuningError(f"tuning_logs: {folder / folders.INDEX} names no record to keep")
        wanted = {facts.get("record") for facts in best if isinstance(facts, dict)}
        by_name = {folders.record_name(record[2]): record for record in records}
        kept: list[list[Any]] = []
        lines: dict[str, int] = {}  # of the workloads that are kept
        needed = []
        for name in sorted(by_name.keys() & wanted):
            workload = _workload(folder, workloads, by_name[name])
            if workload[0] not in lines:
                lines[workload[0]] = len(lines)
                needed.append(workload)
            kept.append([lines[workload[0]], by_name[name][2]])
        folders.replace_all(folder, {folders.RECORDS: _text(kept), folders.WORKLOADS: _text(needed)})
        return len(kept), len(records) - len(kept)


def merge(source: Path, into: Path) -> int:
    """Copy from ``source`` the best records of descriptors that ``into`` lacks, or that gain more over the
    default schedule there; returns how many. Both are folders of one target. Nothing that ``into`` has is
    rewritten, so an interruption leaves it intact. Raises TuningError."""
    emulated = [bool(folders.read_metadata(folder).get("emulated")) for folder in (source, into)]
    if emulated[0] != emulated[1]:
        raise TuningError(f"tuning_logs: of {source} and {into} one was measured under emulation")
    with folders.locked(source) if os.access(source, os.W_OK) else nullcontext():
        workloads, records = folders.read_workloads(source), folders.read_records(source)
        theirs = read_index(source)
    by_name = {folders.record_name(record[2]): record for record in records}
    with folders.locked(into):
        best, known, own = read_best(into), read_index(into), folders.read_workloads(into)
        lines = {workload[0]: at for at, workload in enumerate(own) if workload is not None}
        new_workloads, new_records, end = [], [], len(own)
        for descriptor, entry in theirs.items():
            if entry.record not in by_name or not _better(entry, known.get(descriptor)):
                continue
            workload = _workload(source, workloads, by_name[entry.record])
            if workload[0] not in lines:
                lines[workload[0]] = end + len(new_workloads)
                new_workloads.append(workload)
            new_records.append([lines[workload[0]], by_name[entry.record][2]])
            best[descriptor] = facts_of(entry)
        if new_records:
            folders.append_lines(into / folders.WORKLOADS, *map(_line, new_workloads))
            folders.append_lines(into / folders.RECORDS, *map(_line, new_records))
            folders.write_json(into / folders.INDEX, index_of(best))
    return len(new_records)


def _better(entry: Entry, other: Entry | None) -> bool:
    """By the gain over the default: times of two machines are not comparable."""
    return other is None or entry.seconds / entry.default_seconds < other.seconds / other.default_seconds


def _workload(folder: Path, workloads: list[list[str] | None], record: Record) -> list[str]:
    """The workload of a record. Rebuilt from the record's descriptor if the file lacks it, is damaged there,
    or has another there. Raises TuningError."""
    line, at, facts = record
    where = f"tuning_logs: {folder / folders.RECORDS}:{line}"
    try:
        descriptor, choice, _ = traces.read(facts[0])
    except (ValueError, KeyError, IndexError, TypeError):
        raise TuningError(f"{where} is no record of tvmconv's, expected one") from None
    found = workloads[at] if at < len(workloads) else None
    if found is not None and _may_be_of(found, descriptor):
        return found
    from tvmconv.specs.kinds import parse_spec
    from tvmconv.tuning.search import definition

    try:
        return definition.workload_of(parse_spec(descriptor), choice.strategy == META)
    except Error as error:
        raise TuningError(f"{where}: {error}") from None


def _may_be_of(workload: list[str], descriptor: str) -> bool:
    """Whether a workload belongs to a descriptor, as far as it says: those of meta_schedule's own space
    don't."""
    try:
        code = base64.b64decode(workload[1], validate=True)
    except ValueError:
        return False
    return SPEC.encode() not in code or json.dumps(descriptor).encode() in code


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _text(lines: list[Any]) -> str:
    return "".join(_line(line) + "\n" for line in lines)
