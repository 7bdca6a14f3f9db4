"""OpenVINO as an engine of the benchmark."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tvmconv.bench.engines.layer_data import Layer, first, last
from tvmconv.bench.engines.onnx_model import onnx_model
from tvmconv.bench.engines.ways import Way, touching


class OpenVino:
    """OpenVINO's CPU plug-in, plain channels-first and channels-last; no narrower than what it is given."""

    modules = ("openvino", "onnx")
    one_pool = False

    def __init__(self, threads: int, options: dict):
        import openvino

        self.ov, self.core, self.version = openvino, openvino.Core(), f"openvino {openvino.__version__}"
        self.config = {
            "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False,
        }  # fmt: skip

    def ways(self, layer: Layer) -> Iterator[Way]:
        yield self.way(layer, False)
        if not {"offset", "mask"} & layer.inputs.keys():
            yield self.way(layer, True)

    def way(self, layer: Layer, channels_last: bool) -> Way:
        model, inputs = self.core.read_model(onnx_model(layer, dequantised=True), b""), layer.inputs
        if channels_last:
            from openvino.preprocess import PrePostProcessor

            inputs = {name: last(array) for name, array in inputs.items()}
            axes, steps = "DHW"[3 - layer.spec.rank :], PrePostProcessor(model)
            for end in (*(steps.input(name) for name in inputs), steps.output()):
                end.tensor().set_layout(self.ov.Layout(f"N{axes}C"))
                end.model().set_layout(self.ov.Layout(f"NC{axes}"))
            model = steps.build()
        request = self.core.compile_model(model, "CPU", self.config).create_infer_request()
        inputs = {name: np.array(array, order="C") for name, array in inputs.items()}
        touch = touching(inputs.values())
        for name, array in inputs.items():
            request.set_tensor(name, self.ov.Tensor(array, shared_memory=True))

        def call():  # shared: plain infer() copies the output for its caller
            request.infer(share_inputs=True, share_outputs=True)

        def result():
            y = request.get_output_tensor().data
            return first(y) if channels_last else y

        return Way("channels-last" if channels_last else "channels-first", call, result, (inputs,), touch)
