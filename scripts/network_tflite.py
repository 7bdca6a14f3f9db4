"""A network as a .tflite model of float32, for LiteRT (XNNPACK) as a peer of scripts/bench_networks.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as tf

from tvmconv.network.composing import composed
from tvmconv.network.graph import Editor, Graph, Node
from tvmconv.network.importing import import_model
from tvmconv.network.layout import channels_last
from tvmconv.network.rewrites import EVERY, until_stable
from tvmconv.network.rewrites.copies import merged_copies
from tvmconv.onnx.reading.model import Shapes
from tvmconv.specs.operators import Copy, Layer, Map, Normalise, Piece, Reduce, Resize
from tvmconv.specs.operators.copy import joined, strides

Array = np.ndarray[Any, Any]
F32 = np.float32
_FUSED = {None: tf.ActivationFunctionType.NONE, "relu": tf.ActivationFunctionType.RELU,
          "relu6": tf.ActivationFunctionType.RELU6}  # fmt: skip
_UNARY = {"sigmoid": "LOGISTIC", "relu": "RELU", "hard_swish": "HARD_SWISH", "tanh": "TANH", "exp": "EXP",
          "sqrt": "SQRT", "neg": "NEG", "abs": "ABS", "log": "LOG"}  # fmt: skip
_BINARY = {"add": "ADD", "sub": "SUB", "mul": "MUL", "div": "DIV", "max": "MAXIMUM", "min": "MINIMUM"}


class Unfit(Exception):
    """TFLite has no operator for a node, or none that is written here."""


def write(source: Path, shapes: Shapes, path: Path) -> None:
    """Write an ONNX model as a .tflite model, images channels-last at its ends too. Raises Unfit, Error."""
    some = tuple(rewrite for rewrite in EVERY if rewrite is not merged_copies)
    graph = channels_last(until_stable(import_model(source, shapes), some), "NHWC")
    path.write_bytes(_Model(until_stable(graph, (*some, _chains_merged))).bytes())


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


class _Model:
    """A model in the making: tensors, and operators one after the other."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.model, self.main = graph, tf.ModelT(), tf.SubGraphT()
        self.model.version, self.model.buffers, self.model.subgraphs = 3, [tf.BufferT()], [self.main]
        self.model.operatorCodes, self.main.tensors, self.main.operators = [], [], []
        self.codes: dict[tuple[str, int], int] = {}
        self.positive: set[int] = set()  # tensors with nothing below 0
        self.at: dict[str, int] = {name: self.tensor(graph.type(name).shape) for name in graph.inputs}
        self.main.inputs = list(self.at.values())
        for node in graph.nodes:
            self.node(node)
        self.main.outputs = [self.at[name] for name in graph.outputs.values()]

    def bytes(self) -> bytes:
        import flatbuffers

        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def tensor(self, shape: Sequence[int], data: Array | None = None) -> int:
        made, held = tf.TensorT(), tf.BufferT()
        if data is not None:
            held.data = np.ascontiguousarray(data).view(np.uint8).ravel()
        whole = data is not None and data.dtype == np.int32
        made.name, made.shape = f"t{len(self.main.tensors)}", list(map(int, shape))
        made.type = tf.TensorType.INT32 if whole else tf.TensorType.FLOAT32
        made.buffer = len(self.model.buffers)
        self.model.buffers.append(held)
        self.main.tensors.append(made)
        return len(self.main.tensors) - 1

    def array(self, values: Any, dtype: Any = F32) -> int:
        """A constant."""
        array = np.asarray(values, dtype)
        return self.tensor(array.shape, array)

    def value(self, name: str) -> int:
        """A value's tensor."""
        if name not in self.at:
            array = self.graph.constants[name]
            if array.dtype != F32:
                raise Unfit(f"a constant of {array.dtype}")
            self.at[name] = self.tensor(array.shape, array)
        return self.at[name]

    def shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self.main.tensors[tensor].shape)

    def add(self, kind: str, inputs: Sequence[int], shape: Sequence[int], options: Any = None,
            version: int = 1, **fields: Any) -> int:  # fmt: skip
        """Add an operator; its result."""
        key = kind, version
        if key not in self.codes:
            code = tf.OperatorCodeT()
            code.builtinCode, code.version = getattr(tf.BuiltinOperator, kind), version
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            self.codes[key] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        op, y = tf.OperatorT(), self.tensor(shape)
        op.opcodeIndex, op.inputs, op.outputs = self.codes[key], list(inputs), [y]
        if options is not None:
            for name, value in fields.items():
                setattr(options, name, value)
            op.builtinOptionsType = getattr(tf.BuiltinOptions, type(options).__name__.removesuffix("T"))
            op.builtinOptions = options
        self.main.operators.append(op)
        return y

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

    def reshaped(self, x: int, shape: Sequence[int]) -> int:
        if self.shape(x) == tuple(shape):
            return x
        return self.add("RESHAPE", [x, self.array(shape, np.int32)], shape, tf.ReshapeOptionsT(),
                        newShape=list(shape))  # fmt: skip

    # Layers

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
        apart = spec.residual or spec.activation not in _FUSED
        fused = _FUSED[None if apart else spec.activation]
        y = self.convolution(spec, x, w, bias, fused)
        activation = spec.activation
        if spec.residual:
            here = activation if activation in _FUSED else None
            y = self.add("ADD", [y, self.value(given["residual"])], self.shape(y), tf.AddOptionsT(),
                         fusedActivationFunction=_FUSED[here])  # fmt: skip
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

    def padded(self, x: int, padding: Sequence[Sequence[int]], value: float = 0.0) -> int:
        if not any(map(any, padding)):
            return x
        pads = np.array([[0, 0], *padding, [0, 0]], np.int32)
        shape = [n + int(p.sum()) for n, p in zip(self.shape(x), pads, strict=True)]
        if value == 0:
            return self.add("PAD", [x, self.array(pads, np.int32)], shape, tf.PadOptionsT())
        return self.add("PADV2", [x, self.array(pads, np.int32), self.array([value])], shape,
                        tf.PadV2OptionsT())  # fmt: skip

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

    # Element-wise

    def activated(self, y: int, activation: str | None) -> int:
        if activation is None:
            return y
        name, _, numbers = activation.partition("=")
        return self.function(name, [y, *(self.array(float(n)) for n in numbers.split(",") if n)])

    def map(self, node: Node) -> int:
        values = [self.value(name) for name in node.inputs]

        def of(tree: Any) -> int:
            head, *arguments = tree
            if head in ("input", "number"):
                return values[arguments[0]] if head == "input" else self.array(arguments[0])
            return self.function(head, list(map(of, arguments)))

        return of(node.op.tree)  # type: ignore[attr-defined]

    def function(self, name: str, arguments: list[int]) -> int:
        x = arguments[0]
        shape = np.broadcast_shapes(*map(self.shape, arguments))
        numbers = [self.number(tensor) for tensor in arguments[1:]]
        if name in _UNARY and len(arguments) == 1:
            options = {"EXP": tf.ExpOptionsT, "NEG": tf.NegOptionsT, "ABS": tf.AbsOptionsT,
                       "HARD_SWISH": tf.HardSwishOptionsT}.get(_UNARY[name])  # fmt: skip
            return self.add(_UNARY[name], arguments, shape, options and options())
        if name in ("max", "min"):
            return self.add(_BINARY[name], arguments, shape, tf.MaximumMinimumOptionsT())
        if name in _BINARY:
            options = getattr(tf, f"{_BINARY[name].title()}OptionsT")()
            return self.add(_BINARY[name], arguments, shape, options)
        if name == "relu6" or (name == "clip" and numbers == [0, 6]):
            return self.add("RELU6", [x], shape)
        if name == "silu":
            return self.function("mul", [x, self.function("sigmoid", [x])])
        if name in ("gelu", "gelu_tanh"):
            return self.add("GELU", [x], shape, tf.GeluOptionsT(), approximate=name == "gelu_tanh")
        if name == "hard_sigmoid":
            slope, offset = (*numbers, 0.5)[:2] if numbers else (1 / 6, 0.5)
            y = x if np.isclose(slope, 1 / 6) else self.function("mul", [x, self.array(6 * slope)])
            y = self.add("ADD", [y, self.array(6 * offset)], shape, tf.AddOptionsT(),
                         fusedActivationFunction=tf.ActivationFunctionType.RELU6)  # fmt: skip
            return self.function("mul", [y, self.array(1 / 6)])
        raise Unfit(name)

    def number(self, tensor: int) -> float:
        data = self.model.buffers[self.main.tensors[tensor].buffer].data
        if data is None or self.shape(tensor):
            return math.nan
        return float(np.asarray(data, np.uint8).view(F32)[0])

    # Moving

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

    def turned(self, x: int, order: Sequence[int]) -> int:
        """Dims in another order."""
        if list(order) == sorted(order):
            return x
        shape = [self.shape(x)[dim] for dim in order]
        return self.add("TRANSPOSE", [x, self.array(order, np.int32)], shape, tf.TransposeOptionsT())

    # The rest

    def mean(self, x: int, axes: Sequence[int]) -> int:
        shape = [1 if axis in axes else size for axis, size in enumerate(self.shape(x))]
        return self.add("MEAN", [x, self.array(axes, np.int32)], shape, tf.ReducerOptionsT(), keepDims=True)

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
