"""A network as a .tflite model of float32, for LiteRT (XNNPACK) as a peer of scripts/bench_networks.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as tf
from tflite_model import F32, FUSED, Array, TfliteModel, Unfit

from tvmconv.network.composing import composed
from tvmconv.network.graph import Editor, Graph, Node
from tvmconv.network.importing import import_model
from tvmconv.network.layout import channels_last
from tvmconv.network.rewrites import EVERY, until_stable
from tvmconv.network.rewrites.copies import merged_copies
from tvmconv.onnx.reading.model import Shapes
from tvmconv.specs.operators import Copy, Layer, Map, Normalise, Piece, Reduce, Resize
from tvmconv.specs.operators.copy import joined, strides


def write(source: Path, shapes: Shapes, path: Path) -> None:
    """Write an ONNX model as a .tflite model, images channels-last at its ends too. Raises Unfit, Error."""
    some = tuple(rewrite for rewrite in EVERY if rewrite is not merged_copies)
    graph = channels_last(until_stable(import_model(source, shapes), some), "NHWC")
    path.write_bytes(_Network(until_stable(graph, (*some, _chains_merged))).bytes())


def _chains_merged(graph: Graph) -> Graph:
    """Copies of one input that alone read another such, as one: a channel shuffle is a copy, but what is
    joined or cut stays an operator of its own."""
    editor, readers = Editor.of(graph), Editor.of(graph).consumers()
    for node in graph.nodes:
        before = editor.producer(node.inputs[0]) if isinstance(node.op, Copy) else None
        if before is None or len(node.inputs) > 1 or not isinstance(before.op, Copy):
            continue
        if len(before.inputs) > 1 or len(readers[before.output]) > 1 or editor.is_output(before.output):
            continue
        both = composed(node.op, 0, before.op)  # type: ignore[arg-type]
        if both is not None and len(both.pieces) == 1:
            editor.put(Node(both, before.inputs, node.outputs, node.source))
    return editor.graph()


class _Network(TfliteModel):
    """A graph's nodes as operators, each by the method for its kind."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.positive: set[int] = set()  # tensors with nothing below 0
        self.at: dict[str, int] = {name: self.tensor(graph.type(name).shape) for name in graph.inputs}
        self.main.inputs = list(self.at.values())
        for node in graph.nodes:
            self.node(node)
        self.main.outputs = [self.at[name] for name in graph.outputs.values()]

    def value(self, name: str) -> int:
        """A value's tensor."""
        if name not in self.at:
            array = self.graph.constants[name]
            if array.dtype != F32:
                raise Unfit(f"a constant of {array.dtype}")
            self.at[name] = self.tensor(array.shape, array)
        return self.at[name]

    def node(self, node: Node) -> None:
        for name in (*node.inputs, *node.outputs):
            if self.graph.type(name).dtype != "float32":
                raise Unfit(f"{self.graph.type(name)}")
        kinds = {Layer: self.layer, Map: self.map, Copy: self.copy, Normalise: self.normalise,
                 Resize: self.resize, Reduce: self.reduce}  # fmt: skip
        if type(node.op) not in kinds:
            raise Unfit(str(node.op))
        y = self.at[node.output] = kinds[type(node.op)](node)
        if isinstance(node.op, Layer) and node.op.spec.activation in ("relu", "relu6"):
            self.positive.add(y)

    def layer(self, node: Node) -> int:
        spec: Any = node.op.spec  # type: ignore[attr-defined]
        given = dict(zip(node.op.arguments, node.inputs, strict=True))  # type: ignore[attr-defined]
        if spec.family not in ("conv", "pool") or "slopes" in given or spec.layout != "NHWC":
            raise Unfit(str(spec))
        x = self.value(given["x"])
        if spec.family == "pool":
            return self.pool(spec, x)
        w = self.graph.constants.get(given["w"])
        if w is None:
            raise Unfit(f"{spec}: weights that are computed")
        bias = self.value(given["bias"]) if spec.bias else self.array(np.zeros(spec.out_channels))
        apart = spec.residual or spec.activation not in FUSED
        fused = FUSED[None if apart else spec.activation]
        y = self.convolution(spec, x, w, bias, fused)
        activation = spec.activation
        if spec.residual:
            here = activation if activation in FUSED else None
            y = self.add("ADD", [y, self.value(given["residual"])], self.shape(y), tf.AddOptionsT(),
                         fusedActivationFunction=FUSED[here])  # fmt: skip
            activation = activation if here is None else None
        return self.activated(y, activation) if apart else y

    def convolution(self, spec: Any, x: int, w: Array, bias: int, fused: int) -> int:
        if spec.rank == 1 and spec.kernel == (1,) and spec.groups == 1:
            flat = (math.prod(spec.output_shape[:-1]), spec.out_channels)
            rows = self.reshaped(x, (flat[0], self.shape(x)[-1]))
            y = self.add("FULLY_CONNECTED", [rows, self.array(w[0].T), bias], flat,
                         tf.FullyConnectedOptionsT(), fusedActivationFunction=fused)  # fmt: skip
            return self.reshaped(y, spec.output_shape)
        if spec.rank != 2:
            raise Unfit(str(spec))
        window = {"strideH": spec.stride[0], "strideW": spec.stride[1], "fusedActivationFunction": fused}
        if spec.transposed:
            if spec.groups > 1 or any(map(any, spec.padding)) or any(spec.output_padding) or spec.is_dilated:
                raise Unfit(str(spec))
            shape = self.array(spec.output_shape, np.int32)
            return self.add("TRANSPOSE_CONV", [shape, self.array(w.transpose(3, 0, 1, 2)), x, bias],
                            spec.output_shape, tf.TransposeConvOptionsT(), 4, padding=tf.Padding.VALID,
                            **window)  # fmt: skip
        same = replace(spec, padding="SAME") == spec
        padding = tf.Padding.SAME if same else tf.Padding.VALID
        x = x if same else self.padded(x, spec.padding)
        window |= {"dilationHFactor": spec.dilation[0], "dilationWFactor": spec.dilation[1],
                   "padding": padding}  # fmt: skip
        if spec.kind == "depthwise":
            return self.add("DEPTHWISE_CONV_2D", [x, self.array(w.reshape(1, *w.shape[:2], -1)), bias],
                            spec.output_shape, tf.DepthwiseConv2DOptionsT(),
                            depthMultiplier=spec.multiplier, **window)  # fmt: skip
        return self.add("CONV_2D", [x, self.array(w.transpose(3, 0, 1, 2)), bias], spec.output_shape,
                        tf.Conv2DOptionsT(), **window)  # fmt: skip

    def pool(self, spec: Any, x: int) -> int:
        if spec.rank != 2 or set(spec.dilation) != {1}:
            raise Unfit(str(spec))
        largest, (height, width) = spec.operation == "max", spec.kernel
        pads = []
        for axis, (low, _) in enumerate(spec.padding):
            reach = (spec.out_spatial[axis] - 1) * spec.stride[axis] + spec.kernel[axis]
            pads.append((low, max(0, reach - low - self.shape(x)[1 + axis])))
        options = {"padding": tf.Padding.VALID, "filterHeight": height, "filterWidth": width,
                   "strideH": spec.stride[0], "strideW": spec.stride[1]}  # fmt: skip
        if any(map(any, pads)) and not largest and not spec.count_include_pad:
            if replace(spec, padding="SAME") != spec:
                raise Unfit(str(spec))
            options["padding"] = tf.Padding.SAME
        else:
            # XNNPACK pads with 0 only
            x = self.padded(x, pads, float(np.finfo(F32).min) if largest and x not in self.positive else 0.0)
        kind = "MAX_POOL_2D" if largest else "AVERAGE_POOL_2D"
        return self.add(kind, [x], spec.output_shape, tf.Pool2DOptionsT(), **options)

    def map(self, node: Node) -> int:
        values = [self.value(name) for name in node.inputs]

        def of(tree: Any) -> int:
            head, *arguments = tree
            if head in ("input", "number"):
                return values[arguments[0]] if head == "input" else self.array(arguments[0])
            return self.function(head, list(map(of, arguments)))

        return of(node.op.tree)  # type: ignore[attr-defined]

    def copy(self, node: Node) -> int:
        op, inputs = node.op, [self.value(name) for name in node.inputs]
        assert isinstance(op, Copy)
        shape = op.shape
        if op.is_reshape:
            return self.reshaped(inputs[0], shape)
        if not op.is_full:
            raise Unfit(str(op))
        sources = [piece.source for piece in op.pieces]
        types = [op.inputs[source] for source in sources]
        for axis in range(len(shape)) if len(op.pieces) > 1 else ():
            together = [(*one.shape[:axis], 0, *one.shape[axis + 1 :]) for one in types]
            if len(set(together)) > 1 or len(types[0].shape) != len(shape):
                continue
            whole = joined(types, axis)
            found = [Piece(0, *_parts(piece)) for piece in op.pieces]
            if whole.shape == shape and [Piece(0, *_parts(piece)) for piece in whole.pieces] == found:
                return self.add("CONCATENATION", [inputs[source] for source in sources], shape,
                                tf.ConcatenationOptionsT(), axis=axis)  # fmt: skip
        if len(op.pieces) > 1:
            raise Unfit(str(op))
        (piece,), x = op.pieces, op.inputs[0].shape
        begin = [piece.start // step % size for step, size in zip(strides(x), x, strict=True)]
        cut = Piece.of(0, piece.start, strides(x), 0, strides(shape), shape) if len(x) == len(shape) else None
        if piece == cut:
            return self.add("SLICE", [inputs[0], self.array(begin, np.int32), self.array(shape, np.int32)],
                            shape, tf.SliceOptionsT())  # fmt: skip
        return self.permuted(piece, inputs[0], shape)

    def permuted(self, piece: Piece, x: int, shape: Sequence[int]) -> int:
        order = sorted(range(len(piece.sizes)), key=lambda loop: -piece.steps[loop])
        before = [piece.sizes[loop] for loop in order]
        if [piece.steps[loop] for loop in order] != list(strides(before)) or piece.start:
            raise Unfit(f"a copy by {piece}")
        wide, turn = self.reshaped(x, before), [order.index(loop) for loop in range(len(order))]
        return self.reshaped(self.turned(wide, turn), shape)

    def reduce(self, node: Node) -> int:
        op, x = node.op, self.value(node.inputs[0])
        assert isinstance(op, Reduce)
        kinds = {"mean": "MEAN", "sum": "SUM", "max": "REDUCE_MAX", "min": "REDUCE_MIN"}
        if op.operation not in kinds:
            raise Unfit(str(op))
        return self.add(kinds[op.operation], [x, self.array(op.axes, np.int32)], op.infer()[0].shape,
                        tf.ReducerOptionsT(), keepDims=op.keepdims)  # fmt: skip

    def normalise(self, node: Node) -> int:
        op, (x, *more) = node.op, [self.value(name) for name in node.inputs]
        assert isinstance(op, Normalise)
        shape = self.shape(x)
        if op.method == "softmax" and len(op.axes) == 1:
            order = [axis for axis in range(len(shape)) if axis not in op.axes] + list(op.axes)
            y = self.add("SOFTMAX", [self.turned(x, order)], [shape[axis] for axis in order],
                         tf.SoftmaxOptionsT(), beta=1.0)  # fmt: skip
            return self.turned(y, [order.index(axis) for axis in range(len(shape))])
        if op.method != "standard":
            raise Unfit(str(op))
        apart = self.function("sub", [x, self.mean(x, op.axes)])
        variance = self.mean(self.function("mul", [apart, apart]), op.axes)
        wide = self.function("add", [variance, self.array(op.epsilon)])
        y = self.function("mul", [apart, self.add("RSQRT", [wide], self.shape(wide))])
        for name, value in zip(("mul", "add"), more, strict=False):
            y = self.function(name, [y, value])
        return y

    def resize(self, node: Node) -> int:
        op, x = node.op, self.value(node.inputs[0])
        assert isinstance(op, Resize)
        if len(op.shape) != 4 or (op.shape[0], op.shape[3]) != (self.shape(x)[0], self.shape(x)[3]):
            raise Unfit(str(op))
        size = self.array(op.shape[1:3], np.int32)
        if op.mode == "linear" and op.coordinates in ("half_pixel", "pytorch_half_pixel"):
            return self.add("RESIZE_BILINEAR", [x, size], op.shape, tf.ResizeBilinearOptionsT(), 3,
                            halfPixelCenters=True)  # fmt: skip
        if (op.mode, op.coordinates, op.rounding) == ("nearest", "asymmetric", "floor"):
            return self.add("RESIZE_NEAREST_NEIGHBOR", [x, size], op.shape,
                            tf.ResizeNearestNeighborOptionsT(), 3)  # fmt: skip
        raise Unfit(str(op))


def _parts(piece: Piece) -> tuple[Any, ...]:
    return piece.start, piece.steps, piece.to, piece.to_steps, piece.sizes
