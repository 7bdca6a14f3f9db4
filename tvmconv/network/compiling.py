"""compile: an ONNX model into one library with one function, which is the whole network."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tvmconv.base.errors import Error, SpecError, TargetError
from tvmconv.compiler.artifact.compilers import find_cc
from tvmconv.compiler.artifact.library import Library, check_request
from tvmconv.compiler.artifact.names import BESIDE_STEPS
from tvmconv.compiler.compile import Progress, compile_kernels, part_of
from tvmconv.formats.logs.lookup import Folders, Logs
from tvmconv.formats.program import Variant
from tvmconv.network.choosing import gains
from tvmconv.network.graph import Graph, Node
from tvmconv.network.importing import import_model
from tvmconv.network.layout import images
from tvmconv.network.planning.doors import own_results
from tvmconv.network.planning.program import Planned, program_of, works_of
from tvmconv.network.rewrites import EVERY, simplified, until_stable
from tvmconv.network.rewrites.blocks import with_blocks
from tvmconv.onnx.reading.branches import Fixed, stated
from tvmconv.onnx.reading.model import Model, Shapes, Source, damage_told, load
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import AnyMachine, Target, resolve_all

DOORS = {"auto": "NCHW", "nchw": "NCHW", "nhwc": "NHWC"}


@dataclass(frozen=True, eq=False)
class Network:
    """A model made ready to be compiled. graph: simplified, channels-last inside. layouts: of the inputs and
    results that are images, by value: "NCHW" or "NHWC". shapes: of the model's inputs. fixed: those that are
    constants. door: as `compile` was asked."""

    model: Model
    graph: Graph
    layouts: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    fixed: Mapping[str, Any]
    door: str


def read(
    source: Source | Model, shapes: Shapes | None = None, *, fixed: Fixed | None = None, layout: str = "auto"
) -> Network:
    """A model as a network. Raises Error and SpecError as `compile` does."""
    if layout not in DOORS:
        raise SpecError(f"layout: {layout!r}, expected one of {', '.join(DOORS)}")
    model, door = load(source), DOORS[layout]
    with damage_told(model):
        fixed = stated(model, fixed, shapes)
    given = import_model(model, shapes, fixed=fixed)
    ready = until_stable(given, EVERY)
    turned = images(ready)
    graph = own_results(simplified(ready, door))
    results = {graph.outputs[public]: name for public, name in ready.outputs.items()}
    layouts = {name: door for name in graph.inputs if name in turned}
    layouts |= {own: door for own, name in results.items() if name in turned}
    taken = {name: given.values[name].shape for name in given.inputs}
    return Network(model, graph, layouts, taken, fixed, layout)


def compile(
    source: Source | Model | Network,
    target: Target | Sequence[Target] = "native",
    tuning_logs: Folders | None = None,
    *,
    name: str = "main",
    shapes: Shapes | None = None,
    fixed: Fixed | None = None,
    layout: str = "auto",
    jobs: int | None = None,
    progress: Progress | None = None,
    prefix: str | None = None,
    cc: str | None = None,
) -> Library:
    """A whole model as a library with one function, which holds the weights.

    ``source``: a path, a file's bytes, a ModelProto, or what `read` returned (then ``shapes``, ``fixed`` and
    ``layout`` are its own). ``shapes``: of inputs with dynamic dimensions, by the input's name, or sizes by
    the dimension's name. ``fixed``: values of inputs that will always be the same. ``layout``: of images that
    the function takes and gives, "nchw" ("auto", as the model has them) or "nhwc". ``name``: the function's,
    in C after ``prefix``; None: the model's file's name. The others as for ``tvmconv.compile``.

    The function takes the model's inputs and gives its outputs, in the model's order:
    ``tvmconv.load("model.so")["main"](x)``. Raises Error for a model that cannot be read, or with a node that
    networks do not support: the message names it and says what to do; SpecError, TargetError, TuningError and
    ArtifactError as ``tvmconv.compile``.
    """
    machines = resolve_all(target)
    if any(isinstance(machine, GpuMachine) for machine in machines):
        raise TargetError(f"target: {machines[0].name}, expected CPUs: whole networks do not run on GPUs")
    network = source if isinstance(source, Network) else read(source, shapes, fixed=fixed, layout=layout)
    prefix = prefix or prefix_of(network.model)
    check_request({name: BESIDE_STEPS}, machines, prefix)
    if cc is not None:
        find_cc(machines[0], cc)
    planned = []
    for i, machine in enumerate(machines):
        planned.append(plan(network, machine, tuning_logs, jobs, part_of(progress, i, len(machines))))
    first, *others = (
        Variant(machine, {name: one.program}) for machine, one in zip(machines, planned, strict=True)
    )
    return Library(
        first.functions, first.machine, prefix=prefix, cc=cc, others=others, about=_about(network),
        facts={name: _facts(planned[0])},
    )  # fmt: skip


def blocked(network: Network, logs: Logs) -> Network:
    """The network with its convolutions in blocks where that is faster."""
    return replace(network, graph=with_blocks(network.graph, lambda spec: gains(spec, logs)))


def plan(
    network: Network, machine: AnyMachine, tuning_logs: Folders | None = None,
    jobs: int | None = None, progress: Progress | None = None,
) -> Planned:  # fmt: skip
    """The program of a network for one target. Errors as for `compile`."""
    logs = Logs(machine, tuning_logs, cold=True)
    network = blocked(network, logs)
    works = works_of(network.graph)
    for work, node in works.items():
        try:
            work.check_supported()
        except SpecError as error:
            raise SpecError(f"{network.model.name}: node {source_of(node)}: {error}") from None
    try:
        kernels = compile_kernels(list(works), machine, logs, jobs, progress)
        return program_of(network.graph, kernels, descriptor_of(network), network.layouts)
    except Error as error:
        found = (source_of(node) for work, node in works.items() if str(work) in str(error))
        where = next((f"node {source}: " for source in found), "")
        raise type(error)(f"{network.model.name}: {where}{error}") from None


def prefix_of(model: Model) -> str:
    """The prefix of C names that a model's file gives: its name, as a C identifier."""
    stem = re.sub(r"[^A-Za-z0-9_]", "_", Path(model.name).stem)[:40]
    return stem if re.match("[A-Za-z]", stem) else f"net_{stem}"


def source_of(node: Node) -> str:
    """The model's nodes that a step comes from, for people; the step itself where it comes from none."""
    return ", ".join(node.source) or f"{node.op.kind} {node.output}"


def descriptor_of(network: Network) -> str:
    """What a network is, on one line."""
    counts = network.graph.counts()
    parts = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return f"network {os.path.basename(network.model.name)}: {parts}"


def _facts(planned: Planned) -> dict[str, Any]:
    """What the manifest says of the function beside a program's own facts."""
    arrays = {**planned.inputs, **planned.outputs}
    return {
        "onnx_names": {param.name: public for public, param in arrays.items()},
        "workspace_bound": planned.memory.bound,
    }


def _about(network: Network) -> dict[str, Any]:
    return {
        "onnx": {
            "model": os.path.basename(network.model.name),
            "digest": network.model.digest,
            "shapes": {name: list(shape) for name, shape in network.shapes.items()},
            "layout": network.door,
            "whole": True,
            **({"fixed": {name: np.asarray(value).tolist() for name, value in network.fixed.items()}}
               if network.fixed else {}),
        }
    }
