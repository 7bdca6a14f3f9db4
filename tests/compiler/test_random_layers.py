"""Random layers of real networks, by every strategy that is tried for them, down to what LLVM takes: for a
CPU of each kind of vectors and dot products, since most of them are not at hand where tests run."""

from __future__ import annotations

import pytest
from hunt_layers import layer

from tvmconv.compiler import codegen
from tvmconv.compiler.codegen.kernel import module_for, symbol_of
from tvmconv.compiler.lower.pipeline import lowered
from tvmconv.formats.choice import Choice
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import resolve

TARGETS = ("x86-64-v2", "x86-64-v3", "x86-64-v4", "znver4", "sapphirerapids", "cortex-a53", "cortex-a76",
           "armv7-neon", "riscv64")  # fmt: skip
DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint8")
LAYERS = 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", TARGETS)
def test_random_layers_lower(target: str, dtype: str) -> None:
    machine = resolve(target)
    llvm, failed = llvm_target(machine), []
    for number in range(LAYERS):
        spec = layer(TARGETS.index(target), number, dtypes=[dtype])
        for strategy in codegen.spaces(spec, machine):
            try:
                module, made = module_for(spec, machine, Choice(strategy, {}))
                assert made["strategy"] == strategy and lowered(module, llvm)[symbol_of(spec)] is not None
            except Exception as error:  # TVM's own have no common type
                failed.append(f"{spec} by {strategy}: {type(error).__name__}: {error}")
    assert not failed, "\n".join(failed)
