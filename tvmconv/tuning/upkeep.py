"""Housekeeping of folders of logs: pruning and merging. No TVM here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tvmconv.tuning import folder as folders
from tvmconv.tuning.entries import Entry, read_index, write_index


def prune(folder: Path) -> tuple[int, int]:
    """Keep the record of each of the index's entries, and the workloads that those need; (kept, dropped)."""
    with folders.locked(folder):
        workloads, records = _read(folder)
        wanted = {entry.record for entry in read_index(folder).values()}
        best = {folders.record_name(facts): [at, facts] for at, facts in records}
        kept = [best[name] for name in sorted(best) if name in wanted]
        _write(folder, workloads, kept)
        return len(kept), len(records) - len(kept)


def merge(source: Path, into: Path) -> int:
    """Take over the best records that ``source`` has of descriptors that ``into`` lacks, or that gain more
    over the default schedule there; how many. Both are folders of one target."""
    with folders.locked(source):
        workloads, records = _read(source)
        theirs = read_index(source)
    by_name = {folders.record_name(facts): (at, facts) for at, facts in records}
    with folders.locked(into):
        own_workloads, own_records = _read(into)
        entries = read_index(into)
        known = {str(shash): at for at, (shash, _) in enumerate(own_workloads)}
        taken = 0
        for descriptor, entry in theirs.items():
            if entry.record not in by_name or not _better(entry, entries.get(descriptor)):
                continue
            at, facts = by_name[entry.record]
            shash = str(workloads[at][0])
            if shash not in known:
                known[shash] = len(own_workloads)
                own_workloads.append(workloads[at])
            own_records.append([known[shash], facts])
            entries[descriptor] = entry
            taken += 1
        _replace(into, own_workloads, own_records)
        write_index(into, entries)
    return taken


def _better(entry: Entry, other: Entry | None) -> bool:
    """By the gain over the default: times of two machines are not alike."""
    return other is None or entry.seconds / entry.default_seconds < other.seconds / other.default_seconds


def _read(folder: Path) -> tuple[list[Any], list[Any]]:
    return folders.read_lines(folder / folders.WORKLOADS)[0], folders.read_lines(folder / folders.RECORDS)[0]


def _write(folder: Path, workloads: list[Any], records: list[Any]) -> None:
    """Replace the files by ``records`` and those of ``workloads`` that they are of."""
    used = sorted({at for at, _ in records})
    places: Mapping[int, int] = {old: new for new, old in enumerate(used)}
    _replace(folder, [workloads[at] for at in used], [[places[at], facts] for at, facts in records])


def _replace(folder: Path, workloads: Iterable[Any], records: Iterable[Any]) -> None:
    for name, values in ((folders.RECORDS, records), (folders.WORKLOADS, workloads)):
        partial = folder / f".{name}.{os.getpid()}"
        text = "".join(json.dumps(value, separators=(",", ":")) + "\n" for value in values)
        partial.write_text(text, encoding="utf-8")
        partial.replace(folder / name)
