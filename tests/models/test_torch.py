"""PyTorch modules compiled whole, and with their convolutions replaced, against PyTorch."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import nn

import tvmconv
from tvmconv import torch as ours
from tvmconv.torch import compiling

HERE = "x86-64-v3"


class Residual(nn.Module):
    """MobileNetV2's block."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False), nn.BatchNorm2d(inner),
            nn.ReLU6(),
            nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class SmallNet(nn.Module):
    """A classifier of two inputs, the second a scale, that gives its features as well."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Hardswish())
        self.blocks = nn.Sequential(Residual(8, 17), nn.MaxPool2d(2), Residual(8, 16))
        self.head = nn.Linear(8, 5)
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.running_mean, -1, 1)
                nn.init.uniform_(norm.running_var, 0.5, 2)

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> dict[str, Any]:
        features = self.blocks(self.stem(x))
        return {"features": features, "scores": [self.head(features.mean((2, 3))) * scale]}


@pytest.fixture(scope="module")
def net() -> SmallNet:
    torch.manual_seed(0)
    return SmallNet().eval()


def near(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((found - wanted).abs().max() <= 1e-5 * max(1.0, float(wanted.max() - wanted.min())))


@pytest.mark.parametrize(("exporter", "last"), [("export", False), ("export", True), ("torchscript", False)])
def test_whole_module(net: SmallNet, exporter: str, last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if exporter == "torchscript":
        found = importlib.util.find_spec
        monkeypatch.setattr(compiling, "find_spec", lambda name: name != "onnxscript" and found(name))
    x, scale = torch.randn(1, 3, 18, 13), torch.tensor([1.5])
    if last:
        x = x.to(memory_format=torch.channels_last)
    compiled = ours.compile(net, (x, scale), HERE, jobs=1)
    taken: list[torch.Tensor] = []
    function = compiled._function
    compiled._function = lambda *given: taken.extend(given) or function(*given)
    with torch.no_grad():
        found, wanted = compiled(x, scale), net(x, scale)
    assert near(found["features"], wanted["features"]) and near(found["scores"][0], wanted["scores"][0])
    assert taken[0].is_contiguous() and taken[0].data_ptr() == x.data_ptr()  # no copy
    assert found["features"].is_contiguous(memory_format=torch.channels_last) == last
    other = x.contiguous() if last else x.to(memory_format=torch.channels_last)
    assert torch.equal(compiled(other, scale)["features"], found["features"])


def test_exports_the_library(net: SmallNet, tmp_path) -> None:
    x, scale = torch.randn(1, 3, 18, 13), torch.ones(1)
    compiled = ours.compile(net, [x, scale], HERE, jobs=1)
    main = tvmconv.load(compiled.library.export(tmp_path / "net.so"))["main"]
    assert near(main(x, scale)[0], compiled(x, scale)["features"])
    assert "int smallnet_main(" in (tmp_path / "net.h").read_text()


class Gives(nn.Module):
    def __init__(self, what: Any) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: torch.Tensor) -> Any:
        return self.what(x)


X = torch.randn(1, 3, 8, 8)


@pytest.mark.parametrize(
    ("module", "examples", "words"),
    [
        (torch.relu, X, "module: builtin_function_or_method, expected a torch.nn.Module"),
        (nn.Conv2d(3, 4, 3), X, "module: in training mode"),
        (nn.Conv2d(3, 4, 3, device="meta").eval(), X, "module: on meta, expected in CPU memory"),
        (nn.Conv2d(3, 4, 3).eval(), [], "example_inputs: none"),
        (nn.Conv2d(3, 4, 3).eval(), 3, "example_inputs: int, expected a tensor or several"),
        (nn.Conv2d(3, 4, 3).eval(), [X, 3], r"example_inputs\[1\]: int, expected a torch.Tensor"),
        (Gives(lambda x: (x, 3)).eval(), X, "module: gives a int, expected tensors"),
        (Gives(torch.linalg.det).eval(), X, "Det .*is not supported in a whole network"),
    ],
)
def test_modules_that_do_not_fit(module: Any, examples: Any, words: str) -> None:
    with pytest.raises(tvmconv.Error, match=words) as caught:
        ours.compile(module, examples, HERE)
    assert "\n" not in str(caught.value)


def test_modules_that_cannot_be_exported() -> None:
    def depends(x: torch.Tensor) -> torch.Tensor:
        return x[: int(x.sum())] if x.sum() > 0 else x

    with pytest.raises(tvmconv.Error, match="module: PyTorch cannot export Gives to ONNX: ") as caught:
        ours.compile(Gives(depends).eval(), X.abs(), HERE)
    assert "\n" not in str(caught.value)


def test_calls_that_do_not_fit(net: SmallNet) -> None:
    x, scale = torch.randn(1, 3, 18, 13), torch.ones(1)
    compiled = ours.compile(net, (x, scale), HERE, jobs=1)
    for inputs, words in [
        ((x,), "inputs: 1, expected 2 tensors"),
        ((x[..., 1:], scale), r"inputs\[0\]: shape \(1, 3, 18, 12\), expected \(1, 3, 18, 13\)"),
        ((x.numpy(), scale), r"inputs\[0\]: ndarray, expected a torch.Tensor"),
        ((x.double(), scale), "float64, expected float32"),
        ((x.clone().requires_grad_(), scale), r"inputs\[0\]: requires a gradient"),
        ((x.to("meta"), scale), r"inputs\[0\]: on meta, expected a tensor in CPU memory"),
    ]:
        with pytest.raises(tvmconv.SpecError, match=words):
            compiled(*inputs)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 11)),
        (nn.Conv2d(4, 6, (3, 4), padding="same", groups=2, bias=False), (1, 4, 9, 7)),
        (nn.Conv2d(5, 7, 3, padding=(2, 1), padding_mode="reflect"), (1, 5, 8, 6)),
        (nn.Conv2d(5, 7, 3, padding="valid", dilation=2), (5, 8, 9)),
        (nn.Conv3d(2, 3, 2, padding=1), (1, 2, 3, 4, 5)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (1, 4, 5, 6)),
        (nn.ConvTranspose1d(3, 2, 4, stride=2), (1, 3, 5)),
    ],
)
@torch.no_grad()
def test_each_convolution(layer: nn.Module, shape: tuple[int, ...]) -> None:
    replaced = ours.replace_convolutions(nn.Sequential(layer), HERE)
    assert isinstance(replaced[0], ours.Convolution)
    x = torch.randn(shape)
    assert near(replaced(x), layer(x))
    if x.dim() == 4:
        x = x.to(memory_format=torch.channels_last)
        y = replaced(x)
        assert near(y, layer(x)) and y.is_contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def test_convolutions_of_a_module() -> None:
    """One in two places stays one; what is not plainly a convolution stays as it is."""
    shared = nn.Conv2d(3, 3, 3, padding=1)
    weird = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1))
    net = nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared, weird)).eval()
    x = torch.randn(1, 3, 6, 5)
    wanted, names = net(x), sorted(net.state_dict())
    assert ours.replace_convolutions(net, HERE) is net
    assert net[0] is net[2][0] and isinstance(net[0], ours.Convolution) and net[2][1] is weird
    assert near(net(x), wanted) and sorted(net.state_dict()) == names
    with torch.enable_grad(), pytest.raises(tvmconv.SpecError, match="input: requires a gradient"):
        net(x.requires_grad_())
    for bad, words in [(x[0, 0], "expected 4 dims, or 3"), (x.double(), "float64, expected torch.float32")]:
        with pytest.raises(tvmconv.SpecError, match=words):
            net[0](bad)
    with pytest.raises(tvmconv.SpecError, match="module: int, expected a torch"):
        ours.replace_convolutions(3)
