"""Tuning whole networks: what is accepted and what is not, with real kernels and
with pretended times, interrupted and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from zlib import crc32

import onnx
import pytest
from small_networks import model, node, weights

from tvmconv.base.errors import TuningError
from tvmconv.cli import main
from tvmconv.compiler.codegen import scheduled
from tvmconv.formats.choice import Choice
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.logs import folder as folders
from tvmconv.formats.logs.entries import descriptor_of, read_index
from tvmconv.formats.logs.traces import is_cold
from tvmconv.formats.program import Program
from tvmconv.network import compiling
from tvmconv.network.tuning.layers import layers_of
from tvmconv.network.tuning.report import NetworkStatus, Report
from tvmconv.network.tuning.tuner import tune
from tvmconv.schedules.machines import resolve
from tvmconv.specs.work import Work
from tvmconv.tuning.measuring.builder import Builder
from tvmconv.tuning.measuring.runner import BASELINE, Effort, LocalRunner, Measured, Played, Turns
from tvmconv.tuning.search.tuner import Options

NATIVE = resolve("native")
TRIALS = 5  # a layer


def proto() -> onnx.ModelProto:
    """Convolutions, two of one shape, whose results lie side by side in a wider array."""
    held = weights(a=(24, 3, 3, 3), d=(24, 24, 1, 1), e=(24, 24, 1, 1))
    return model(
        node("Conv", "x a", "1", pads=[1] * 4, strides=[2, 2]), node("Relu", "1", "2"),
        node("Conv", "2 d", "3"), node("Conv", "3 e", "4"), node("Concat", "3 4", "5", axis=1),
        node("Sigmoid", "5", "y"),
        shape=(1, 3, 20, 20), **held,
    )  # fmt: skip


@cache
def read() -> compiling.Network:
    return compiling.read(proto())


@pytest.fixture
def network() -> compiling.Network:
    return read()


class Shared:
    """A builder that is not ended by a run, and builds nothing twice."""

    def __init__(self) -> None:
        self.own, self.known = Builder(NATIVE, 1), dict[tuple, Kernel | str]()

    def build(self, spec: Work, choices: Sequence[Choice]) -> list[Kernel | str]:
        keys = [(spec, repr(choice)) for choice in choices]
        new = [(key, choice) for key, choice in zip(keys, choices, strict=True) if key not in self.known]
        made = self.own.build(spec, [choice for _, choice in new])
        self.known |= {key: kernel for (key, _), kernel in zip(new, made, strict=True)}
        return [self.known[key] for key in keys]

    def stop(self) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def builder() -> Iterator[Shared]:
    BUILDER.append(Shared())
    yield BUILDER[0]
    BUILDER.pop().own.stop()


BUILDER: list[Shared] = []


class Stand:
    """Stands for a machine on which kernels have known times; nothing is run. ``whole``: what a network takes
    by its steps' times."""

    cpu, threads, emulated = "none", 1, False

    def __init__(self, whole: Callable[[Sequence[float]], float] = sum, apart: float = 0.0) -> None:
        self.whole, self.apart = whole, apart
        self.defaults = [{}, *(scheduled(s, NATIVE).schedule["point"] for s in layers_of(read()))]
        self.efforts: set[int] = set()
        self.duels: list[tuple[float, float]] = []

    def seconds(self, kernel: Kernel) -> float:
        """By the point; the default's are the longest."""
        point = kernel.schedule.get("point", {})
        if point in self.defaults:
            return 2e-5
        return 1e-5 * (1 + crc32(repr(sorted(point.items())).encode()) % 100 / 128)

    def measure(
        self, kernels: Mapping[str, Kernel], names: Sequence[str], effort: Effort
    ) -> Iterator[Measured]:
        self.efforts.add(effort.cold)
        for name in names:
            yield Measured([self.seconds(kernels[name])], [self.seconds(kernels[BASELINE])])

    def play(
        self, functions: Mapping[str, Program], turns: Turns, rounds: int, seconds: float, *,
        compare: bool = False,
    ) -> Played:  # fmt: skip
        taken = {name: [self.seconds(step.kernel) for step in f.steps] for name, f in functions.items()}
        assert sorted(functions) == sorted(name for turn in turns for name in turn)
        if compare:
            assert list(functions) == ["before", "after"]
            own = {name: self.whole(times) for name, times in taken.items()}
            self.duels.append((own["before"], own["after"]))
            return Played({name: [t, t] for name, t in own.items()}, {"before": 0.0, "after": self.apart})
        assert all(len(times) == 1 for times in taken.values())
        return Played({name: times * 3 for name, times in taken.items()}, {})

    def stop(self) -> None:
        pass


def run(network: compiling.Network, root: Path, runner: Stand, **options: object) -> Report:
    return tune(
        network, NATIVE, root, Options(TRIALS, threads=1), runner=runner, builder=BUILDER[0], **options
    )


def index(root: Path) -> dict:
    return read_index(folders.folder_of(root, NATIVE))


def test_what_makes_the_whole_faster_is_kept(network: compiling.Network, tmp_path: Path) -> None:
    """And compile uses it; another run begins with that."""
    runner = Stand()
    report = run(network, tmp_path, runner)
    assert report.changes and report.whole.is_faster and report.whole.ratio < 1
    assert sum(report.predicted) == pytest.approx(report.whole.before + report.whole.after)
    found = index(tmp_path)
    changed = {change.descriptor for change in report.changes}
    assert {descriptor_of(key) for key in found} >= changed
    for key, entry in found.items():  # others have a twin that was changed, and were not changed with it
        assert entry.cold and (entry.seconds < entry.default_seconds) == (descriptor_of(key) in changed)
    records = folders.read_records(folders.folder_of(tmp_path, NATIVE))
    assert len(records) >= report.trials and all(is_cold(facts[0]) for _, _, facts in records)
    assert len(runner.efforts) == 1 and min(runner.efforts) > 24 * 75 * 4, "all weights"
    compiled = compiling.plan(network, NATIVE, tmp_path)
    tuned = {k.descriptor.partition("@")[0]: k.schedule for k in compiled.program.kernels
             if k.schedule["source"] == "tuned"}  # fmt: skip
    for change in report.changes:
        assert tuned[change.descriptor]["cold"] and tuned[change.descriptor]["strategy"] == change.strategy
        assert change.after < change.before
    again = run(network, tmp_path, Stand())
    assert again.trials == len(records), "no more of them; a twin's new record may serve another layer"
    assert again.whole.before == pytest.approx(report.whole.after)
    assert again.whole.after <= again.whole.before


def test_what_does_not_is_not(network: compiling.Network, tmp_path: Path) -> None:
    """Whatever layers take by themselves; nor what computes something else."""
    slower = Stand(whole=lambda steps: 1 / sum(steps))
    assert not run(network, tmp_path / "slower", slower).changes and not index(tmp_path / "slower")
    assert len(slower.duels) > 1, "they were tried"
    assert not run(network, tmp_path / "wrong", Stand(apart=1e6)).changes and not index(tmp_path / "wrong")
    emulated = Stand()
    emulated.emulated = True
    with pytest.raises(TuningError, match="on none, expected a real CPU for a network"):
        run(network, tmp_path / "emulated", emulated)
    known = run(network, tmp_path / "wrong", Stand())
    assert known.changes and known.trials == len(layers_of(network)) * TRIALS, "by the records that it had"


def inverted_residual() -> compiling.Network:
    """A block by the rule: much of it lies between its parts."""
    held = weights(e=(48, 8, 1, 1), d=(48, 1, 3, 3), p=(8, 48, 1, 1))
    return compiling.read(model(
        node("Conv", "x e", "1"), node("Relu", "1", "2"),
        node("Conv", "2 d", "3", pads=[1] * 4, group=48), node("Relu", "3", "4"), node("Conv", "4 p", "y"),
        shape=(1, 8, 24, 24), **held,
    ))  # fmt: skip


class Pretended(Stand):
    """A block takes so many seconds, each of its three layers 2e-5 by any schedule."""

    def __init__(self, block: float, whole: Callable[[Sequence[float]], float] = sum) -> None:
        super().__init__(whole)
        self.block = block

    def seconds(self, kernel: Kernel) -> float:
        return self.block if kernel.descriptor.startswith("block2d") else 2e-5


def made(root: Path) -> list[str]:
    """The kinds of a network's layers."""
    planned = compiling.plan(inverted_residual(), NATIVE, root)
    return [kernel.descriptor.partition(":")[0] for kernel in planned.program.kernels]


def test_blocks_are_made_where_they_are_faster_in_place(tmp_path: Path) -> None:
    """And not where the rule would; nothing is entered where the whole says otherwise."""
    assert "block2d" in made(tmp_path), "by the rule"
    slow = run(inverted_residual(), tmp_path / "slow", runner := Pretended(9e-5))
    (change,) = slow.changes
    assert change.strategy == "apart" and (change.before, change.after) == (9e-5, pytest.approx(6e-5))
    assert slow.whole.before - slow.whole.after == pytest.approx(3e-5)
    assert "block2d" not in made(tmp_path / "slow")
    assert len(index(tmp_path / "slow")) == 5, "a smaller block as well"
    duels = len(runner.duels)
    assert not run(inverted_residual(), tmp_path / "slow", runner).changes, "it is known"
    assert len(runner.duels) < 2 * duels
    fast = run(inverted_residual(), tmp_path / "fast", Pretended(3e-5))
    assert not fast.changes and "block2d" in made(tmp_path / "fast") and len(index(tmp_path / "fast")) == 4
    whole = run(inverted_residual(), tmp_path / "whole", Pretended(9e-5, lambda steps: 1 / sum(steps)))
    assert not whole.changes and "block2d" in made(tmp_path / "whole") and not index(tmp_path / "whole")


def test_an_interruption_costs_nothing(network: compiling.Network, tmp_path: Path) -> None:
    """Ctrl-C at any step: what was accepted stays, and the next run begins there."""
    seen: list[NetworkStatus] = []

    def watch(status: NetworkStatus) -> None:
        seen.append(status)
        if status.text == "the network before and after":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(network, tmp_path, Stand(), watch=watch)
    kept = index(tmp_path)
    assert kept and seen[-1].done == seen[-1].total == TRIALS * len(layers_of(network))
    again = run(network, tmp_path, Stand())
    assert again.trials >= seen[-1].done + len(kept) and index(tmp_path).keys() >= kept.keys()

    def early(status: NetworkStatus) -> None:
        if status.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(network, tmp_path / "early", Stand(), watch=early)
    made = len(folders.read_records(folders.folder_of(tmp_path / "early", NATIVE)))
    assert 0 < made <= TRIALS * len(layers_of(network)) and not index(tmp_path / "early")
    assert run(network, tmp_path / "early", Stand()).changes


def test_for_real(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """On the command line, with kernels that run; the network computes the same afterwards."""
    path = tmp_path / "net.onnx"
    onnx.save(proto(), path)
    logs, library = tmp_path / "logs", tmp_path / "net.so"
    command = ["tune", "--onnx", str(path), "--whole", "--trials", "2", "--log", str(logs), "--threads", "1"]
    assert main([*command, "--json"]) == 0
    said, progress = capfd.readouterr()
    report = json.loads(said)
    assert report["trials"] >= 2 * 2 and report["whole"]["before"] > 0 and len(report["predicted"]) == 2
    assert "the network, step by step" in progress and "trials" in progress
    assert all(key.endswith(" cold") for key in index(logs))
    whole = ["--onnx", str(path), "--whole"]
    compiling.compile(path, tuning_logs=logs).export(library)
    assert main(["verify", *whole, str(library)]) == 0
    capfd.readouterr()
    assert main(command) == 0
    said = capfd.readouterr().out
    assert "predicted, by steps" in said and "measured, in turns" in said


def test_steps_in_place_are_the_networks(network: compiling.Network) -> None:
    """A step by another kernel, on the arrays that the network has there; the whole by both in turns."""
    from tvmconv.compiler.compile import compile_kernels
    from tvmconv.formats.logs.lookup import Logs
    from tvmconv.network.planning.program import works_of
    from tvmconv.network.tuning.playing import Player
    from tvmconv.tuning.search.space import TuningSpace

    kernels = compile_kernels(list(works_of(network.graph)), NATIVE, Logs(NATIVE))
    spec = next(spec for spec in layers_of(network) if str(spec).startswith("conv2d:1x20x20x3"))
    runner = LocalRunner(NATIVE, 1)
    try:
        (other,) = BUILDER[0].build(spec, [TuningSpace(spec, NATIVE).default])
        assert isinstance(other, Kernel)
        player = Player(network, runner)
        found = player.steps(kernels, {spec: [other]})
        assert len(found[spec]) == 2
        assert all(min(column) > 0 for columns in found.values() for column in columns)
        duel = player.duel(kernels, {**kernels, spec: other})
        assert duel.apart < 100 and 0.2 < duel.ratio < 5 and player.whole == duel.before
        with pytest.raises(TuningError, match="running the network: "):
            runner.play({"before": player._program(kernels).program}, [["after"]], 1, 1.0)
    finally:
        runner.stop()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["conv2d:1x8x8x8:o8:k1x1:NHWC:float32"], "--whole: needs --onnx MODEL"),
        (["--onnx", "{}", "conv2d:1x8x8x8:o8:k1x1:NHWC:float32"], "expected no descriptors beside a model"),
        (["--onnx", "{}", "--target", "cuda-sm_90"], "--target: cuda-sm_90, expected a CPU"),
        (["--onnx", "{}", "--offline-round", "r"], "--offline-round: expected without --whole"),
        (["--onnx", "{}", "--space", "meta"], "space: 'meta', expected none for the layers of a network"),
        (["--onnx", "{}", "--tracker", "127.0.0.1:1"], "expected --tracker and --key together"),
        (["--onnx", "{}", "--trials", "0"], "trials: 0, expected more than 0"),
        (["--onnx", "{}", "--set", "z=1"], "z"),
        (["--onnx", "missing.onnx"], "missing.onnx"),
    ],
)  # fmt: skip
def test_refusals(
    flags: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line each, before anything is compiled."""
    onnx.save(proto(), tmp_path / "net.onnx")
    given = [flag.format(tmp_path / "net.onnx") for flag in flags]
    budget = [] if "--trials" in flags else ["--trials", "1"]
    assert main(["tune", "--whole", *given, *budget, "--log", str(tmp_path / "logs")]) == 2
    said = capfd.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path / "logs").exists()
