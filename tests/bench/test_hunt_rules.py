"""scripts/hunt_rules.py: which layers it takes, what it lists, and that it goes on where it ended."""

import importlib
import sys

import pytest
from places import SCRIPTS

from tvmconv.schedules.cpu import direct_last
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import parse_spec
from tvmconv.tuning.measuring.runner import Measured

LAYER = "conv2d:1x28x28x64:o64:k3x3:s2:p1:NHWC:float32"


@pytest.fixture(scope="module")
def hunt():
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield importlib.import_module("hunt_rules")
    finally:
        sys.path.remove(str(SCRIPTS))


def test_layers_are_the_same_by_number_and_varied(hunt):
    layers = [hunt.layer(7, number) for number in range(60)]
    assert [hunt.layer(7, number) for number in reversed(range(60))] == layers[::-1]
    assert hunt.layer(8, 0) != layers[0]
    for name in ("layout", "dtype", "groups", "stride", "dilation", "batch", "kind"):
        assert len({getattr(spec, name) for spec in layers}) > 1, name
    assert {hunt.layer(0, number, ["aspp"], ["float32"]).dtype for number in range(20)} == {"float32"}


def test_a_bad_default_is_listed_once(hunt, tmp_path, monkeypatch, capsys):
    """One pixel by one vector of channels, in a layer that has room for many."""
    log = tmp_path / "hunt.jsonl"

    plan_of = direct_last.plan_of

    def planted(p, machine, point=None):
        return plan_of(p, machine, {"width": 1, "block": machine.lanes()} if point is None else point)

    monkeypatch.setattr(direct_last, "plan_of", planted)
    command = [f"{LAYER}:direct", "--log", str(log), "--candidates", "10"]
    assert hunt.main(command) == 1
    listed = capsys.readouterr()
    assert "direct_last width=1 " in listed.out and "1 layers: 1 above 1.3, 0 with errors" in listed.out
    assert f"1/1: {LAYER}" in listed.err
    (found,) = hunt.read(log)
    assert found.ratio > 1.3 and found.winner.point["width"] > 1
    with log.open("a") as file:
        file.write('{"descriptor": "conv2d')  # it was killed
    assert hunt.main(command) == 1
    again = capsys.readouterr()
    assert again.out == listed.out and not again.err  # nothing was measured
    assert hunt.main(["--log", str(log), "--report", "--above", "1000"]) == 0


@pytest.mark.parametrize(("first", "second", "counts"), [(2.0, 1.1, 1.1), (1.5, 2.0, 1.5), (1.2, 9.0, 1.2)])
def test_a_finding_counts_by_the_lower_of_two_duels(hunt, monkeypatch, first, second, counts):
    """The second in another process on other data, where the first found something."""
    asked, processes = [], set()

    def measure(self, kernels, names, effort):
        self._start()
        duel = effort.rounds == 15
        if duel:
            asked.append(effort.fills)
            processes.add(self.process.process.pid)
        ratio = (first, second)[len(asked) - 1] if duel else 1.0
        yield from (Measured([1.0], [ratio]) for _ in names)

    monkeypatch.setattr(hunt, "_PAUSE", 0.0)
    monkeypatch.setattr(hunt.LocalRunner, "measure", measure)
    hunter = hunt.Hunter(resolve("native"), 1, 1, 1.3)
    try:
        assert hunter.hunt(parse_spec(LAYER)).ratio == counts
    finally:
        hunter.stop()
    assert asked == [("normal",), ("integer",)][: 1 + (first > 1.3)] and len(processes) == len(asked)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(["--sets", "lenet"], "--sets lenet"), (["--report"], "--log"), (["--layers", "0"], "positive"),
     (["conv2d:1x1"], "input shape: (1, 1)"), (["--target", "z80"], "z80")],
)  # fmt: skip
def test_usage(hunt, capsys, wrong, said):
    with pytest.raises(SystemExit) as ended:
        sys.exit(hunt.main(wrong))
    assert ended.value.code == 2 and said in capsys.readouterr().err
