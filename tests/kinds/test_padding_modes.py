"""Padding that is not zeros: torch's modes in every rank and layout, of every type, and what is refused.

Random ones are among the specs that the property tests draw (strategies.py), between guard pages.
"""

from __future__ import annotations

import numpy as np
import pytest

import tvmconv
from tvmconv import ConvSpec, SpecError
from tvmconv.frontends.verify import verify
from tvmconv.runtime import load

torch = pytest.importorskip("torch")

MODES = ("reflect", "replicate", "circular")


def torch_result(mode: str, x: np.ndarray, w: np.ndarray, padding, **options) -> np.ndarray:
    """By torch's own padding and convolution, in float64, channels first."""
    pairs = [n for lo, hi in reversed(padding) for n in (lo, hi)]
    wide = torch.nn.functional.pad(torch.from_numpy(x).double(), pairs, mode=mode)
    run = getattr(torch.nn.functional, f"conv{x.ndim - 2}d")
    return run(wide, torch.from_numpy(w).double(), **options).numpy()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("spatial", "kernel", "padding", "options"), [
    ((29,), (5,), ((2, 4),), {}),
    ((9, 17), (3, 5), ((1, 1), (2, 2)), {"groups": 7}),  # depthwise
    ((8, 5), (3, 3), ((7, 3), (0, 4)), {"stride": 2, "dilation": 2}),  # as wide as reflect can be
    ((1, 40), (1, 3), ((0, 0), (1, 1)), {}),
    ((4, 5, 6), (3, 3, 3), ((1, 1), (1, 0), (2, 2)), {}),
    ((6, 6), (1, 1), ((1, 1), (1, 1)), {}),  # pointwise, whose pixels are otherwise one dimension
])  # fmt: skip
def test_as_torch(mode: str, spatial, kernel, padding, options) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (2, 7, *spatial)).astype(np.float32)
    outputs = 14 if "groups" in options else 13
    w = rng.integers(-4, 5, (outputs, 7 // options.get("groups", 1), *kernel)).astype(np.float32)
    expected = torch_result(mode, x, w, padding, **options)
    y = tvmconv.conv(x, w, padding=padding, padding_mode=mode, **options)
    np.testing.assert_array_equal(y, expected)
    last = tvmconv.conv(np.moveaxis(x, 1, -1), np.moveaxis(w, (0, 1), (-1, -2)), padding=padding,
                        padding_mode=mode, layout="NHWC", **options)  # fmt: skip
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), expected)


def test_every_type_and_a_wide_image(tmp_path) -> None:
    """Rows of several vectors, so that borders and vectors along the row meet."""
    specs = {}
    for layout, shape in (("NCHW", (1, 3, 20, 61)), ("NHWC", (1, 20, 61, 3))):
        for i, (mode, dtype) in enumerate(zip((*MODES, *MODES), (
            "float32", "float64", "float16", "bfloat16", "int8", "uint8/int32",
        ), strict=True)):  # fmt: skip
            dtype, _, out = dtype.partition("/")
            specs[f"{layout.lower()}{i}"] = ConvSpec(
                shape, 8, 5, padding="SAME", padding_mode=mode, layout=layout, dtype=dtype,
                out_dtype=out or None, bias=True,
            )  # fmt: skip
    library = tvmconv.compile(specs)
    checks = list(verify(load(library.export(tmp_path / "modes.so"))))
    assert len(checks) == 2 * len(specs)
    assert [check for check in checks if not check.ok] == []
    copy = 24 * 65 * 3 * 4  # the copy of x with its borders is stated
    entry = next(e for e in library.manifest["functions"] if e["name"] == "nhwc0")
    assert entry["workspace_bytes"] >= copy


def test_text_and_canonical_form() -> None:
    spec = ConvSpec((1, 3, 8, 8), 4, 3, padding=1, padding_mode="reflect")
    assert str(spec) == "conv2d:1x3x8x8:o4:k3x3:p1:reflect:NCHW:float32"
    assert ConvSpec.parse(str(spec)) == spec
    plain = ConvSpec((1, 3, 8, 8), 4, 3)
    assert ConvSpec((1, 3, 8, 8), 4, 3, padding_mode="circular") == plain  # nothing to fill
    assert spec.twins() == (ConvSpec((1, 3, 10, 10), 4, 3),)  # its records serve


@pytest.mark.parametrize(("options", "message"), [
    ({"padding_mode": "mirror"}, "padding_mode: 'mirror', expected one of zeros, reflect, replicate, circul"),
    ({"padding_mode": None}, "padding_mode: None, expected one of"),
    ({"padding_mode": "reflect", "padding": (0, 5)},
     "padding: ((0, 0), (5, 5)), expected at most 4 in spatial dim 1, whose input is 5 wide, for 'reflect'"),
    ({"padding_mode": "circular", "padding": 6}, "expected at most 5 in spatial dim 0"),
    ({"padding_mode": "reflect", "padding": 1, "transposed": True},
     "padding_mode: 'reflect', expected 'zeros' for a transposed convolution"),
])  # fmt: skip
def test_errors(options: dict, message: str) -> None:
    with pytest.raises(SpecError) as error:
        ConvSpec((1, 3, 5, 5), 4, 3, **options)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_gpus_are_refused_before_any_work() -> None:
    with pytest.raises(tvmconv.TargetError, match="padding_mode: 'reflect' for cuda-sm_80"):
        tvmconv.compile(ConvSpec((1, 3, 8, 8), 4, 3, padding=1, padding_mode="reflect"), "cuda-sm_80")


def test_near_names_are_suggested() -> None:
    with pytest.raises(SpecError, match="did you mean reflect"):
        ConvSpec.parse("conv2d:1x3x8x8:o4:k3x3:p1:reflct:NCHW:float32")
