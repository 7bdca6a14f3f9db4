"""ONNX Runtime as an engine of the benchmark."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from tvmconv.base.dtypes import BYTES
from tvmconv.bench.engines.layer_data import Layer, Unsupported, first, last
from tvmconv.bench.engines.onnx_model import onnx_model
from tvmconv.bench.engines.ways import Way


class OnnxRuntime:
    """ONNX Runtime with bound inputs and outputs, two engines. `ort` takes NCHW data with all optimisations:
    alone, a Conv then pays for the reorders into and out of the blocked layout NCHWc, which a network pays at
    its ends. `ort-nchwc` is the same optimised graph without them, on data that they blocked beforehand."""

    modules = ("onnxruntime", "onnx")
    one_pool = False

    def __init__(self, threads: int, options: dict):
        import onnxruntime

        self.ort, self.threads, self.blocked = onnxruntime, threads, options["engine"] == "ort-nchwc"
        self.version = f"onnxruntime {onnxruntime.__version__}"

    def session(self, model: bytes, level: str = "ALL", save: str = ""):
        options = self.ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        options.graph_optimization_level = getattr(self.ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
        options.optimized_model_filepath = save
        return self.ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def way(
        self, name: str, session, inputs: Mapping[str, np.ndarray], dtype: str, finish=lambda y: y
    ) -> Way:
        binding, out = session.io_binding(), session.get_outputs()[0]
        y = self.ort.OrtValue.ortvalue_from_shape_and_type(out.shape, np.dtype(dtype).type)
        values = {key: self.ort.OrtValue.ortvalue_from_numpy(array) for key, array in inputs.items()}
        for key, value in values.items():
            binding.bind_ortvalue_input(key, value)
        binding.bind_ortvalue_output(out.name, y)

        def give() -> None:
            for key, value in values.items():
                value.update_inplace(inputs[key])

        keep, run = (inputs, values, y), partial(session.run_with_iobinding, binding)
        return Way(name, run, lambda: finish(y.numpy()), keep, give)

    def ways(self, layer: Layer) -> Iterator[Way]:
        if self.blocked:
            yield self.blocks(layer)
            return
        model, dtype = onnx_model(layer), layer.out_dtype
        yield self.way("NCHW", self.session(model, "EXTENDED"), layer.inputs, dtype)
        yield self.way("NCHW, reorders inside", self.session(model), layer.inputs, dtype)
        if layer.quantised and dtype in BYTES:  # as its optimiser arranges chains of them
            session = self.session(onnx_model(layer, channels_last=True))
            yield self.way("NHWC", session, {"x": last(layer.x)}, dtype, first)

    def blocks(self, layer: Layer) -> Way:
        """Only what is between the reorders of the optimised graph, on data that they blocked; a residual
        goes into the convolution, as it does where two blocked ones are added."""
        import onnx

        spec = layer.spec
        if spec.family != "conv" or spec.dtype != "float32":
            raise Unsupported("ONNX Runtime blocks convolutions of float32 only")
        bare = replace(layer, spec=replace(spec, residual=False), arrays=dict(layer.arrays))
        bare.arrays.pop("residual", None)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "optimised.onnx")
            self.session(onnx_model(bare), save=path)
            graph = onnx.load(path)
        nodes = {n.op_type: n for n in graph.graph.node}
        if "ReorderOutput" not in nodes:
            raise Unsupported("ONNX Runtime does not block this layer")
        if set(nodes) - {"ReorderInput", "Conv", "ReorderOutput"}:
            raise Unsupported("ONNX Runtime does not fuse what follows")
        helper = onnx.helper

        def one(node, shapes, y_shape):
            """A session of one node; shapes: of its inputs that are no weights."""
            ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in shapes.items()]
            out = helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, y_shape)
            held = [t for t in graph.graph.initializer if t.name in node.input]
            part = helper.make_graph([node], node.op_type, ends, [out], held)
            made = helper.make_model(part, opset_imports=graph.opset_import, ir_version=graph.ir_version)
            return self.session(made.SerializeToString())

        def reordered(array, node):
            symbolic = [array.shape[0], "c", *array.shape[2:]]
            return one(node, {node.input[0]: array.shape}, symbolic).run(None, {node.input[0]: array})[0]

        # A blocked tensor's channels are rounded up to whole blocks.
        conv, back = nodes["Conv"], nodes["ReorderOutput"]
        dims = {t.name: list(t.dims) for t in graph.graph.initializer}
        blocked = (layer.x.shape[0], dims[conv.input[1]][0], *spec.out_spatial)
        x = reordered(layer.x, nodes["ReorderInput"]) if "ReorderInput" in nodes else layer.x
        feeds = {conv.input[0]: x}
        if "residual" in layer.arrays:
            conv.input.extend(["", "residual"][len(conv.input) - 2 :])
            reorder = helper.make_node("ReorderInput", ["r"], ["b"], domain="com.microsoft.nchwc")
            feeds["residual"] = reordered(layer.arrays["residual"], reorder)
        session = one(conv, {name: array.shape for name, array in feeds.items()}, blocked)
        plain = one(back, {back.input[0]: blocked}, layer.expected.shape)
        return self.way("NCHWc", session, feeds, "float32", lambda y: plain.run(None, {back.input[0]: y})[0])
