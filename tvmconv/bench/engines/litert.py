"""LiteRT (TensorFlow Lite) with XNNPACK as an engine of the benchmark."""

from __future__ import annotations

from collections.abc import Iterator

from tvmconv.bench.engines.layer_data import Layer, Unsupported, first, last
from tvmconv.bench.engines.tflite_model import tflite_model
from tvmconv.bench.engines.ways import Way


class LiteRt:
    """LiteRT (TensorFlow Lite) with its XNNPACK delegate, on a .tflite model of the layer built here."""

    modules = ("ai_edge_litert", "flatbuffers")
    one_pool = False

    def __init__(self, threads: int, options: dict):
        from importlib.metadata import version

        from ai_edge_litert.interpreter import Interpreter

        self.interpreter, self.threads = Interpreter, threads
        self.version = f"ai-edge-litert {version('ai-edge-litert')}"

    def ways(self, layer: Layer) -> Iterator[Way]:
        model, x = tflite_model(layer)
        run = self.interpreter(model_content=model, num_threads=self.threads)
        run.allocate_tensors()
        # A delegate stands in for the operators that it takes; one refused would run on slow built-in code.
        operators = [op["op_name"] for op in run._get_ops_details()]
        taken = model_operators(model)
        if operators[taken:] != ["DELEGATE"]:
            raise Unsupported("XNNPACK did not take the operator")
        inputs = [x, *(last(layer.arrays[name]) for name in layer.inputs if name != "x")]
        places = [detail["index"] for detail in run.get_input_details()]

        def give() -> None:
            for place, array in zip(places, inputs, strict=True):
                run.set_tensor(place, array)

        give()
        y = run.get_output_details()[0]["index"]
        yield Way("XNNPACK", run.invoke, lambda: first(run.get_tensor(y)), (model,), give)


def model_operators(model: bytes) -> int:
    """How many operators a .tflite model has."""
    from ai_edge_litert import schema_py_generated as tf

    return tf.Model.GetRootAs(model, 0).Subgraphs(0).OperatorsLength()
