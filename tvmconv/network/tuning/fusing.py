"""Fused or apart: the blocks that a network can have, in place beside the layers that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvmconv.compiler.compile import compile_kernels
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.logs.lookup import Logs
from tvmconv.network.choosing import decided, gains
from tvmconv.network.compiling import Network, blocked, joined
from tvmconv.network.planning.program import works_of
from tvmconv.network.tuning.layers import choice_of
from tvmconv.network.tuning.playing import Player
from tvmconv.network.tuning.report import Change
from tvmconv.schedules.machines import Machine
from tvmconv.specs.block import BlockSpec
from tvmconv.specs.spec import Spec
from tvmconv.specs.work import Work
from tvmconv.tuning.measuring.runner import NetworkRunner

if TYPE_CHECKING:
    from tvmconv.tuning.search.task import Place

_FASTER = 0.99  # of the time of what is made now: what the other way has to reach
_TURNS = 2  # of the network with all blocks and of that without


@dataclass(frozen=True)
class State:
    """A network with its blocks, and the kernels that logs have for it."""

    player: Player
    kernels: Mapping[Work, Kernel]

    @classmethod
    def of(cls, network: Network, machine: Machine, logs: Logs, runner: NetworkRunner) -> State:
        """A network whose blocks are decided."""
        kernels = compile_kernels(list(works_of(network.graph)), machine, logs)
        return cls(Player(network, runner), kernels)


def decide(
    network: Network, machine: Machine, logs: Logs, place: Place, runner: NetworkRunner,
    show: Callable[[str], None],
) -> list[Change]:  # fmt: skip
    """The blocks that are made from now on, and those that are no more. All that were weighed are entered
    into the index, or none if the whole would not get faster. What records decide is not weighed again."""
    weighed: dict[BlockSpec, _Timed] = {}
    changes: dict[BlockSpec, Change] = {}
    apart: _Timed | None = None

    def pays(spec: BlockSpec) -> bool:
        if spec not in weighed and _is_open(spec, logs):
            return True  # to be weighed
        return gains(spec, logs) != (spec in changes)

    def state(way: Network) -> State:
        return State.of(way, machine, logs, runner)

    while True:  # where a block is not made, a smaller one may be
        every, blocks = _blocks(network, pays)
        specs = [spec for spec in blocks if _is_open(spec, logs) and spec not in weighed]
        if not specs:
            break
        show("blocks beside their layers, in place")
        fused, apart = _Timed(state(every)), apart or _Timed(state(blocked(network, logs, "never")))
        for _ in range(_TURNS):
            fused.run()
            apart.run()
        for spec in specs:
            weighed[spec] = fused
            if change := _change(spec, fused, apart, gains(spec, logs)):
                changes[spec] = change
    now, made = _blocks(network, lambda spec: gains(spec, logs))
    changed = [changes[spec] for spec in dict.fromkeys([*made, *blocks]) if spec in changes]
    if changed:
        show(f"the network with {len(changed)} of its blocks decided otherwise")
        before, after = state(now), state(every)
        if not after.player.duel(before.kernels, after.kernels, than=before.player).is_faster:
            return []
    for spec, fused in weighed.items():
        fused.enter([spec], place)
        apart.enter(spec.parts().values(), place)
    return changed


def _is_open(spec: BlockSpec, logs: Logs) -> bool:
    """Whether it is to be weighed."""
    return not spec.scale and decided(spec, logs) is None


def _blocks(network: Network, pays: Callable[[BlockSpec], bool]) -> tuple[Network, list[BlockSpec]]:
    """The network with the blocks that pay, and these, each once."""
    asked: dict[BlockSpec, None] = {}

    def asking(spec: BlockSpec) -> bool:
        asked[spec] = None
        return pays(spec)

    made = joined(network, asking)
    works = {work.dense for work in works_of(made.graph)}
    return made, [spec for spec in asked if spec in works]


class _Timed:
    """A network's layers in place: the least seconds of several turns, as a mean over a layer's nodes."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.made: dict[Spec, Kernel] = {
            work.dense: kernel for work, kernel in state.kernels.items() if isinstance(work.dense, Spec)
        }
        self.seconds: dict[Spec, float] = {}
        self.count: dict[Spec, int] = {}

    def run(self) -> None:
        """Another turn."""
        times: dict[Spec, list[float]] = {}
        for work, (column,) in self.state.player.steps(self.state.kernels, {}).items():
            if isinstance(work.dense, Spec):
                times.setdefault(work.dense, []).extend(column)
        for spec, taken in times.items():
            each = sum(taken) / len(taken)
            self.seconds[spec], self.count[spec] = min(each, self.seconds.get(spec, each)), len(taken)

    def enter(self, specs: Iterable[Spec], place: Place) -> None:
        """Put layers' times in place into the index, with that by which they run."""
        from tvmconv.tuning.search.task import Task

        for spec in specs:
            each = self.seconds[spec]
            Task(spec, place)._enter(choice_of(self.made[spec]), [each], each)


def _change(spec: BlockSpec, fused: _Timed, apart: _Timed, is_made: bool) -> Change | None:
    """If the other way than now is faster."""
    layers, block = sum(apart.seconds[part] for part in spec.parts().values()), fused.seconds[spec]
    before, after = (block, layers) if is_made else (layers, block)
    strategy = "apart" if is_made else choice_of(fused.made[spec]).strategy
    if after >= _FASTER * before:
        return None
    return Change(str(spec), fused.count[spec], strategy, before, after)
