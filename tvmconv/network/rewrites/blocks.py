"""Depthwise convolutions and the pointwise ones around them as one layer, a block, where that is faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.network.graph import Editor, Graph, Node
from tvmconv.specs.block import BlockSpec
from tvmconv.specs.operators import Layer
from tvmconv.specs.operators.base import Type

Chain = Mapping[str, Node]  # by the names of a block's parts
_PREFIX = {"expand": "expand_", "depthwise": "", "project": "project_"}


def with_blocks(graph: Graph, pays: Callable[[BlockSpec], bool]) -> Graph:
    """The network with every chain of convolutions, each the only one to read what the one before makes, as
    one block, where there is a block of that kind and it ``pays``; else maybe the last two as one."""
    editor = Editor.of(graph)
    readers = editor.consumers()

    def before(node: Node) -> Node | None:
        """The convolution that makes what this one reads, for it alone."""
        name = editor.actual(node.inputs[0])
        made = editor.producer(name)
        alone = len(readers[name]) == 1 and node.inputs.count(node.inputs[0]) == 1
        return made if made is not None and alone and not editor.is_output(name) and _is_conv(made) else None

    for project in graph.nodes:
        if not _is_conv(project) or (depthwise := before(project)) is None:
            continue
        short = {"depthwise": depthwise, "project": project}
        expand = before(depthwise)
        for chain in ([{"expand": expand, **short}] if expand is not None else []) + [short]:
            spec = _block(chain)
            if spec is None or not pays(spec) or not _has_constants(editor, chain):
                continue
            for name, node in chain.items():
                if name != "project":
                    editor.remove(node)
            editor.put(_as_block(editor, spec, chain))
            break
    return editor.graph()


def _is_conv(node: Node) -> bool:
    return isinstance(node.op, Layer) and node.op.spec.family == "conv"


def _block(chain: Chain) -> BlockSpec | None:
    """The block of these convolutions; None where there is no such."""
    try:
        return BlockSpec.of(**{name: node.op.spec for name, node in chain.items()})  # type: ignore[attr-defined]
    except SpecError:
        return None


def _given(node: Node) -> dict[str, str]:
    """The values that a layer reads, by argument."""
    assert isinstance(node.op, Layer)
    return dict(zip(node.op.arguments, node.inputs, strict=True))


def _has_constants(editor: Editor, chain: Chain) -> bool:
    values = (_given(node).get(name) for node in chain.values() for name in ("w", "bias"))
    return all(editor.actual(value) in editor.constants for value in values if value is not None)


def _as_block(editor: Editor, spec: BlockSpec, chain: Chain) -> Node:
    given = {"x": editor.actual(next(iter(chain.values())).inputs[0])}
    for name, node in chain.items():
        own, prefix = _given(node), _PREFIX[name]
        given[f"{prefix}w"] = editor.actual(own["w"])
        if "bias" in own:
            given[f"{prefix}bias"] = editor.actual(own["bias"])
        elif spec.bias:
            zeros = np.zeros(node.op.spec.out_channels, editor.constants[given[f"{prefix}w"]].dtype)  # type: ignore[attr-defined]
            given[f"{prefix}bias"] = editor.constant(zeros, f"{given[f'{prefix}w']}.bias")
        if "residual" in own:
            given["residual"] = editor.actual(own["residual"])
    names = [operand.name for operand in spec.signature()[:-1]]
    types = [Type(spec.input_shape, spec.dtype), *(editor.types[given[name]] for name in names[1:])]
    source = tuple(dict.fromkeys(text for node in chain.values() for text in node.source))
    op = Layer(tuple(types), spec, tuple(names))
    return replace(chain["project"], op=op, inputs=tuple(given[name] for name in names), source=source)
