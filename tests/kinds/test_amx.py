"""Products of tiles: by an AMX written in C on any CPU, by the CPU's own where it has one."""

from __future__ import annotations

import ctypes
import dataclasses
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import guard
import pytest
from libraries import run
from test_dtypes import preset
from test_quantised import TYPES, check, check_guarded, compiled, filled
from tvm import tirx

from tvmconv.compiler.artifact.library import Library
from tvmconv.compiler.codegen import build_kernel, check_choice, kernel, scheduled, spaces
from tvmconv.compiler.lower import amx, amx_settings, lower_cpu, pipeline
from tvmconv.formats.choice import Choice
from tvmconv.frontends.verify import random_arrays
from tvmconv.schedules.cpu import amx_last, amx_planes
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import Machine, presets, resolve
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.reference.quantised import quantised_reference

EMULATOR = Path(__file__).parent.parent / "data" / "amx.c"
# Tiles of fewer rows at the end of a row of the image, columns at the end of the channels; of all words, or
# of a divisor; with padding, several groups, images, dims; and the last of no whole word.
SHAPES = [
    "conv2d:1x13x17x64:o29:k3x3:p1:NHWC:{}:bias",
    "conv2d:2x7x5x96:o33:k1x1:NHWC:{}",
    "conv2d:1x14x9x128:o40:k3x3:s2:p0+1x0+1:NHWC:{}:bias",
    "conv2d:1x8x19x64:o64:k3x3:p1:g2:NHWC:{}",
    "conv2d:1x7x33x24:o48:k3x3:p1:d2:NHWC:{}:bias",
    "conv2d:1x9x20x58:o64:k3x3:p1:NHWC:{}:bias",
    "conv1d:1x170x32:o72:k5:s2:p2:NWC:{}:bias",
    "conv3d:1x4x5x18x32:o16:k2x3x3:p1:NDHWC:{}",
    # Channels first: tiles of channels by pixels.
    "conv2d:1x64x13x17:o29:k3x3:p1:NCHW:{}:bias",
    "conv2d:2x96x7x5:o33:k1x1:NCHW:{}",
    "conv2d:1x64x9x60:o58:k3x3:s2x1:p0+1x1:NCHW:{}:bias",
    "conv2d:1x58x8x28:o64:k3x3:p2:d2:NCHW:{}:bias",
    "conv2d:1x64x8x19:o64:k3x3:p1:g2:NCHW:{}",
    "conv1d:1x32x170:o72:k5:p2:NCW:{}:bias",
    # With a stride along rows, from a copy sorted by phase; taps in all of them, in one, padding in between.
    "conv2d:2x64x14x33:o40:k3x3:s2:p1:NCHW:{}:bias",
    "conv2d:1x96x15x32:o29:k1x1:s2:NCHW:{}",
    "conv1d:1x34x171:o48:k5:s3:p2:NCW:{}:bias",
    "conv3d:1x64x4x5x19:o16:k1x3x3:s1x2x2:p0x1x2:d1x1x2:NCDHW:{}",
    "conv3d:1x32x4x5x18:o16:k2x3x3:p1:NCDHW:{}",
    # Images of one pixel, which are channels-last ones.
    "conv2d:33x64x1x1:o40:k1x1:NCHW:{}:bias",
]
EACH = [filled(shape, TYPES[(i + j) % len(TYPES)]) for i, shape in enumerate(SHAPES) for j in (0, 3)]


def choices(spec: ConvSpec, machine: Machine, count: int) -> list[Choice]:
    """The default, and random points that fit."""
    by_strategy = spaces(spec, machine)
    strategy = next(found for found in (amx_last.STRATEGY, amx_planes.STRATEGY) if found in by_strategy)
    rng, found = random.Random(str(spec)), [Choice(strategy, {})]
    space = by_strategy[strategy]
    for _ in range(100):
        point = {name: rng.choice(values) for name, values in space.items()}
        try:
            check_choice(spec, machine, Choice(strategy, point))
        except ValueError:
            continue
        found.append(Choice(strategy, point))
    return found[:count]


def check_emulated(path: str, functions: Sequence[Mapping[str, Any]]) -> None:
    """In a child process: exact, with every buffer flush with a guard page."""
    interface = ctypes.CDLL(path)
    interface.tvmconv_set_num_threads(2)
    for seed, function in enumerate(functions):
        spec = ConvSpec.parse(function["descriptor"])
        arrays = random_arrays(spec, function["arguments"], "normal", seed)
        expected = quantised_reference(spec, **arrays)
        for at in ("end", "start"):
            check_guarded(spec, interface, function["name"], arrays, expected, at)
    counted = (ctypes.c_long.in_dll(interface, f"amx_{name}").value for name in ("products", "settings"))
    products, settings = counted
    assert products > settings > 0


def test_by_tiles_written_in_c(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Shapes that registers are set to, what they hold, and every address."""
    machine = dataclasses.replace(resolve("x86-64-v2"), name="emulated AMX", amx=True)

    def emulated(name: str, *args: object) -> tirx.Stmt:
        given = [tirx.const(arg, "int8") if isinstance(arg, int) else arg for arg in args]
        return tirx.Evaluate(tirx.call_extern("void", f"emulated_{name}", *given))

    for module in (amx, amx_settings):
        monkeypatch.setattr(module, "call", emulated)
    monkeypatch.setattr(pipeline, "_has_tiles", lambda target: True)
    kernels = {}
    for spec in map(ConvSpec.parse, EACH[::2]):  # each shape, and each type
        for choice in choices(spec, machine, 2):
            name = f"f{len(kernels)}"
            kernels[name] = build_kernel(spec, machine, choice, f"amx_{name}")
    library = Library(kernels, machine)
    library.export(tmp_path / "conv.a")
    whole = ["-Wl,--whole-archive", "conv.a", "-Wl,--no-whole-archive"]
    built = run("cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", EMULATOR, whole, "-pthread", "-lm",
                "-o", "conv.so", cwd=tmp_path)  # fmt: skip
    assert built.returncode == 0, built.stderr
    guard.in_child(check_emulated, str(tmp_path / "conv.so"), library.manifest["functions"])


@pytest.mark.parametrize("target", [preset("sapphirerapids")])
def test_by_the_tiles_of_this_cpu(target: str) -> None:
    check(*compiled(EACH, target))


def test_by_loops() -> None:
    """Where a machine is said to have tiles, but LLVM's target has none, everything is written out."""
    machine = dataclasses.replace(resolve("x86-64-v2"), name="tiles written out", amx=True)
    check(*compiled(EACH[::3], machine))


def machine_code(text: str) -> tuple[str, list[str]]:
    """For a CPU with tiles, and the first word of each line."""
    machine = resolve("sapphirerapids")
    made = kernel.scheduled(ConvSpec.parse(text), machine)
    assert made.schedule["strategy"].startswith("amx_")
    text = lower_cpu(kernel.module_of("sums", made), llvm_target(machine)).inspect_source("s")
    return text, [words[0] for line in text.splitlines() if (words := line.split())]


def test_machine_code() -> None:
    """Four products to four loads, registers set up once for all tiles of a thread; no row of sums crosses a
    cache line."""
    text, lines = machine_code("conv2d:1x28x28x128:o128:k3x3:p1:NHWC:int8")
    count = Counter(lines)
    assert count["tdpbssd"] == count["tileloadd"] > 0
    assert count["ldtilecfg"] == count["tilerelease"] == 1
    assert re.search(r"andq\s+\$-64, %rsp", text)


@pytest.mark.parametrize("text", [
    "conv2d:1x14x14x512:o512:k1x1:NHWC:int8",  # a loop over steps of products
    "conv2d:1x28x28x128:o512:k1x1:NHWC:uint8",  # two steps
    "conv2d:1x56x56x64:o64:k1x1:NHWC:int8",  # one
    "conv2d:1x56x56x64:o64:k3x3:p1:NHWC:int8",
    "conv2d:1x128x28x28:o512:k1x1:NCHW:uint8",
])  # fmt: skip
def test_results_beside_products(text: str) -> None:
    """Before sums of the next tiles are stored, after the first products of these."""
    _, lines = machine_code(text)
    made = 0
    for stored in (at for at, word in enumerate(lines) if word == "tilestored"):
        begun = max(at for at, word in enumerate(lines[:stored]) if word == "tilezero")
        first = next(at for at, word in enumerate(lines) if at > begun and word.startswith("tdp"))
        made += any(word.startswith("vpmov") for word in lines[first:stored])
    assert made


def test_targets_with_tiles() -> None:
    assert [machine.name for machine in presets() if machine.amx] == ["sapphirerapids"]
    asked = resolve("triple=x86_64-linux-gnu,cpu=sapphirerapids")
    assert asked.amx and {"amx_tile", "amx_int8"} <= set(asked.requires)
    assert not resolve("triple=x86_64-linux-gnu,cpu=icelake-server").amx


@pytest.mark.parametrize(("text", "pays"), [
    ("conv2d:1x28x28x128:o128:k3x3:p1:NHWC:int8", True),
    ("conv2d:1x112x112x32:o16:k1x1:NHWC:uint8", False),  # as many sums to store as products of tiles
    ("conv2d:1x3x3x256:o256:k1x1:NHWC:uint8", True),
    ("conv2d:1x1x1x256:o256:k1x1:NHWC:uint8", False),  # tiles of one row
    ("conv2d:1x28x28x116:o116:k1x1:NHWC:uint8", False),  # 29 words
    ("conv2d:1x28x28x64:o64:k3x3:p1:g64:NHWC:uint8", False),
    ("conv2d:1x256x14x14:o256:k3x3:p1:NCHW:int8", True),
    ("conv2d:1x256x14x14:o256:k3x3:s2:p1:NCHW:int8", True),
    ("conv2d:1x24x56x56:o144:k1x1:NCHW:int8", False),
])  # fmt: skip
def test_the_default(text: str, pays: bool) -> None:
    made = scheduled(ConvSpec.parse(text), resolve("sapphirerapids")).schedule
    assert made["strategy"].startswith("amx_") == pays


@pytest.mark.parametrize(("texts", "needed"), [
    (["conv2d:1x28x28x16:o16:k1x1:NHWC:float32", "conv2d:1x28x28x16:o16:k3x3:p1:g16:NHWC:int8"], False),
    (["conv2d:1x28x28x16:o16:k1x1:NHWC:float32", "conv2d:1x28x28x128:o128:k1x1:NHWC:int8"], True),
])  # fmt: skip
def test_a_library_asks_for_tiles_if_it_multiplies_any(texts: list[str], needed: bool) -> None:
    """For there are processes that may not: of a thread whose own stack for signals is too small."""
    machine = resolve("sapphirerapids")
    kernels = {f"f{i}": build_kernel(ConvSpec.parse(text), machine) for i, text in enumerate(texts)}
    for library in (Library(kernels, machine), Library(kernels, machine).source()):
        variant = library.variants[0]
        assert ({"amx_tile", "amx_int8"} <= set(variant.machine.requires)) == needed
        assert "avx512_vnni" in variant.machine.requires
    assert ("amx_tile" in Library(kernels, machine).manifest["target"]["requires"]) == needed
