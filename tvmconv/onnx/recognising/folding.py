"""What follows a convolution and can go into it: y*scale + shift for each channel into weights and bias, and
the sum with another value of the same shape, its residual; and a shuffle of its channels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tvmconv.onnx.reading.graph import Graph, Value, attributes

if TYPE_CHECKING:
    from onnx import NodeProto


@dataclass(frozen=True, eq=False)
class Affine:
    """A node that computes value*scale + shift; both float64, (channels,) or ()."""

    node: NodeProto
    value: str
    scale: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Sum:
    """A node that adds ``other``, an array of the same shape, to a value."""

    node: NodeProto
    value: str
    other: str


def residual_after(
    graph: Graph, value: str, shape: tuple[int, ...], known: Mapping[str, Value], taken: Collection[int]
) -> Sum | None:
    """The node that alone reads `value`, of this shape, and adds another value of it; or None.

    taken: ids of nodes that are part of other layers already."""
    consumers = graph.consumers(value)
    if len(consumers) != 1 or value in graph.outputs:
        return None
    (node,) = consumers
    standard = node.domain in ("", "ai.onnx") and node.op_type in ("Add", "Sum")
    if not standard or len(node.input) != 2 or id(node) in taken or node.input[0] == node.input[1]:
        return None
    other = node.input[1 if node.input[0] == value else 0]
    if graph.constant(other) is not None or other not in known or known[other].shape != shape:
        return None
    return Sum(node, node.output[0], other)


@dataclass(frozen=True)
class Shuffle:
    """Nodes that shuffle the channels of a value in so many groups."""

    nodes: tuple[NodeProto, ...]
    value: str
    groups: int


def shuffle_after(
    graph: Graph, value: str, shape: tuple[int, ...], known: Mapping[str, Value]
) -> Shuffle | None:
    """The shuffle of channels that alone reads `value`, of this shape (N, C, *spatial): Reshape to
    (N, groups, C/groups, *spatial), Transpose of these two dims, Reshape back; or None."""
    nodes, at = [], value
    for op_type in ("Reshape", "Transpose", "Reshape"):
        consumers = graph.consumers(at)
        if len(consumers) != 1 or at in graph.outputs or consumers[0].op_type != op_type:
            return None
        (node,) = consumers
        if node.domain not in ("", "ai.onnx") or node.input[0] != at or node.output[0] not in known:
            return None
        nodes.append(node)
        at = node.output[0]
    apart, together = known[nodes[0].output[0]].shape, known[at].shape
    groups = apart[1] if len(apart) == len(shape) + 1 else 1
    order = [0, 2, 1, *range(3, len(apart))]
    split = (shape[0], groups, shape[1] // groups, *shape[2:])
    if (apart, together) != (split, shape) or attributes(nodes[1]).get("perm") != order:
        return None
    return Shuffle(tuple(nodes), at, groups) if groups > 1 else None


def affine_after(graph: Graph, value: str, channels: int, rank: int) -> Affine | None:
    """The per-channel affine node that alone reads `value`, (N, channels, *spatial) of `rank` dims; or None.

    BatchNormalization in inference, and Mul, Add, Sub or Div with a constant that is the same for all pixels.
    """
    consumers = graph.consumers(value)
    if len(consumers) != 1 or value in graph.outputs:
        return None
    (node,) = consumers
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "BatchNormalization":
        found = _batch_norm(graph, node, value, channels)
    elif node.op_type in ("Add", "Sub", "Mul", "Div"):
        found = _arithmetic(graph, node, value, channels, rank)
    elif node.op_type == "Identity":
        found = (np.ones(()), np.zeros(()))
    else:
        found = None
    if found is None or not all(np.isfinite(part).all() for part in found):
        return None
    return Affine(node, node.output[0], *found)


Pair = tuple[np.ndarray, np.ndarray]


def _batch_norm(graph: Graph, node: NodeProto, value: str, channels: int) -> Pair | None:
    options = attributes(node)
    training = options.get("training_mode", 0) or (graph.opset < 7 and not options.get("is_test", 0))
    by_element = not options.get("spatial", 1)  # before opset 9
    others = any(node.output[1:])  # statistics, which only training updates
    if training or by_element or others or node.input[0] != value:
        return None
    arrays = [graph.constant(name) for name in node.input[1:5]]
    if any(array is None or array.shape != (channels,) for array in arrays):
        return None
    gamma, beta, mean, variance = (array.astype(np.float64) for array in arrays if array is not None)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(variance + options.get("epsilon", 1e-5))
        return scale, beta - mean * scale


def _arithmetic(graph: Graph, node: NodeProto, value: str, channels: int, rank: int) -> Pair | None:
    if len(node.input) != 2 or (graph.opset < 7 and attributes(node).get("broadcast")):
        return None  # before opset 7 the axis of a broadcast was an attribute
    first = node.input[0] == value
    other = graph.constant(node.input[1 if first else 0])
    if other is None or other.dtype.kind != "f":
        return None
    constant = per_channel(other.astype(np.float64), channels, rank)
    if constant is None:
        return None
    one, zero = np.ones(()), np.zeros(())
    if node.op_type == "Add":
        return one, constant
    if node.op_type == "Sub":
        return (one, -constant) if first else (-one, constant)
    if node.op_type == "Mul":
        return constant, zero
    with np.errstate(divide="ignore"):
        return (1 / constant, zero) if first else None


def per_channel(array: np.ndarray, channels: int, rank: int) -> np.ndarray | None:
    """A constant broadcast against (N, channels, *spatial) as one value a channel; None if it is not that."""
    if array.ndim > rank:
        return None  # it would add dims to the result
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(size != 1 for dim, size in enumerate(shape) if dim != 1) or shape[1] not in (1, channels):
        return None
    return array.reshape(shape[1]) if shape[1] > 1 else array.reshape(())
