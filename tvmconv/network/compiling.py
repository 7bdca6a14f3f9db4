"""compile: an ONNX model into one library with one function, which is the whole network."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tvmconv.base.errors import Error, SpecError, TargetError
from tvmconv.compiler.artifact.compilers import find_cc
from tvmconv.compiler.artifact.library import Library, check_request
from tvmconv.compiler.artifact.names import BESIDE_STEPS
from tvmconv.compiler.compile import Progress, compile_kernels, part_of
from tvmconv.formats.logs.lookup import Folders, Logs
from tvmconv.formats.manifest import BUFFERS
from tvmconv.formats.program import Variant
from tvmconv.network.choosing import chooser
from tvmconv.network.graph import Graph, Node
from tvmconv.network.importing import import_model
from tvmconv.network.layout import images
from tvmconv.network.planning.doors import own_results
from tvmconv.network.planning.program import Planned, program_of, works_of
from tvmconv.network.rewrites import EVERY, simplified, until_stable
from tvmconv.network.rewrites.blocks import with_blocks, with_scales
from tvmconv.onnx.reading.branches import Fixed, stated
from tvmconv.onnx.reading.model import Model, Shapes, Source, damage_told, load
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import AnyMachine, Target, resolve_all
from tvmconv.specs.block import BlockSpec


class Storage(NamedTuple):
    """raw: as in the model, packed before the first call; else as they are packed. file: beside the library;
    else in it. text: for people."""

    raw: bool
    file: bool
    text: str


WEIGHTS = {
    "baked": Storage(False, False, "packed, in the library"),
    "raw": Storage(True, False, "as in the model, in the library; packed by the first call"),
    "file": Storage(False, True, "packed, in a file beside the library"),
    "raw-file": Storage(True, True, "as in the model, in such a file; packed by the first call"),
}
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
    source: Source | Model | Network | Sequence[Network],
    target: Target | Sequence[Target] = "native",
    tuning_logs: Folders | None = None,
    *,
    name: str = "main",
    shapes: Shapes | Sequence[Shapes] | None = None,
    fixed: Fixed | None = None,
    layout: str = "auto",
    weights: str = "baked",
    blocks: str = "auto",
    jobs: int | None = None,
    progress: Progress | None = None,
    prefix: str | None = None,
    cc: str | None = None,
) -> Library:
    """A whole model as a library with one function, which holds the weights.

    ``source``: a path, a file's bytes, a ModelProto, or what `read` returned (then ``shapes``, ``fixed`` and
    ``layout`` are its own), maybe several times. ``shapes``: of inputs with dynamic dimensions, by the
    input's name, or sizes by the dimension's name; of several such mappings each makes a function, see
    `names_of`, over the same weights. ``fixed``: values of inputs that will always be the same. ``layout``:
    of images that the function takes and gives, "nchw" ("auto", as the model has them) or "nhwc". ``name``:
    the function's, in C after ``prefix``; None: the model's file's name. ``weights``: see WEIGHTS.
    ``blocks``: where convolutions are joined to blocks: "auto", where that is faster; "always"; "never". The
    others as for ``tvmconv.compile``.

    The function takes the model's inputs and gives its outputs, in the model's order:
    ``tvmconv.load("model.so")["main"](x)``. Raises Error for a model that cannot be read, or with a node that
    networks do not support: the message names it and says what to do; SpecError, TargetError, TuningError and
    ArtifactError as ``tvmconv.compile``.
    """
    machines = resolve_all(target)
    if any(isinstance(machine, GpuMachine) for machine in machines):
        raise TargetError(f"target: {machines[0].name}, expected CPUs: whole networks do not run on GPUs")
    if weights not in WEIGHTS:
        raise SpecError(f"weights: {weights!r}, expected one of {', '.join(WEIGHTS)}")
    chooser(blocks, Logs(machines[0], tuning_logs))
    networks = _networks(source, shapes, fixed, layout)
    for network in networks:
        if not network.graph.inputs:
            fixed_ones = " but those with fixed values" if network.fixed else ""
            raise SpecError(f"{network.model.name}: no inputs{fixed_ones}, expected some that calls give")
    prefix, named = prefix or prefix_of(networks[0].model), names_of(name, networks)
    check_request(dict.fromkeys(named, BESIDE_STEPS), machines, prefix)
    if cc is not None:
        find_cc(machines[0], cc)
    variants: list[Variant] = []
    facts: dict[str, dict[str, Any]] = {}
    for i, machine in enumerate(machines):
        functions = {}
        for k, (own, network) in enumerate(named.items()):
            part = part_of(progress, i * len(named) + k, len(machines) * len(named))
            planned = plan(network, machine, tuning_logs, jobs, part, raw=WEIGHTS[weights].raw, blocks=blocks)
            functions[own] = planned.program
            group = {"group": name} if own != name else {}
            facts.setdefault(own, {**_facts(planned, network), **group})
            facts[own][BUFFERS][machine.name] = _buffers(planned)
        variants.append(Variant(machine, functions))
    first, *others = variants
    return Library(
        first.functions, first.machine, prefix=prefix, cc=cc, others=others, about=_about(networks[0]),
        facts=facts, weights="file" if WEIGHTS[weights].file else None,
    )  # fmt: skip


compile_network = compile  # what the package itself calls it, beside ``tvmconv.compile``


def blocked(network: Network, logs: Logs, blocks: str = "auto") -> Network:
    """The network with its convolutions in blocks where that is faster; ``blocks``: see `compile`."""
    return joined(network, chooser(blocks, logs))


def joined(network: Network, pays: Callable[[BlockSpec], bool]) -> Network:
    """The network with its convolutions in the blocks for which ``pays`` is true."""
    return replace(network, graph=with_scales(with_blocks(network.graph, pays), pays))


def names_of(name: str, networks: Sequence[Network]) -> dict[str, Network]:
    """The functions of a library: ``name``, or for several shapes that and the shapes of those inputs that
    are not always the same, ``main_1x3x224x224``. Raises SpecError for shapes given twice."""
    if len(networks) == 1:
        return {name: networks[0]}
    differing = [own for own in networks[0].shapes if len({network.shapes[own] for network in networks}) > 1]
    found: dict[str, Network] = {}
    for network in networks:
        shapes = ["x".join(map(str, network.shapes[own])) for own in differing]
        if "_".join([name, *shapes]) in found or not shapes:
            given = ", ".join(f"{own} {'x'.join(map(str, s))}" for own, s in network.shapes.items())
            raise SpecError(f"shapes: {given} twice, expected different ones")
        found["_".join([name, *shapes])] = network
    return found


def _networks(
    source: Source | Model | Network | Sequence[Network], shapes: Shapes | Sequence[Shapes] | None,
    fixed: Fixed | None, layout: str,
) -> list[Network]:  # fmt: skip
    if isinstance(source, Network):
        return [source]
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return list(source)
    several = [shapes] if shapes is None or isinstance(shapes, Mapping) else list(shapes)
    model = load(source)
    return [read(model, one, fixed=fixed, layout=layout) for one in several]


def plan(
    network: Network, machine: AnyMachine, tuning_logs: Folders | None = None,
    jobs: int | None = None, progress: Progress | None = None, *, raw: bool = False,
    blocks: str = "auto",
) -> Planned:  # fmt: skip
    """The program of a network for one target; ``raw``: see `program_of`. Errors, and ``blocks``, as for
    `compile`."""
    logs = Logs(machine, tuning_logs, cold=True)
    network = blocked(network, logs, blocks)
    works = works_of(network.graph)
    for work, node in works.items():
        try:
            work.check_supported()
        except SpecError as error:
            raise SpecError(f"{network.model.name}: node {source_of(node)}: {error}") from None
    try:
        kernels = compile_kernels(list(works), machine, logs, jobs, progress)
        return program_of(network.graph, kernels, descriptor_of(network), network.layouts, raw=raw)
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


def _facts(planned: Planned, network: Network) -> dict[str, Any]:
    """What the manifest says of the function beside a program's own facts."""
    arrays = {**planned.inputs, **planned.outputs}
    return {
        "onnx_names": {param.name: public for public, param in arrays.items()},
        "workspace_bound": planned.memory.bound,
        "model_shapes": {name: list(shape) for name, shape in network.shapes.items()},
        BUFFERS: {},
    }


def _buffers(planned: Planned) -> list[dict[str, Any]]:
    """What a target's workspace holds when, see `manifest.BUFFERS`."""
    offsets = planned.memory.offsets
    return [
        {"value": one.name, "offset": offsets[one.name], "bytes": one.bytes, "first": one.first,
         "last": one.last}
        for one in planned.buffers
    ]  # fmt: skip


def _about(network: Network) -> dict[str, Any]:
    return network.model.facts(network.shapes, network.door, network.fixed, whole=True)
