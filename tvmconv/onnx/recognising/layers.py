"""What is found in a model: its layers, and what could not be made one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.formats.order import bind_order
from tvmconv.specs.kinds import Spec

if TYPE_CHECKING:
    from tvmconv.onnx.reading.model import Model
    from tvmconv.onnx.reading.shapes import Dims


@dataclass(frozen=True, eq=False)
class Layer:
    """One convolution or pooling of a model.

    name: of its node. nodes: the node and those folded into it, in order. inputs: the graph's values that a
    call takes, by argument in call order ("x", then "residual", or "offset" and "mask"). y: the value that it
    makes. All these are in ONNX's channels-first layout whatever ``spec.layout`` is. weights: what ``bind``
    takes, by argument in call order, in the shapes and types that ``spec`` has, everything folded in.
    computed: arguments of ``bind`` that the graph computes, and by which of its values (channels-first).
    activated: the value that the activation is a function of, element by element of y; None without one.
    """

    name: str
    spec: Spec
    nodes: tuple[str, ...]
    inputs: Mapping[str, str]
    y: str
    weights: Mapping[str, np.ndarray]
    computed: Mapping[str, str]
    activated: str | None = None

    @property
    def x(self) -> str:
        """The value of the graph that the layer works on."""
        return self.inputs["x"]

    @property
    def w(self) -> np.ndarray | None:
        """The weights; None where there are none, or the graph computes them."""
        return self.weights.get("w")

    @property
    def bias(self) -> np.ndarray | None:
        """The bias; None where there is none, or the graph computes it."""
        return self.weights.get("bias")

    @property
    def bound(self) -> tuple[np.ndarray | None, ...]:
        """Arguments for ``bind`` of a layer with constant weights."""
        return tuple(bind_order(self.weights))

    @property
    def constant(self) -> bool:
        """Whether all that ``bind`` takes is known ahead of time."""
        return not self.computed

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 of the weights; layers with the same spec and digest are one function."""
        digest = hashlib.sha256()
        for name, array in self.weights.items():
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Skipped:
    """A node that is not among the layers, and why. inside: operator and name of the node that has it in a
    graph of its own, "" for one of the main graph."""

    name: str
    op_type: str
    reason: str
    inside: str = ""


@dataclass(frozen=True)
class LeftOver:
    """A node that another program has to run. inside: convolutions and poolings in its graphs, by
    operator."""

    name: str
    op_type: str
    inside: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Extraction:
    """The layers of a model for given input shapes.

    model: with fixed inputs substituted; the layers refer to its graph. layers: in the graph's order.
    skipped: nodes that might be layers and are not, with the reason. shapes: of all inputs that are left.
    layout: of the specs that can have either. fixed: values of inputs that were given. rest: the nodes that
    are needed beside the layers, in the graph's order. blocks: whether layers in a row were joined.
    """

    model: Model
    layers: tuple[Layer, ...]
    skipped: tuple[Skipped, ...]
    shapes: dict[str, Dims]
    layout: str
    fixed: Mapping[str, Any]
    rest: tuple[LeftOver, ...]
    blocks: bool = False


def weights_in(spec: Spec, w: np.ndarray) -> np.ndarray:
    """ONNX's weights, (O, I, *kernel) or transposed (I, O, *kernel), as ``spec`` has them; contiguous.

    That is (*kernel, I, O) for NHWC.
    """
    if spec.channels_last:
        w = w.transpose(*range(2, w.ndim), *((0, 1) if spec.transposed else (1, 0)))
    return np.ascontiguousarray(w)


def image_in(layout: str, x: np.ndarray) -> np.ndarray:
    """ONNX's (N, C, *spatial) array as kernels of `layout` take it: (N, *spatial, C) for NHWC; contiguous."""
    return np.asarray(np.moveaxis(x, 1, -1) if layout == "NHWC" else x, order="C")


def image_from(layout: str, y: np.ndarray) -> np.ndarray:
    """The reverse of `image_in` (a view)."""
    return np.moveaxis(y, -1, 1) if layout == "NHWC" else y
