"""Whole networks on the command line: compiling one, what a library of one shows, checking it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import Error, SpecError
from tvmconv.cli import console

if TYPE_CHECKING:
    import numpy as np

    from tvmconv.compiler.artifact.library import Library
    from tvmconv.network.checking import Deviation, Difference
    from tvmconv.network.compiling import Network


def check_whole(model: Path | None, others: Sequence[str] = ()) -> None:
    """Raise Error for --whole without a model, or with descriptors."""
    if model is None:
        raise Error("--whole: needs --onnx MODEL")
    if others:
        raise Error(f"--onnx {model}: expected no descriptors beside a model")


def is_whole(library: Path) -> bool:
    """Whether a library says that it is of a whole network. Raises ArtifactError for one that is damaged."""
    from tvmconv.formats import manifest

    return bool((manifest.read(library).get("onnx") or {}).get("whole"))


def read(model: Path, shapes: Sequence[str], layout: str, fixed: Sequence[str]) -> Network:
    """A model, ready to be compiled."""
    from tvmconv.network.compiling import read
    from tvmconv.onnx.reading.branches import parse_fixed
    from tvmconv.onnx.reading.model import parse_shapes

    return read(model, parse_shapes(shapes), fixed=parse_fixed(fixed), layout=layout.lower())


def check_flags(
    model: Path | None, others: Sequence[str], names: Sequence[str], bake: bool, called: str | None
) -> None:
    """Raise Error for what makes no sense beside `compile --whole`."""
    check_whole(model, others)
    if bake:
        raise Error("--bake-weights: expected without --whole, which has --weights")
    if called is not None:
        raise Error(f"--names {called}: expected without --whole, whose one function --name names")
    if len(names) > 1:
        raise Error(f"--name: {', '.join(names)}, expected one name for the one function of --whole")


def compile_library(
    model: Path, target: str, shapes: Sequence[str], layout: str, fixed: Sequence[str], *, verbose: bool,
    **options: Any,
) -> Library:  # fmt: skip
    """Compile a whole model with a progress bar on stderr; `options` are compile's."""
    from tvmconv.network.compiling import compile, read
    from tvmconv.onnx.reading.branches import parse_fixed
    from tvmconv.onnx.reading.model import load, parse_variants

    source, values = load(model), parse_fixed(fixed)
    networks = [read(source, one, fixed=values, layout=layout.lower()) for one in parse_variants(shapes)]
    with console.progress("compiling", verbose=verbose) as step:
        return compile(networks, target, progress=step, **options)


def print_function(facts: dict[str, Any], steps: bool) -> None:
    """What a network takes and gives, its memory, and its steps if asked for."""
    print()
    console.print_table(
        ("argument", "role", "shape", "dtype", "layout", "in the model"),
        [
            (a["name"], a["role"], console.shape(a["shape"]) or "scalar", a["dtype"], a["layout"],
             facts.get("onnx_names", {}).get(a["name"], ""))
            for a in facts["arguments"]
        ],
    )  # fmt: skip
    print(f"{console.count(len(facts['steps']), 'step')}, {facts['workspace_bytes']} bytes of workspace")
    if steps:
        print()
        sources = facts.get("sources", [])
        rows = [
            (number + 1, ", ".join(sources[number]) if number < len(sources) else "", descriptor)
            for number, descriptor in enumerate(facts["steps"])
        ]
        console.print_table(("step", "from", "descriptor"), rows, right=("step",))


def check_verified(
    model: Path | None, what: Sequence[str], timed: bool, whole: bool
) -> None:
    """Raise Error for what makes no sense beside `verify --whole` or `--steps`."""
    if not whole:
        raise Error("--steps: needs --whole")
    check_whole(model)
    if len(what) != 1:
        raise Error("--whole: expected one library, all of which is checked")
    if timed:
        raise Error("--time: expected without --whole; 'tvmconv run' times a library")


def verify_library(
    model: Path, library: Path, inputs: Sequence[str], seed: int, tolerance: float | None, steps: bool,
    as_json: bool,
) -> bool:  # fmt: skip
    """Compare a network's results with onnxruntime's and print the outcome; whether all agree."""
    from tvmconv.network.checking import compare, feeds_of, first_deviation, networks_of
    from tvmconv.runtime import load

    module, functions, ok = load(library), {}, True
    for name, (network, feeds) in _cases(networks_of(module, model), inputs).items():
        given = feeds_of(network, feeds, seed)
        results = compare(network, module, given, tolerance, name)
        found = first_deviation(network, module, name, given, tolerance) if steps else None
        ok &= all(result.ok for result in results) and found is None
        facts: dict[str, Any] = {"results": [{**_finite(asdict(r)), "ok": r.ok} for r in results]}
        if steps:
            facts["deviates"] = None
        if found is not None:
            facts["deviates"] = {**asdict(found), "difference": _finite(asdict(found.difference))}
        functions[name] = facts
        if not as_json:
            if len(module) > 1:
                print(name)
            _print(results, found, steps, "the given data" if inputs else "random data")
    if as_json:
        several = {"functions": functions} if len(module) > 1 else next(iter(functions.values()))
        console.print_json({"model": str(model), "library": str(library), "ok": ok, **several})
    return ok


def _cases(
    networks: Mapping[str, Network], inputs: Sequence[str]
) -> dict[str, tuple[Network, dict[str, np.ndarray] | None]]:
    """What to verify each function with: random arrays, or those that are given, if it takes such."""
    from tvmconv.cli import arrays

    if not inputs:
        return {name: (network, None) for name, network in networks.items()}
    found: dict[str, tuple[Network, dict[str, np.ndarray] | None]] = {}
    errors = []
    for name, network in networks.items():
        try:
            found[name] = network, arrays.of_model(inputs, network.shapes, network.model)
        except SpecError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return found


def _finite(facts: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinities."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()}


def _print(results: Sequence[Difference], found: Deviation | None, steps: bool, data: str) -> None:
    columns = ("result", "max abs", "range", "error", "allowed", "outcome")
    rows = [
        (one.name, f"{one.max_abs:.2e}", f"{one.range:.3g}", f"{one.relative:.1e}", f"{one.tolerance:.0e}",
         "ok" if one.ok else "FAIL")
        for one in results
    ]  # fmt: skip
    console.print_table(columns, rows, right=columns[1:5])
    failed = sum(not one.ok for one in results)
    print(f"{console.count(len(results), 'result')} against onnxruntime on {data}, {failed} failed")
    if found is not None:
        print(
            f"step {found.number} of {found.steps} deviates first, by {found.difference.relative:.1e} of its "
            f"result's range: {found.source}: {found.descriptor}"
        )
    elif steps:
        print("no step deviates from the reference")
