"""Convolutions as operators of PyTorch: its own checks of operators, gradients, torch.compile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

import tvmconv
from tvmconv import torch as ours
from tvmconv.frontends.api import function, spec_of
from tvmconv.torch import functions, replacing

HERE = "x86-64-v3"
CASES = [  # transposed, shapes of x and w, options, what torch has to pad or crop by itself
    (False, (2, 4, 9, 8), (6, 2, 3, 2), {"stride": (2, 1), "padding": (1, 0), "groups": 2}, None),
    (False, (1, 3, 11), (4, 3, 4), {"padding": "SAME", "dilation": 2}, (3, 3)),
    (False, (1, 2, 7, 8), (3, 2, 2, 3), {"padding": ((0, 2), (1, 0)), "stride": 2}, (1, 0, 0, 2)),
    (False, (1, 2, 4, 5, 3), (2, 2, 3, 2, 2), {"padding": 1}, None),
    (True, (1, 4, 5, 6), (4, 3, 3, 2), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}, None),
    (True, (2, 3, 5), (3, 2, 4), {"stride": 3, "padding": ((2, 0),), "output_padding": 2}, (2, 0)),
]


def torchs(
    transposed: bool, x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor, options: dict[str, Any],
    sides: tuple[int, ...] | None,
) -> torch.Tensor:  # fmt: skip
    name = f"conv{'_transpose' if transposed else ''}{x.dim() - 2}d"
    given = dict(options) if sides is None else {k: v for k, v in options.items() if k != "padding"}
    if sides is not None and not transposed:
        x = F.pad(x, sides)
    y = getattr(F, name)(x, w, bias, **given)
    return y if sides is None or not transposed else F.pad(y, tuple(-side for side in sides))


def arrays(shape: tuple[int, ...], weights: tuple[int, ...], out: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(one, requires_grad=True) for one in (shape, weights, (out,))]


@pytest.mark.parametrize(
    ("case", "last"),
    [(case, last) for case in CASES for last in ((False, True) if len(case[1]) == 4 else (False,))], ids=str,
)
def test_values_and_gradients(case: tuple[Any, ...], last: bool) -> None:
    transposed, shape, weights, options, sides = case
    out = weights[1] * options.get("groups", 1) if transposed else weights[0]
    x, w, bias = arrays(shape, weights, out)
    given = x.detach().to(memory_format=torch.channels_last).requires_grad_() if last else x
    wanted = torchs(transposed, x, w, bias, options, sides)
    found = (ours.conv_transpose if transposed else ours.conv)(given, w, bias, target=HERE, **options)
    assert found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-4)
    assert not last or found.is_contiguous(memory_format=torch.channels_last)
    pull = torch.randn_like(wanted)
    ways = [torch.autograd.grad(y, (one, w, bias), pull) for y, one in ((wanted, x), (found, given))]
    for right, got in zip(*ways, strict=True):
        assert torch.allclose(got, right, atol=1e-4)


@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[5]], ids=str)
def test_torchs_own_checks(case: tuple[Any, ...]) -> None:
    """Schema, fake tensors, autograd and dynamic shapes, by opcheck; gradients by finite differences."""
    transposed, shape, weights, options, _ = case
    out = weights[1] * options.get("groups", 1) if transposed else weights[0]
    x, w, bias = arrays(shape, weights, out)
    seen: list[tuple[Any, ...]] = []
    call = functions._convolution
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functions, "_convolution", lambda *given: seen.append(given) or call(*given))
        (ours.conv_transpose if transposed else ours.conv)(x, w, bias, target=HERE, **options)
    torch.library.opcheck(call, seen[0])
    doubles = [one.detach().double().requires_grad_() for one in (x, w, bias)]
    assert torch.autograd.gradcheck(lambda *three: call(*three, *seen[0][3:]), doubles, fast_mode=True)


def test_torch_compile() -> None:
    """In one graph, channels-last as well, with gradients, for other shapes later."""
    torch.manual_seed(0)
    w, bias = torch.randn(4, 3, 3, 3, requires_grad=True), torch.randn(4)

    def step(x: torch.Tensor, conv: Any, padding: Any) -> torch.Tensor:
        return conv(F.relu(x + 1), w, bias, padding=padding).sigmoid()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for shape, last in [((1, 3, 8, 7), False), ((2, 3, 9, 7), False), ((2, 3, 10, 8), True)]:
        x = torch.randn(shape)
        x = (x.to(memory_format=torch.channels_last) if last else x).requires_grad_()
        wanted, found = step(x, F.conv2d, "same"), compiled(x, ours.conv, "SAME")
        assert torch.allclose(found, wanted, atol=1e-5)
        ways = [torch.autograd.grad(y.sum(), (x, w)) for y in (wanted, found)]
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*ways, strict=True))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:Dynamo:UserWarning")
def test_functions_of_any_array_break_graphs_but_run() -> None:
    w, x = torch.randn(4, 3, 3, 3), torch.randn(1, 3, 8, 7)
    bound = function(spec_of(x, w, None, layout="NCHW", groups=1, padding=1), HERE).bind(w)
    compiled = torch.compile(lambda x: bound(x * 2).relu(), backend="aot_eager")
    assert torch.allclose(compiled(x), F.conv2d(x * 2, w, padding=1).relu(), atol=1e-5)


@torch.no_grad()
def test_replaced_layers_stay_in_the_graph() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding="same", stride=1), torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 2, padding=1, padding_mode="reflect", groups=2),
        torch.nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1),
    ).eval()  # fmt: skip
    x = torch.randn(2, 3, 8, 8)
    batches = [x, x[:, :, 1:], x.to(memory_format=torch.channels_last), x[0]]
    wanted = [net(batch) for batch in batches]
    compiled = torch.compile(ours.replace_convolutions(net, HERE), backend="aot_eager", fullgraph=True)
    for batch, right in zip(batches, wanted, strict=True):
        assert torch.allclose(compiled(batch), right, atol=1e-5)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(replacing._layer, (x, net[0]._number), test_utils=checks)


X, W = torch.randn(1, 4, 6, 6), torch.randn(2, 4, 3, 3)


@pytest.mark.parametrize(("given", "options", "words"), [
    ((X.numpy(), W), {}, "x: ndarray, expected a torch.Tensor"),
    ((X, W.double()), {}, "w: torch.float64, expected torch.float32 as x has"),
    ((X.to("meta"), W), {}, "x: on meta, expected a tensor in CPU memory"),
    ((X.int(), W.int()), {}, "x: torch.int32, expected a floating-point type"),
    ((X[0], W), {}, r"w: shape \(2, 4, 3, 3\), expected 3 dims"),
    ((X[0, 0], W), {}, r"x: shape \(6, 6\), expected 3 to 5 dims"),
    ((X, W[:, 1:]), {}, r"w: shape \(2, 3, 3, 3\) has 3 input channels a group, expected 4"),
    ((X, W, torch.ones(3)), {}, "bias: "),
    ((X, W), {"padding": "same!"}, "padding: 'same!', expected"),
    ((X, W), {"padding": (1, 2, 3)}, r"padding: \(1, 2, 3\), expected"),
    ((X, W), {"stride": 0}, "stride: 0, expected a positive integer"),
    ((X, W), {"groups": 1.5}, "groups: 1.5, expected a positive integer"),
    ((X, W), {"target": 3}, "target: 3, expected a name"),
    ((X, W), {"target": "z80"}, "z80"),
])  # fmt: skip
def test_arguments_that_do_not_fit(given: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(tvmconv.Error, match=words) as caught:
        ours.conv(*given, **{"target": HERE, **options})
    assert "\n" not in str(caught.value)
