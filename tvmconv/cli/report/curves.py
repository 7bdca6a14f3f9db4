"""How tuning got to the schedules of kernels: the trials that logs have of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from tvmconv.cli.report.facts import Curve

FEWEST = 3  # trials that make a curve
_FAILED = 1e10  # seconds that stand for none


def curves_of(
    descriptors: Iterable[str], target: str, given: Sequence[str] | None, cold: bool
) -> dict[str, Curve]:
    """By descriptor, where a log has that many trials of it or of its nearest twin. ``given``: logs, as for
    `compile`; ``cold``: those with cold weights come first, as for a network."""
    from tvmconv.formats.logs.entries import key_of, read_index
    from tvmconv.specs.pitched import parse_work

    found: dict[str, Curve] = {}
    works = {text: parse_work(text) for text in descriptors}
    wanted = {text: [str(one) for one in (work, *work.twins())] for text, work in works.items()}
    for whose, folder in _folders(target, given):
        trials = _trials(folder)
        index = read_index(folder) if trials else {}
        for text, names in wanted.items():
            for name, setting in ((name, setting) for name in names for setting in (cold, not cold)):
                seconds = trials.get((name, setting), [])
                if text not in found and len(seconds) >= FEWEST:
                    entry = index.get(key_of(name, setting))
                    verdict = (None, None) if entry is None else (entry.default_seconds, entry.seconds)
                    found[text] = Curve(name, whose, tuple(seconds), *verdict)
    return found


def _folders(target: str, given: Sequence[str] | None) -> list[tuple[str, Path]]:
    """Whose logs, and where, in the order in which `compile` asks them."""
    from tvmconv.formats.logs import folder as folders
    from tvmconv.schedules.machines import resolve

    roots = {"user": folders.user_root, "shipped": folders.shipped_root}
    machine = resolve(target)
    return [
        (root, path)
        for root in given or roots
        for path, _, _ in folders.folders_of(roots[root]() if root in roots else root, machine)
    ]


def _trials(folder: Path) -> dict[tuple[str, bool], list[float | None]]:
    """Seconds of every trial in a folder by (descriptor, whether weights were cold), in the log's order;
    those under emulation left out."""
    from tvmconv.formats.logs import traces
    from tvmconv.formats.logs.folder import read_metadata, read_records

    found: dict[tuple[str, bool], list[float | None]] = {}
    if read_metadata(folder).get("emulated"):
        return found
    for _, _, (trace, seconds, *_) in read_records(folder):
        try:
            descriptor, _, error = traces.read(trace)
            if traces.is_emulated(trace):
                continue
        except (ValueError, TypeError, KeyError, IndexError):  # another tool's
            continue
        failed = error is not None or not seconds or not 0 < min(seconds) < _FAILED
        found.setdefault((descriptor, traces.is_cold(trace)), []).append(None if failed else median(seconds))
    return found
