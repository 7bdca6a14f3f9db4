"""Depthwise convolutions and the pointwise ones around them as one layer, a block, where that is faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from tvmconv.base.dtypes import numpy_dtype
from tvmconv.base.errors import SpecError
from tvmconv.network.graph import Editor, Graph, Node
from tvmconv.specs.block import PREFIXES, BlockSpec
from tvmconv.specs.operators import Layer
from tvmconv.specs.operators.base import Type

Chain = Mapping[str, Node]  # by the names of a block's parts


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
            if spec is None or not _joins(editor, chain) or not pays(spec):
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


def _joins(editor: Editor, chain: Chain) -> bool:
    """Whether all weights are constants, and each part reads the integers that the one before makes as the
    numbers that these stand for."""
    given = [{name: editor.constants.get(editor.actual(value)) for name, value in _given(node).items()}
             for node in chain.values()]  # fmt: skip
    known = all(
        array is not None for own in given for name, array in own.items() if name not in ("x", "residual"))
    return known and all(
        bool(np.all(made.get(f"y_{part}") == read.get(f"x_{part}")))
        for made, read in pairwise(given) for part in ("scale", "zero_point")
    )  # fmt: skip


def _as_block(editor: Editor, spec: BlockSpec, chain: Chain) -> Node:
    given, called = {"x": editor.actual(next(iter(chain.values())).inputs[0])}, spec.arguments()
    types_of = {operand.name: operand.dtype for operand in spec.signature()}
    for name, node in chain.items():
        own, bias = _given(node), f"{PREFIXES[name]}bias"
        given |= {called[name][mine]: editor.actual(value) for mine, value in own.items() if mine != "x"}
        if spec.bias and "bias" not in own:
            zeros = np.zeros(node.op.spec.out_channels, numpy_dtype(types_of[bias]))  # type: ignore[attr-defined]
            given[bias] = editor.constant(zeros, f"{given[f'{PREFIXES[name]}w']}.bias")
    names = [name for name in list(types_of)[:-1] if name in given]
    types = [Type(spec.input_shape, spec.dtype), *(editor.types[given[name]] for name in names[1:])]
    source = tuple(dict.fromkeys(text for node in chain.values() for text in node.source))
    op = Layer(tuple(types), spec, tuple(names))
    return replace(chain["project"], op=op, inputs=tuple(given[name] for name in names), source=source)
