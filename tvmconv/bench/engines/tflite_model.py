"""A layer as a .tflite model: its operator, and what follows it in a network."""

from __future__ import annotations

from typing import Any

import numpy as np

from tvmconv.bench.engines.layer_data import F32, RELU, Array, Layer, Unsupported, last

_FUSED = {None: "NONE", RELU: "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}


def tflite_model(layer: Layer) -> tuple[bytes, Array]:
    """A .tflite of the layer, and its NHWC input x. Raises Unsupported.

    TFLite knows SAME and VALID: any other padding is put into the input beforehand."""
    import flatbuffers

    spec = layer.spec
    known = spec.family in ("conv", "pool") and spec.rank == 2
    if not known or layer.out_dtype != spec.dtype or spec.dtype not in ("float32", "int8"):
        raise Unsupported("here LiteRT has 2-D convolutions and poolings of float32 and int8 only")
    made = _Model(layer)
    kinds = {"conv": made.transposed if spec.transposed else made.convolution, "pool": made.pool}
    kinds[spec.family]()
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(made.model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), made.x


class _Model:
    """A model in the making: tensors, and operators one after the other."""

    def __init__(self, layer: Layer):
        from ai_edge_litert import schema_py_generated as tf

        self.tf, self.layer = tf, layer
        self.spec: Any = layer.spec  # whose kind each method knows
        self.model, self.graph = tf.ModelT(), tf.SubGraphT()
        self.model.version, self.model.buffers, self.model.subgraphs = 3, [tf.BufferT()], [self.graph]
        self.model.operatorCodes, self.graph.tensors, self.graph.operators = [], [], []
        self.same = self.is_same()
        if not self.same and self.spec.transposed and any(map(any, self.spec.padding)):
            raise Unsupported("a crop that is neither SAME nor VALID")
        self.x = last(layer.x if self.same else layer.padded(keep=False)[0])
        self.steps = {}
        if layer.quantised:
            self.steps = {
                name: (layer.arrays[f"{name}_scale"], layer.arrays[f"{name}_zero_point"]) for name in "xwy"
            }

    def is_same(self) -> bool:
        """Whether the padding is what TFLite calls SAME."""
        from dataclasses import replace

        return replace(self.spec, padding="SAME") == self.spec

    def tensor(self, name: str, shape: tuple[int, ...], data: Array | None = None, axis: int = 0) -> int:
        tf, made = self.tf, self.tf.TensorT()
        held = tf.BufferT()
        if data is not None:
            held.data = np.ascontiguousarray(data).view(np.uint8).ravel()
        dtype = self.spec.dtype if data is None else data.dtype.name
        kinds = {"float32": tf.TensorType.FLOAT32, "int8": tf.TensorType.INT8, "int32": tf.TensorType.INT32}
        made.name, made.shape, made.type = name, list(shape), kinds[dtype]
        if name in self.steps:
            scale, zero = self.steps[name]
            made.quantization = tf.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = scale.tolist(), zero.tolist()
            made.quantization.quantizedDimension = axis
        made.buffer = len(self.model.buffers)
        self.model.buffers.append(held)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def operator(self, kind: str, options: Any, inputs: list[int], output: int, version: int = 1) -> None:
        tf = self.tf
        code, op = tf.OperatorCodeT(), tf.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(tf.BuiltinOperator, kind)
        code.version = version
        self.model.operatorCodes.append(code)
        self.graph.operators.append(op)
        if options is not None:
            op.builtinOptionsType = getattr(tf.BuiltinOptions, type(options).__name__.removesuffix("T"))
            op.builtinOptions = options
        op.opcodeIndex = len(self.model.operatorCodes) - 1
        op.inputs, op.outputs = inputs, [output]

    def finish(self, kind: str, options: Any, inputs: list[int], version: int = 1) -> None:
        """The layer's operator, then its residual's addition, then an activation that cannot be fused."""
        tf, layer = self.tf, self.layer
        shape = (self.spec.batch, *self.spec.out_spatial, self.spec.out_channels)
        x = inputs[2] if kind == "TRANSPOSE_CONV" else inputs[0]
        self.graph.inputs = [x]
        apart = self.spec.act.tflite if self.spec.act else ""
        fused = "NONE" if apart else _FUSED.get(layer.clamp)
        if fused is None:
            raise Unsupported(f"TFLite has no fused clamp to {layer.clamp}")
        fused = getattr(tf.ActivationFunctionType, fused)
        residual = "residual" in self.layer.inputs
        options.fusedActivationFunction = tf.ActivationFunctionType.NONE if residual else fused
        y = self.tensor("y" if not (residual or apart) else "c", shape)
        self.operator(kind, options, inputs, y, version)
        if residual:
            other, total = self.tensor("r", shape), self.tensor("s", shape)
            add = tf.AddOptionsT()
            add.fusedActivationFunction = fused
            self.operator("ADD", add, [y, other], total)
            self.graph.inputs.append(other)
            y = total
        if apart:
            done = self.tensor("z", shape)
            self.operator(apart, None, [y], done)
            y = done
        self.graph.outputs = [y]

    def window(self, options: Any) -> Any:
        tf = self.tf
        options.padding = tf.Padding.SAME if self.same else tf.Padding.VALID
        options.strideH, options.strideW = self.spec.stride
        return options

    def bias(self) -> int:
        """Not optional here."""
        array = self.layer.bias
        if array is None:
            array = np.zeros(self.spec.out_channels, np.int32 if self.steps else F32)
        if self.steps:
            scale = self.steps["x"][0] * self.steps["w"][0]
            self.steps["b"] = (scale, np.zeros(len(scale), np.int64))
        return self.tensor("b", array.shape, array)

    def convolution(self) -> None:
        tf, spec, w = self.tf, self.spec, self.layer.w
        # CONV_2D wants OHWI; DEPTHWISE_CONV_2D 1HWO, output channel c·multiplier + m, which is OIHW's order.
        if spec.kind == "depthwise":
            kind, options, w, axis = (
                "DEPTHWISE_CONV_2D",
                tf.DepthwiseConv2DOptionsT(),
                w.transpose(1, 2, 3, 0),
                3,
            )
            options.depthMultiplier = spec.multiplier
        else:
            kind, options, w, axis = "CONV_2D", tf.Conv2DOptionsT(), w.transpose(0, 2, 3, 1), 0
        options.dilationHFactor, options.dilationWFactor = spec.dilation
        inputs = [self.tensor("x", self.x.shape), self.tensor("w", w.shape, w, axis), self.bias()]
        self.finish(kind, self.window(options), inputs, 3 if self.steps else 1)

    def transposed(self) -> None:
        spec = self.spec
        if spec.groups > 1 or spec.is_dilated or any(spec.output_padding):
            raise Unsupported("TFLite's transposed convolution has no groups, dilation or output padding")
        w = self.layer.w.transpose(1, 2, 3, 0)  # (in, out, H, W) to OHWI
        shape = np.array([spec.batch, *spec.out_spatial, spec.out_channels], np.int32)
        inputs = [self.tensor("shape", (4,), shape), self.tensor("w", w.shape, w),
                  self.tensor("x", self.x.shape), self.bias()]  # fmt: skip
        self.finish("TRANSPOSE_CONV", self.window(self.tf.TransposeConvOptionsT()), inputs, 3)

    def pool(self) -> None:
        tf, spec = self.tf, self.spec
        if set(spec.dilation) != {1} or spec.count_include_pad or spec.ceil_mode:
            raise Unsupported("TFLite's poolings do not dilate, round up or count padding")
        options = self.window(tf.Pool2DOptionsT())
        options.filterHeight, options.filterWidth = spec.kernel
        kind = "MAX_POOL_2D" if spec.operation == "max" else "AVERAGE_POOL_2D"
        self.finish(kind, options, [self.tensor("x", self.x.shape)])
