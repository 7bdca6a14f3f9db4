"""A model's convolutions and poolings compiled into one library whose manifest knows the model's nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import SpecError
from tvmconv.formats.logs.lookup import Folders
from tvmconv.onnx.reading.branches import Fixed
from tvmconv.onnx.reading.model import Shapes, Source
from tvmconv.onnx.recognising.extraction import extract
from tvmconv.onnx.recognising.layers import Extraction, Layer
from tvmconv.onnx.using.naming import can_be_baked, functions_of

if TYPE_CHECKING:
    from tvmconv.compiler.artifact.library import Library
    from tvmconv.compiler.compile import Progress
    from tvmconv.schedules.machines import Machine


def compile_model(
    source: Source | Extraction,
    target: str | Machine = "native",
    tuning_logs: Folders | None = None,
    *,
    shapes: Shapes | None = None,
    fixed: Fixed | None = None,
    layout: str = "auto",
    blocks: bool = False,
    bake_weights: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
    prefix: str = "tvmconv",
    cc: str | None = None,
    names: str = "node",
) -> Library:
    """Every convolution and pooling of a model, compiled for a target into one library; equal kernels are in
    it once.

    ``source``, ``shapes``, ``fixed``, ``layout`` and ``blocks`` as for ``extract``, or what it returned.
    ``bake_weights``: the library holds the weights, prepacked, and its functions need none (those whose
    weights the graph computes still do). ``names``: of the functions, see ``naming.functions_of``. The others
    as for ``tvmconv.compile``.

    In the manifest, "onnx" says of which model (its SHA-256), for which input shapes, fixed inputs and
    layout, and lists the layers in the graph's order: node, function, and the values that it takes, by
    argument, and makes; each function's "onnx_nodes" are the layers that it computes, by the names of their
    nodes, which do as names in ``module[name]`` too. Raises Error and SpecError as ``extract``, and for
    ``names`` that do not fit; TargetError, TuningError and ArtifactError as ``tvmconv.compile``.
    """
    from tvmconv.compiler.artifact.library import Library, check_can_bake
    from tvmconv.compiler.baking import packed_weights
    from tvmconv.compiler.compile import compile
    from tvmconv.schedules.machines import resolve_all

    if bake_weights:
        check_can_bake(resolve_all(target)[0])
    found = source if isinstance(source, Extraction) else extract(
        source, shapes, fixed=fixed, layout=layout, blocks=blocks)
    for layer in found.layers:
        try:
            layer.spec.check_supported()
        except SpecError as error:
            raise SpecError(f"node {layer.name}: {error}") from None
    named = functions_of(found, bake_weights, names)
    specs = {name: layers[0].spec for name, layers in named.items()}
    plain = compile(specs, target, tuning_logs, jobs=jobs, progress=progress, prefix=prefix, cc=cc)
    variants = [
        replace(variant, baked={
            name: packed_weights(variant.functions[name], layers[0].weights)
            for name, layers in named.items()
            if bake_weights and can_be_baked(layers[0])
        })
        for variant in plain.variants
    ]  # fmt: skip
    first, *others = variants
    return Library(
        first.functions, first.machine, prefix=prefix, cc=cc, baked=first.baked, others=others,
        about=_about(found, named),
        facts={name: {"onnx_nodes": [layer.name for layer in layers]} for name, layers in named.items()},
    )  # fmt: skip


def _about(found: Extraction, named: Mapping[str, list[Layer]]) -> Mapping[str, Any]:
    function_of = {layer.name: name for name, layers in named.items() for layer in layers}
    layers = [
        {"node": layer.name, "function": function_of[layer.name], "inputs": dict(layer.inputs),
         "output": layer.y}
        for layer in found.layers
    ]  # fmt: skip
    blocks = {"blocks": True} if found.blocks else {}
    return found.model.facts(found.shapes, found.layout, found.fixed, **blocks, layers=layers)
