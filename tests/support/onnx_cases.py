"""ONNX's own backend cases of single nodes, in memory and on disk."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import tvmconv

DATA = Path(onnx.__file__).parent / "backend/test/data"


@lru_cache(maxsize=1)
def every_case():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the cases of other operators divides by zero, and more
        return collect_testcases(None)


def in_memory(*operators):
    """Cases in memory that consist of one node of these operators, by name."""
    found = {}
    for case in every_case():
        nodes = [node for node in case.model.graph.node if node.op_type != "Constant"]
        if len(nodes) == 1 and nodes[0].op_type in operators:
            found[case.name] = case
    return found


def on_disk(*operators):
    """(folder, whether it is that node alone) of cases on disk with a node of these operators."""
    found = []
    for model in sorted(DATA.glob("*/*/model.onnx")):
        kinds = [n.op_type for n in onnx.load(model, load_external_data=False).graph.node]
        if set(kinds) & set(operators) and len(kinds) < 5:  # no whole networks
            found.append((model.parent, len([kind for kind in kinds if kind != "Constant"]) == 1))
    return found


def run_in_memory(case):
    (node,) = [node for node in case.model.graph.node if node.op_type != "Constant"]
    for inputs, outputs in case.data_sets:
        check(tvmconv.onnx.run_node(node, inputs), outputs, case.rtol, case.atol)


def expanded(*operators):
    """Cases in memory of other operators, written out as graphs with a node of these, by name."""
    found = {}
    for case in every_case():
        kinds = [node.op_type for node in case.model.graph.node if node.op_type != "Constant"]
        if len(kinds) > 1 and set(kinds) & set(operators):
            found[case.name] = case
    return found


def run_expanded(case, operators):
    """Run the nodes among ``operators`` of a case in memory; others by onnx's reference."""
    names = [value.name for value in case.model.graph.input]
    for inputs, outputs in case.data_sets:
        feeds = dict(zip(names, inputs, strict=False))
        check(evaluator_of(case.model, operators).run(None, feeds), outputs, case.rtol, case.atol)


def evaluator_of(model, operators):
    """onnx's reference of a model, but for the nodes among ``operators``, which tvmconv runs."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class Ours(OpRun):
        """The node under test, run by tvmconv."""

        op_domain = ""

        def _run(self, *arrays, **_):
            return tuple(tvmconv.onnx.run_node(self.onnx_node, list(arrays)))

    return ReferenceEvaluator(model, new_ops=[type(name, (Ours,), {}) for name in operators])


def run_on_disk(folder, operators):
    """Run the node among ``operators``; others around it, which only reshape, by onnx's reference."""
    model = onnx.load(folder / "model.onnx")
    evaluator = evaluator_of(model, operators)
    weights = {tensor.name for tensor in model.graph.initializer}
    free = [value.name for value in model.graph.input if value.name not in weights]
    sets = sorted(folder.glob("test_data_set_*"))
    assert sets
    for data in sets:
        feeds = {name: _tensor(data / f"input_{i}.pb") for i, name in enumerate(free)}
        outputs = [_tensor(data / f"output_{i}.pb") for i in range(len(model.graph.output))]
        check(evaluator.run(None, feeds), outputs, 1e-3, 1e-7)


def _tensor(path):
    return numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def check(actual, expected, rtol, atol):
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected, strict=True):
        assert got.dtype == want.dtype and got.shape == want.shape
        size = np.abs(want).max(initial=0) if want.dtype.kind == "f" else 0  # the sums may cancel
        np.testing.assert_allclose(got, want, rtol=rtol, atol=max(atol, 1e-6 * size))
