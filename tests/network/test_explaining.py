"""Networks explained node by node: fields, as torch shows by single pixels; costs, as torch counts."""

from __future__ import annotations

import io
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_networks import models
from small_networks import model, node, weights
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tvmconv.base.errors import SpecError
from tvmconv.network.explaining.facts import explain
from tvmconv.network.explaining.sight import SAME, Sight
from tvmconv.network.interpret import interpret
from tvmconv.specs.arithmetic import receptive_field
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.pooling import PoolSpec

SIZE = (23, 18)


class Branches(nn.Module):
    """Shortcuts, several scales, ways up, and a gate that sees everything: a result a stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.BatchNorm2d(2), nn.ReLU())
        self.wide, self.narrow = nn.Conv2d(2, 2, (3, 5), padding=(1, 2)), nn.Conv2d(2, 2, 1, bias=False)
        self.holes = nn.Conv2d(2, 2, 3, padding=2, dilation=2, groups=2)
        self.down = nn.Conv2d(4, 3, 3, stride=2)
        self.up = nn.ConvTranspose2d(3, 3, 4, stride=2, padding=1)
        self.last = nn.Conv2d(3, 1, 3, padding=1, padding_mode="reflect")
        self.gate = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        stem = self.stem(x)
        block = F.relu(self.wide(stem) + self.narrow(stem))
        cat = torch.cat([self.holes(block), F.avg_pool2d(stem, 3, 1, 1)], 1)
        shuffled = cat.reshape(1 * len(x), 2, 2, *cat.shape[2:]).transpose(1, 2).reshape(cat.shape)
        down = self.down(shuffled)
        up = self.up(down)
        nearest = F.interpolate(down, scale_factor=2, mode="nearest")
        linear = F.interpolate(down, scale_factor=2, mode="bilinear")
        joined = nearest + up + linear[:, :, :, :]
        last = self.last(F.pad(joined, (0, 1, 2, 0)))
        mean = down.mean((2, 3))
        gated = up * torch.sigmoid(self.gate(mean) / 1e6)[:, :, None, None]
        return stem, block, cat, down, up, nearest, linear, joined, last, gated


@pytest.fixture(scope="module")
def branches() -> Branches:
    """All weights positive, so that every change of a pixel is seen wherever it can be."""
    torch.manual_seed(0)
    net = Branches().double().eval()
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return net


def exported(net: nn.Module, x: torch.Tensor) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), file, dynamo=False, input_names=["x"], opset_version=17)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")
def test_regions_are_what_single_pixels_change(branches: Branches) -> None:
    height, width = SIZE
    with torch.no_grad():
        x = torch.rand(1, 1, *SIZE, dtype=torch.float64)
        changed = x + torch.eye(height * width, dtype=torch.float64).reshape(-1, 1, *SIZE)
        before, after = branches(x), branches(changed)
    told = explain(exported(branches.float(), x.float()))
    branches.double()
    fields = told.fields
    assert fields is not None and fields.axes == (2, 3)
    for (name, value), was, now in zip(told.graph.outputs.items(), before, after, strict=True):
        moved = (now != was).any(1).reshape(height, width, *now.shape[2:]).numpy()
        seen, inner = fields.seen[value], 0
        for i, j in np.ndindex(moved.shape[2:]):
            rows, columns = np.nonzero(moved[:, :, i, j])
            if not len(rows):
                assert fields.region(value, (0, 0, i, j)) is None  # padding alone
                continue
            box = ((rows.min(), rows.max()), (columns.min(), columns.max()))
            assert fields.region(value, (0, 0, i, j))[2:] == box, (name, i, j)
            for axis, place, size, (first, last) in zip((2, 3), (i, j), SIZE, box, strict=True):
                if axis in seen and first > 0 and last < size - 1:  # no border cuts it
                    field = seen[axis].sight.field()
                    assert seen[axis].sight.at(place) == (first, last)
                    assert last - first + 1 <= field.size
                    middle = float(field.start + place * field.jump)
                    assert abs((first + last) / 2 - middle) <= float(field.jump)
                    inner += 1
        assert inner or 2 not in seen or seen[2].sight.field().size > height - 4, name
    names = list(told.graph.outputs.values())
    assert not fields.seen[names[-1]]  # the gate sees everything
    assert {axis: float(f.sight.jump) for axis, f in fields.seen[names[7]].items()} == {2: 2.0, 3: 2.0}


def test_costs_are_what_torch_counts(branches: Branches) -> None:
    x = torch.rand(1, 1, *SIZE)
    net = branches.float()
    told = explain(exported(net, x))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x)
    branches.double()
    assert 2 * told.macs == counter.get_total_flops() > 0
    folded = sum(norm.weight.numel() for norm in net.modules() if isinstance(norm, nn.BatchNorm2d))
    assert told.parameters == sum(p.numel() for p in net.parameters()) - 2 * folded  # into a bias


def test_lstm_and_products_are_counted() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(6, 5, bidirectional=True), nn.Linear(10, 7)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.head(self.lstm(x)[0])
            return y @ y.transpose(1, 2)

    net, x = Rows().eval(), torch.rand(4, 1, 6)
    told = explain(exported(net, x))
    assert told.parameters == sum(p.numel() for p in net.parameters())
    by_hand = 2 * 4 * (4 * 5 * 6 + 4 * 5 * 5) + 4 * 10 * 7 + 4 * 7
    assert told.macs == by_hand


def test_a_chain_sees_what_the_stack_says() -> None:
    specs = [
        ConvSpec((1, 2, 40, 31), 2, (5, 3), stride=(2, 3), padding=2),
        PoolSpec((1, 2, 20, 11), 3,  stride=2, padding=1),
        ConvSpec((1, 2, 10, 6), 2, 4, stride=2, padding=1, transposed=True),
        ConvSpec((1, 2, 20, 12), 2, 3, dilation=2),
    ]
    made = model(
        node("Conv", "x a", "1", strides=[2, 3], pads=[2] * 4),
        node("MaxPool", "1", "2", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        node("ConvTranspose", "2 b", "3", strides=[2, 2], pads=[1] * 4),
        node("Conv", "3 c", "y", dilations=[2, 2]),
        shape=(1, 2, 40, 31), **weights(a=(2, 2, 5, 3), b=(2, 2, 4, 4), c=(2, 2, 3, 3)),
    )  # fmt: skip
    told = explain(made)
    assert len(told.nodes) == len(specs)
    for count, facts in enumerate(told.nodes, 1):
        assert tuple(facts.field.values()) == receptive_field(specs[:count])


def test_parts_of_a_model() -> None:
    made = model(
        node("Conv", "x a", "stem", pads=[1] * 4), node("Conv", "stem a", "left", pads=[1] * 4),
        node("Conv", "left a", "more", pads=[1] * 4), node("Add", "stem more", "sum"),
        node("Relu", "sum", "act"), node("Conv", "act a", "y"), **weights(a=(3, 3, 3, 3)),
    )  # fmt: skip
    block = explain(made, start="stem", end="Relu_act")
    assert [facts.value for facts in block.nodes] == ["left", "act"]  # one layer with the sum and relu
    assert block.nodes[-1].field[2].size == 5 and block.parameters == 2 * 81
    assert explain(made, end="more").nodes[-1].field[2].size == 7
    for options, words in [
        ({"start": "nowhere"}, "start: 'nowhere', expected a value or a node of model"),
        ({"end": "lefd"}, r"end: 'lefd', .*did you mean left"),
        ({"start": "y", "end": "stem"}, "start: 'y', expected a value that is left"),
    ]:
        with pytest.raises(SpecError, match=words) as caught:
            explain(made, **options)
        assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(models(), st.integers(0, 1000))
def test_nothing_outside_a_region_is_seen(proto, seed) -> None:
    """In random networks: every number of x but those in the region of an element is changed."""
    told, rng = explain(proto), np.random.default_rng(seed)
    graph, fields = told.graph, told.fields
    x = rng.standard_normal(fields.shape).astype(np.float32)
    for public, name in graph.outputs.items():
        if name not in fields.seen:
            continue
        element = tuple(int(rng.integers(size)) for size in graph.values[name].shape)
        region, mask = fields.region(name, element), np.zeros(x.shape, bool)
        if region is not None:
            mask[tuple(slice(first, last + 1) for first, last in region)] = True
            for axis, (own, sight) in fields.seen[name].items():
                span = sight.at(element[own])
                assert span is not None and span[0] <= region[axis][0] and region[axis][1] <= span[1]
        other = np.where(mask, x, rng.standard_normal(x.shape)).astype(np.float32)
        before, after = (interpret(graph, {"x": given})[public][element] for given in (x, other))
        assert before == after or (np.isnan(before) and np.isnan(after)), (name, element)


def test_sights() -> None:
    up = Sight(1, ((0, 0), (0, 0)))  # every element twice
    assert SAME.through(up) == up and up.through(Sight(2, ((0, 1),))) == Sight(1, ((0, 0),))
    assert up.jump == Fraction(1, 2) and up.at(-1) == (-1, -1) and up.of(1, 4) == (0, 2)
    assert up.joined(SAME, 5).at(4) == (2, 4)
    nothing = Sight(2, (None, (0, 0)))
    assert nothing.at(0) is None and nothing.of(2, 3) == (2, 2) and nothing.field().size == 1
    assert Sight(3, ((0, 0),) * 4096).through(Sight(1, ((0, 0),) * 2)) is None  # too many to tell
