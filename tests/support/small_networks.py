"""Small ONNX models for tests of networks, and what both onnxruntime and the referee say of them."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tvmconv.network.importing import import_model
from tvmconv.network.interpret import interpret


def model(*nodes, shape=(1, 3, 8, 8), outputs=("y",), opset=17, **weights):
    """A model of an input x and these weights."""
    graph = helper.make_graph(
        list(nodes), "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def node(op, inputs, output, **attributes):
    """A node of one result; inputs separated by spaces."""
    return helper.make_node(op, inputs.split(" "), [output], f"{op}_{output}", **attributes)


def weights(seed=0, **shapes):
    """Random arrays of these shapes."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def feeds_of(graph, seed=1):
    """Random inputs of a network."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal(graph.values[name].shape).astype(graph.values[name].dtype)
        for name in graph.inputs
    }


def session_results(proto, feeds):
    """What onnxruntime makes of them."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def assert_near(found, wanted, tolerance=1e-5):
    """Equal within this part of each result's range."""
    assert list(found) == list(wanted)
    for name, want in wanted.items():
        got = found[name]
        assert got.shape == want.shape and got.dtype == want.dtype, name
        if want.size:
            room = tolerance * max(float(np.ptp(want)), float(np.abs(want).max()), 1e-30)
            np.testing.assert_allclose(got, want, rtol=0, atol=room, err_msg=name)


def checked(proto, *rewrites):
    """The network of a model after these rewrites: what it gives is what it gave before, and onnxruntime."""
    before = import_model(proto)
    after = before
    for rewrite in rewrites:
        after = rewrite(after)
    feeds = feeds_of(before)
    found = interpret(after, feeds)
    assert_near(found, interpret(before, feeds), 1e-6)
    assert_near(found, session_results(proto, feeds))
    return after
