"""tune, the function."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tvmconv.compiler.compile import Specs, named_specs
from tvmconv.schedules.machines import Machine

if TYPE_CHECKING:
    from tvmconv.formats.logs.entries import Entry
    from tvmconv.specs.kinds import Spec


def tune(
    specs: Specs,
    target: str | Machine = "native",
    *,
    trials: int | None = None,
    minutes: float | None = None,
    tuning_logs: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    strategy: str | None = None,
    space: str = "strategies",
    seed: int = 0,
    replay: bool = False,
    cold: bool = False,
) -> dict[Spec, Entry]:
    """Search for the fastest schedule of each spec on this machine; later compiles use what was found.

    ``specs``: as ``compile`` takes them; one that is given under several names counts that often. ``trials``:
    schedules to measure per spec, on average: each gets half of them, the others go where most is to be
    gained; those already in the log count. ``minutes``: of wall time, instead or as well. ``tuning_logs``:
    the folder of the logs, by default the user's own (``XDG_DATA_HOME/tvmconv/tuning_logs``). ``threads``:
    that the kernels run with (default: the CPU affinity). ``strategy``: search only this one; ``space``:
    "meta" for meta_schedule's own space instead of the strategies' knobs. ``replay``: do not search, measure
    the best few of the log again. ``cold``: weights come from far caches or memory, as in a network, whose
    compile prefers what was found so (and one of layers alone the rest); not for GPUs.

    Every schedule is checked against the float64 reference before it counts, and is kept only if it is faster
    than the default one by more than 2%. If interrupted and called again, it resumes. Returns each spec's
    verdict, with seconds per call of the chosen and of the default schedule. Raises SpecError, TargetError,
    TuningError.
    """
    from tvmconv.tuning.search.tuner import Options, run

    named = named_specs(specs)
    counts: dict[Spec, int] = {}
    for spec in named.values():
        spec.check_supported()
        counts[spec] = counts.get(spec, 0) + 1
    command = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "python"
    options = Options(trials, minutes, threads, strategy, space, seed, replay, command, cold)
    return run(counts, target, tuning_logs, options)
