"""The engines that can be compared. Each is driven in a process of its own (worker.py).

An engine lists its *ways* of running one layer: say, ONNX Runtime on plain NCHW data and on the blocked data
that it uses inside a network. Whatever a user would pay once for a model (reordering weights, building the
graph, padding that the engine cannot express) happens before the clock starts; the fastest way is kept.
Arrays arrive channels-first (x: N C spatial, w: O I spatial); every way turns them into what it likes best.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tvmconv.bench.models import (
    F32,
    RELU,
    Layer,
    Unsupported,
    first,
    last,
    onnx_model,
    tflite_model,
    weight_axes,
)


@dataclass(frozen=True)
class Way:
    """One way to run a layer: `call` does all that is timed, `result` fetches y channels-first afterwards."""

    name: str
    call: Callable[[], object]
    result: Callable[[], np.ndarray]
    keep: tuple = ()  # memory that the engine uses without owning it


def aligned(shape: tuple[int, ...], fill: np.ndarray | None = None) -> np.ndarray:
    """A float32 array on a cache line, as the other engines' allocators give; `fill` is copied in."""
    size = int(np.prod(shape))
    raw = np.empty(size * 4 + 64, np.uint8)
    start = -raw.ctypes.data % 64
    out = raw[start : start + size * 4].view(F32).reshape(shape)
    out[...] = 0 if fill is None else fill
    return out


class Ours:
    """tvmconv: a library that the parent compiled and exported; weights bound, hence prepacked, once."""

    modules = ("tvmconv",)

    def __init__(self, threads: int, options: dict):
        import tvmconv
        from tvmconv.runtime import set_num_threads

        self.version = f"tvmconv {getattr(tvmconv, '__version__', '?')}"
        self.module = tvmconv.load(options["library"])
        set_num_threads(threads)
        self.names = {f.descriptor: name for name, f in self.module.functions.items()}

    def ways(self, layer: Layer) -> Iterator[Way]:
        spec = layer.spec
        x, w = layer.x, layer.w
        if spec.channels_last:
            x, w = last(x), np.moveaxis(w, (0, 1), weight_axes(spec))
        bound = self.module[self.names[str(spec)]].bind(np.ascontiguousarray(w), layer.bias)
        x, y = aligned(x.shape, x), aligned(spec.output_shape)
        yield Way(spec.layout, lambda: bound(x, out=y), lambda: first(y) if spec.channels_last else y)


class Torch:
    """PyTorch, three engines: `torch` contiguous, `torch-cl` channels-last (both as eager code runs them) and
    `onednn`, whose weights are reordered beforehand: the fused operator that frozen torch.compile graphs
    call, and to_mkldnn tensors in oneDNN's own blocked layout."""

    modules = ("torch",)

    def __init__(self, threads: int, options: dict):
        import torch

        self.torch, self.kind = torch, options["engine"]
        torch.set_num_threads(threads)
        torch.inference_mode().__enter__()  # for the life of the process
        self.version = f"torch {torch.__version__}"
        if self.kind == "onednn":
            build = torch.__config__.show()
            self.version += " (oneDNN " + build.partition("MKL-DNN v")[2].partition(" ")[0] + ")"

    def ways(self, layer: Layer) -> Iterator[Way]:
        torch, spec, clamp = self.torch, layer.spec, layer.clamp
        functional = torch.nn.functional
        data, pads = layer.padded(keep=True)
        x, w = torch.from_numpy(data), torch.from_numpy(layer.w)
        bias = None if layer.bias is None else torch.from_numpy(layer.bias)
        geometry = (list(spec.stride), pads, list(spec.dilation), spec.groups)
        conv = getattr(functional, f"conv{spec.rank}d")
        if spec.transposed:
            transposed = getattr(functional, f"conv_transpose{spec.rank}d")

            def conv(x, w, bias, stride, pads, dilation, groups):
                return transposed(x, w, bias, stride, pads, list(spec.output_padding), groups, dilation)

        def act(y):
            if clamp is None:
                return y
            return functional.relu_(y) if clamp == RELU else functional.hardtanh_(y, *clamp)

        def way(name, call):
            return Way(name, call, lambda: (y.to_dense() if (y := call()).is_mkldnn else y).numpy())

        if self.kind == "torch":
            yield way("contiguous", lambda: act(conv(x, w, bias, *geometry)))
            return
        if spec.rank == 1:
            raise Unsupported("PyTorch has no channels-last layout for 1-D data")
        order = torch.channels_last if spec.rank == 2 else torch.channels_last_3d
        xc, wc = x.to(memory_format=order), w.to(memory_format=order)
        if self.kind == "torch-cl":
            yield way("channels-last", lambda: act(conv(xc, wc, bias, *geometry)))
            return
        if spec.transposed:
            raise Unsupported("this operator of oneDNN's is for ordinary convolutions")
        stride, _, dilation, groups = geometry
        name, limits = ("none", []) if clamp is None else ("hardtanh", [float(c) for c in clamp])
        reorder = torch.ops.mkldnn._reorder_convolution_weight
        packed = reorder(w, pads, stride, dilation, groups, list(x.shape))
        fused = torch.ops.mkldnn._convolution_pointwise.default
        fixed = (packed, bias, pads, stride, dilation, groups, name, limits, "")
        yield way("prepacked channels-last", lambda: fused(xc, *fixed))
        if spec.rank == 2 and (clamp is None or clamp == RELU):  # blocked clamps do not exist
            yield from self.blocked(x, w, bias, geometry, act, way)

    def blocked(self, x, w, bias, geometry, act, way) -> Iterator[Way]:
        torch = self.torch
        stride, pads, dilation, groups = geometry
        reorder = torch._C._nn.mkldnn_reorder_conv2d_weight
        weight = reorder(w.to_mkldnn(), pads, stride, dilation, groups, list(x.shape))
        bias = None if bias is None else bias.to_mkldnn()
        plain, channels = x.to_mkldnn(), x.shape[1]
        # to_mkldnn leaves the data in plain order. What an identity convolution puts out is in the blocked
        # order in which one layer hands its output to the next.
        eye = torch.ones(channels, 1, 1, 1).to_mkldnn()
        inner = torch.conv2d(plain, eye, None, [1, 1], [0, 0], [1, 1], channels)
        for name, data in (("blocked", inner), ("plain mkldnn", plain)):
            yield way(name, lambda d=data: act(torch.conv2d(d, weight, bias, stride, pads, dilation, groups)))


class OnnxRuntime:
    """ONNX Runtime with bound inputs and outputs, two engines. `ort` takes NCHW data with all optimisations:
    alone, a Conv then pays for the reorders into and out of the blocked layout NCHWc, which a network pays at
    its ends. `ort-nchwc` is the same optimised graph without them, on data that they blocked beforehand."""

    modules = ("onnxruntime", "onnx")

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

    def way(self, name: str, session, x: np.ndarray, finish=lambda y: y) -> Way:
        binding, out = session.io_binding(), session.get_outputs()[0]
        y = self.ort.OrtValue.ortvalue_from_shape_and_type(out.shape, F32)
        value = self.ort.OrtValue.ortvalue_from_numpy(x)
        binding.bind_ortvalue_input(session.get_inputs()[0].name, value)
        binding.bind_ortvalue_output(out.name, y)
        keep = (x, value, y)
        return Way(name, lambda: session.run_with_iobinding(binding), lambda: finish(y.numpy()), keep)

    def ways(self, layer: Layer) -> Iterator[Way]:
        import onnx

        model = onnx_model(layer)
        if not self.blocked:
            yield self.way("NCHW", self.session(model, "EXTENDED"), layer.x)
            yield self.way("NCHW, reorders inside", self.session(model), layer.x)
            return
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "optimised.onnx")
            self.session(model, save=path)
            graph = onnx.load(path)
        nodes = {n.op_type: n for n in graph.graph.node}
        if "ReorderOutput" not in nodes:
            raise Unsupported("ONNX Runtime does not block this layer")

        def one(kind: str, x_shape, y_shape):
            node = nodes[kind]
            ends = [
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
                for name, shape in ((node.input[0], x_shape), (node.output[0], y_shape))
            ]
            held = [t for t in graph.graph.initializer if t.name in node.input]
            part = onnx.helper.make_graph([node], kind, ends[:1], ends[1:], held)
            made = onnx.helper.make_model(part, opset_imports=graph.opset_import, ir_version=graph.ir_version)
            return self.session(made.SerializeToString())

        # A blocked tensor's channels are rounded up to whole blocks.
        dims = {t.name: list(t.dims) for t in graph.graph.initializer}
        shapes = (layer.x.shape, (layer.spec.batch, dims[nodes["Conv"].input[1]][0], *layer.spec.out_spatial))
        x = layer.x
        if "ReorderInput" in nodes:
            symbolic = [x.shape[0], "c", *x.shape[2:]]
            x = one("ReorderInput", x.shape, symbolic).run(None, {nodes["ReorderInput"].input[0]: x})[0]
        conv = one("Conv", x.shape, shapes[1])
        back = one("ReorderOutput", shapes[1], layer.expected.shape)
        yield self.way("NCHWc", conv, x, lambda y: back.run(None, {nodes["ReorderOutput"].input[0]: y})[0])


class OpenVino:
    """OpenVINO's CPU plug-in in float32, plain channels-first and channels-last."""

    modules = ("openvino", "onnx")

    def __init__(self, threads: int, options: dict):
        import openvino

        self.ov, self.core, self.version = openvino, openvino.Core(), f"openvino {openvino.__version__}"
        self.config = {
            "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False,
        }  # fmt: skip

    def ways(self, layer: Layer) -> Iterator[Way]:
        yield self.way(layer, False)
        yield self.way(layer, True)

    def way(self, layer: Layer, channels_last: bool) -> Way:
        model, x = self.core.read_model(onnx_model(layer), b""), layer.x
        if channels_last:
            from openvino.preprocess import PrePostProcessor

            axes, x, steps = "DHW"[3 - layer.spec.rank :], last(x), PrePostProcessor(model)
            for end in (steps.input(), steps.output()):
                end.tensor().set_layout(self.ov.Layout(f"N{axes}C"))
                end.model().set_layout(self.ov.Layout(f"NC{axes}"))
            model = steps.build()
        request = self.core.compile_model(model, "CPU", self.config).create_infer_request()
        request.set_input_tensor(self.ov.Tensor(x, shared_memory=True))

        def call():  # shared: plain infer() copies the output for its caller
            request.infer(share_inputs=True, share_outputs=True)

        def result():
            y = request.get_output_tensor().data
            return first(y) if channels_last else y

        return Way("channels-last" if channels_last else "channels-first", call, result, (x,))


class LiteRt:
    """LiteRT (TensorFlow Lite) with its XNNPACK delegate, on a .tflite model of one operator built here."""

    modules = ("ai_edge_litert", "flatbuffers")

    def __init__(self, threads: int, options: dict):
        from importlib.metadata import version

        from ai_edge_litert.interpreter import Interpreter

        self.interpreter, self.threads = Interpreter, threads
        self.version = f"ai-edge-litert {version('ai-edge-litert')}"

    def ways(self, layer: Layer) -> Iterator[Way]:
        if layer.spec.rank != 2 or layer.spec.transposed:
            raise Unsupported("here LiteRT has ordinary 2-D convolutions only")
        model, x = tflite_model(layer)
        run = self.interpreter(model_content=model, num_threads=self.threads)
        run.allocate_tensors()
        # A delegate stands in for the operators that it takes; one refused would run on slow built-in code.
        if [op["op_name"] for op in run._get_ops_details()][1:] != ["DELEGATE"]:
            raise Unsupported("XNNPACK did not take the operator")
        run.set_tensor(run.get_input_details()[0]["index"], x)
        y = run.get_output_details()[0]["index"]
        yield Way("XNNPACK", run.invoke, lambda: first(run.get_tensor(y)), (model,))


ENGINES = {
    "ours": Ours, "torch": Torch, "torch-cl": Torch, "onednn": Torch,
    "ort": OnnxRuntime, "ort-nchwc": OnnxRuntime, "litert": LiteRt, "openvino": OpenVino,
}  # fmt: skip


def missing(engine: str) -> str | None:
    """The first module that the engine needs and this Python lacks, or None."""
    return next((m for m in ENGINES[engine].modules if importlib.util.find_spec(m) is None), None)
