"""How many CPUs this process may use: as threads.c counts them for the kernels of a library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def available() -> int:
    """The CPUs of its affinity, or as many as the quotas of its control groups are worth, rounded up, if that
    is fewer."""
    return min([len(os.sched_getaffinity(0)), *_quotas()])


def _quotas() -> Iterator[int]:
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:  # 0::/group, or 2:cpu,cpuacct:/group
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        place = PurePosixPath(group)
        for one in (place, *place.parents):  # the group and those it is in
            folder = Path(f"{_GROUPS}/{'cpu' if controllers else ''}/{one}")
            if controllers:
                words = [_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
            else:
                words = _text(folder / "cpu.max").split()
            if len(words) == 2 and all(word.isdigit() and int(word) for word in words):
                yield -(-int(words[0]) // int(words[1]))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
