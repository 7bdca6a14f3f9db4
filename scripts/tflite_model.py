"""A .tflite model in the making, of float32: its tensors, and operators one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as tf

Array = np.ndarray[Any, Any]
F32 = np.float32
FUSED = {None: tf.ActivationFunctionType.NONE, "relu": tf.ActivationFunctionType.RELU,
         "relu6": tf.ActivationFunctionType.RELU6}  # fmt: skip
_UNARY = {"sigmoid": "LOGISTIC", "relu": "RELU", "hard_swish": "HARD_SWISH", "tanh": "TANH", "exp": "EXP",
          "sqrt": "SQRT", "neg": "NEG", "abs": "ABS", "log": "LOG"}  # fmt: skip
_BINARY = {"add": "ADD", "sub": "SUB", "mul": "MUL", "div": "DIV", "max": "MAXIMUM", "min": "MINIMUM"}


class Unfit(Exception):
    """TFLite has no operator for a node, or none that is written here."""


class TfliteModel:
    """Tensors are numbers; what adds operators gives the tensor of their result."""

    def __init__(self) -> None:
        self.model, self.main = tf.ModelT(), tf.SubGraphT()
        self.model.version, self.model.buffers, self.model.subgraphs = 3, [tf.BufferT()], [self.main]
        self.model.operatorCodes, self.main.tensors, self.main.operators = [], [], []
        self.codes: dict[tuple[str, int], int] = {}

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

    def number(self, tensor: int) -> float:
        data = self.model.buffers[self.main.tensors[tensor].buffer].data
        if data is None or self.shape(tensor):
            return math.nan
        return float(np.asarray(data, np.uint8).view(F32)[0])

    def reshaped(self, x: int, shape: Sequence[int]) -> int:
        if self.shape(x) == tuple(shape):
            return x
        return self.add("RESHAPE", [x, self.array(shape, np.int32)], shape, tf.ReshapeOptionsT(),
                        newShape=list(shape))  # fmt: skip

    def turned(self, x: int, order: Sequence[int]) -> int:
        """Dims in another order."""
        if list(order) == sorted(order):
            return x
        shape = [self.shape(x)[dim] for dim in order]
        return self.add("TRANSPOSE", [x, self.array(order, np.int32)], shape, tf.TransposeOptionsT())

    def padded(self, x: int, padding: Sequence[Sequence[int]], value: float = 0.0) -> int:
        if not any(map(any, padding)):
            return x
        pads = np.array([[0, 0], *padding, [0, 0]], np.int32)
        shape = [n + int(p.sum()) for n, p in zip(self.shape(x), pads, strict=True)]
        if value == 0:
            return self.add("PAD", [x, self.array(pads, np.int32)], shape, tf.PadOptionsT())
        return self.add("PADV2", [x, self.array(pads, np.int32), self.array([value])], shape,
                        tf.PadV2OptionsT())  # fmt: skip

    def mean(self, x: int, axes: Sequence[int]) -> int:
        shape = [1 if axis in axes else size for axis, size in enumerate(self.shape(x))]
        return self.add("MEAN", [x, self.array(axes, np.int32)], shape, tf.ReducerOptionsT(), keepDims=True)

    def activated(self, y: int, activation: str | None) -> int:
        if activation is None:
            return y
        name, _, numbers = activation.partition("=")
        return self.function(name, [y, *(self.array(float(n)) for n in numbers.split(",") if n)])

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
