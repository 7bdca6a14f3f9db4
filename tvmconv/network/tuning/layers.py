"""What of a network can be tuned, and how its schedules are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvmconv.base.errors import TuningError
from tvmconv.formats.choice import META, Choice
from tvmconv.formats.kernel import Kernel
from tvmconv.network.compiling import Network
from tvmconv.network.planning.program import works_of
from tvmconv.specs.kinds import Spec
from tvmconv.tuning.search.tuner import Options, check

if TYPE_CHECKING:
    from tvmconv.tuning.search.task import Task


def layers_of(network: Network) -> list[Spec]:
    """What of a network can be tuned, each once. Raises TuningError if there is nothing."""
    found = dict.fromkeys(work.dense for work in works_of(network.graph))
    if layers := [work for work in found if isinstance(work, Spec)]:
        return layers
    raise TuningError(f"{network.model.name}: no layer in it, expected some whose schedules can be tuned")


def check_options(options: Options, network: Network) -> None:
    """Raise TuningError for what cannot be run."""
    if options.space == META or options.strategy is not None:
        what = "space" if options.space == META else "strategy"
        raise TuningError(f"{what}: {getattr(options, what)!r}, expected none for the layers of a network")
    check(options, dict.fromkeys(layers_of(network), 1))


def key_of(choice: Choice) -> str:
    """A choice as a key of a dict."""
    return f"{choice.strategy} {sorted(choice.point.items())}"


def choice_of(kernel: Kernel) -> Choice:
    return Choice(kernel.schedule["strategy"], kernel.schedule["point"])


def best_of(task: Task) -> float:
    """Seconds of the best that was measured of a layer by itself."""
    return min((seconds for _, seconds in task.measured.values()), default=task.default_seconds)
