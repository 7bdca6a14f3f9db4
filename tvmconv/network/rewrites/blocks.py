"""Depthwise convolutions and the pointwise ones around them as one layer, a block, where that is faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np

from tvmconv.base.dtypes import numpy_dtype, rounded
from tvmconv.base.errors import SpecError
from tvmconv.network.graph import Editor, Graph, Node
from tvmconv.specs.block import PREFIXES, BlockSpec
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.operators import Layer, Map
from tvmconv.specs.operators.base import Type

_PRODUCTS = [("mul", ("input", a), ("input", 1 - a)) for a in (0, 1)]
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


def with_scales(graph: Graph, pays: Callable[[BlockSpec], bool]) -> Graph:
    """The network with products of images and a number for each of their channels, as squeeze-and-excite
    makes them, in the pointwise convolution that alone reads them: a block whose depthwise part only copies,
    where that ``pays``."""
    editor = Editor.of(graph)
    readers = editor.consumers()
    for project in graph.nodes:
        if not _is_conv(project) or not _joins(editor, {"project": project}):
            continue
        product = editor.producer(project.inputs[0])
        found = None if product is None else _factors(editor, product)
        if product is None or found is None or editor.is_output(product.output):
            continue
        conv = project.op.spec  # type: ignore[attr-defined]
        same = {"layout": conv.layout, "dtype": conv.dtype}
        x = conv.input_shape
        try:
            copy = ConvSpec(x, x[-1], 1, groups=x[-1], **same)
            spec = replace(BlockSpec.of(copy, conv), scale=True)
        except SpecError:
            continue
        if len(readers[product.output]) > 1 or project.inputs.count(project.inputs[0]) > 1 or not pays(spec):
            continue
        ones = np.ones((1, 1, 1, x[-1]), np.float32)
        w = editor.constant(rounded(ones, conv.dtype), f"{project.output}.ones")
        given = dict(zip(("x", "scale"), found, strict=True)) | {"w": w}
        types = tuple(editor.types[name] for name in (found[0], w))
        op = Layer(types, copy, ("x", "w"))
        copied = replace(project, op=op, inputs=(found[0], w), source=product.source)
        editor.remove(product)
        editor.put(_as_block(editor, spec, {"depthwise": copied, "project": project}, given))
    return editor.graph()


def _factors(editor: Editor, node: Node) -> tuple[str, str] | None:
    """(images, numbers for their channels) of which a node is the product; None for another."""
    if not isinstance(node.op, Map) or node.op.tree not in _PRODUCTS:
        return None
    shape = node.op.infer()[0].shape
    names = [editor.actual(name) for name in node.inputs]
    for x, scale in (names, names[::-1]):
        wide = (shape[0], *(1,) * (len(shape) - 2), shape[-1])
        if editor.types[x].shape == shape and editor.types[scale].shape == wide and len(shape) == 4:
            return x, scale
    return None


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


def _as_block(
    editor: Editor, spec: BlockSpec, chain: Chain, others: Mapping[str, str] | None = None
) -> Node:
    """``others``: values that no part has, by argument."""
    given = {"x": editor.actual(next(iter(chain.values())).inputs[0]), **(others or {})}
    called = spec.arguments()
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
