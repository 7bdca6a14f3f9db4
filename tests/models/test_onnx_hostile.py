"""Models that somebody damaged, or wrote to do harm: one line of ours, in bounded time and memory."""

from __future__ import annotations

import re
import resource
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import Net, check_layers, small_network
from places import REPRODUCERS

import tvmconv
from tvmconv.onnx import extract
from tvmconv.onnx.reading.constants import MOST_BYTES

FOLDER = REPRODUCERS / "onnx"

# What each file of the folder is told; each was an exception of another kind, or ran without end.
SAID = {
    "circle_of_constants": "the graph is not acyclic",
    "constant_without_attributes": "node empty: a Constant without a value",
    "data_of_4_bits_too_long": "tensor 'c0_0': 16 bytes of data, expected 2 for 1x1x2x2 of type int4",
    "element_type_99": "tensor 'c0_0': element type 99",
    "function_that_calls_itself": "function 'F' calls itself",
    "functions_that_double": "1099511627777 nodes, its functions written out; expected at most",
    "if_without_branches": "node If_0: no else_branch",
    "input_of_type_99": "input 'x': element type 99",
    "kernel_shape_of_one_number": "node Conv_0: kernel_shape is of type INT, expected INTS",
    "line_breaks_in_names": r"nothing makes its input 'nobody\nmade\x1b[31mit'",
    "loop_of_2_to_62": "node for_ever: a shape depends on this Loop, which runs 4611686018427387904 times",
    "name_that_is_not_utf8": r"b'ab\xff\xfeef': not a text in UTF-8",
    "negative_dims": "tensor 'c0_0': dims [-1, 1, 2, 2], expected none below 0",
    "node_without_inputs": "node Relu_1: 0 inputs, expected 1",
    "node_without_results": "node Conv_0: 0 results, expected 1",
    "random_numbers_of_4_TB": "4398046511104 bytes, expected at most 2147483648",
    "raw_data_longer_than_dims": "tensor 'c0_0': 20 bytes of data, expected 16",
    "raw_data_shorter_than_dims": "tensor 'c0_0': 15 bytes of data, expected 16",
    "too_few_numbers": "tensor 'c0_0': 3 numbers of data, expected 4",
    "two_nodes_make_one_value": "node twin: makes 'v0_0', which is there already",
    "weights_of_16_TB": "node Conv_1: out_channels: 1099511627776, expected at most",
}


@pytest.mark.parametrize("name", SAID)
def test_reproducer(name):
    with pytest.raises(tvmconv.Error, match=re.escape(SAID[name])) as caught:
        extract(FOLDER / f"{name}.onnx")
    assert str(caught.value).isprintable()


def test_no_reproducer_is_left_out():
    for path in FOLDER.glob("*.onnx"):
        if path.stem not in (*SAID, "concats_that_double"):  # that one has a test of its own below
            with pytest.raises(tvmconv.Error) as caught:
                extract(path)
            assert str(caught.value).isprintable() and "not understood" not in str(caught.value)


def test_weights_behind_a_long_chain():
    net = Net()
    w = net.random(6, 4, 3, 3)
    for _ in range(3000):
        w = net.op("Identity", w)
    net.op("Conv", "x", w)
    y = net.conv("x", 4, 6)
    for _ in range(3000):
        y = net.op("Identity", y)
    found = extract(net.model(net.nodes[3000].output[0], y))
    assert [layer.constant for layer in found.layers] == [True, True]
    assert len(found.layers[1].nodes) == 3001


def test_folding_has_a_budget():
    """Constants that double are folded up to a size and no further; the layers they feed stay."""
    net = Net()
    values = [net.const(np.ones(1024))]
    for _ in range(40):
        values.append(net.op("Concat", values[-1], values[-1], axis=0))
    huge = net.op("ConstantOfShape", net.const([2**40], "int64"))
    wide = net.op("Expand", net.const([[1.0]]), net.const([2**20, 2**20], "int64"))
    graph = tvmconv.onnx.load(net.model()).graph
    sizes = [0 if (array := graph.constant(name)) is None else array.nbytes for name in values]
    assert sizes[3] == 8 * 4096 and sizes[-1] == 0 and sum(sizes) <= MOST_BYTES
    assert graph.constant(huge) is None and graph.constant(wide) is None


_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
import tvmconv.onnx
try:
    tvmconv.onnx.extract(sys.argv[1])
except tvmconv.Error as error:
    print(error)
"""


def test_doubling_constants_take_bounded_memory():
    """A shape at the end of 30 doublings of 8 KiB: 8 TiB if one followed it."""
    path = FOLDER / "concats_that_double.onnx"
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, path], capture_output=True, text=True, timeout=300, check=True
    )
    assert "onnxruntime cannot run it" in done.stdout and done.stdout.count("\n") == 1
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 4 << 20  # kB


def test_a_loop_after_the_layers_is_never_run():
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Concat", ["s", "s"], ["t"], axis=0)],
        "body", [helper.make_tensor_value_info("i", TensorProto.INT64, ()),
                 helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
                 helper.make_tensor_value_info("s", TensorProto.FLOAT, None)],
        [onnx.ValueInfoProto(name="on"), onnx.ValueInfoProto(name="t")],
    )  # fmt: skip
    net = Net()
    rows = net.op("Squeeze", net.op("NonZero", net.const([1, 0, 1, 1, 1, 1, 1], "int64")),
                  net.const([0], "int64"))  # fmt: skip
    y = net.conv(net.op("Gather", "x", rows, axis=2), 4, 6)
    net.op("Loop", net.const(2**62, "int64"), net.const(True, "bool"), y, body=body)
    assert extract(net.model()).layers[0].spec.input_shape == (1, 4, 6, 8)


# ---- shapes, values, files ----


@pytest.mark.parametrize("size", [8.5, -8, "8", 2**63, None])
def test_shapes_of_no_whole_numbers(size):
    for shape in ((1, 3, size, 12), size):
        with pytest.raises(tvmconv.SpecError, match=r"'x': .*, expected whole numbers, none below 0"):
            extract(small_network(("n", 3, "h", 12)), {"x": shape})
    with pytest.raises(tvmconv.SpecError, match=r"shape of 'h': .*, expected one whole number"):
        extract(small_network(("n", 3, "h", 12)), {"n": 1, "h": size})


def external(tmp_path, **entries):
    """A model whose weights lie in a file of their own, 1 TB long, with nothing on the disk."""
    path = tmp_path / "m.onnx"
    net = Net((1, 1, 3, 3))
    net.conv("x", 1, 1, (2, 2))
    model = net.model()
    tensor = model.graph.initializer[0]
    data, places = tensor.raw_data, {"location": "w.bin", "offset": "1000", "length": "16", **entries}
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in places.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(10**12)
        file.seek(1000)
        file.write(data)
    return path


@pytest.mark.parametrize("length", ["16", None])
def test_of_a_large_file_only_the_weights_are_read(tmp_path, length):
    path = external(tmp_path, length=length)
    found = extract(path)
    check_layers(found)
    digest = found.model.digest
    with (tmp_path / "w.bin").open("r+b") as file:
        file.seek(999)
        file.write(b"\1")
        assert extract(path).model.digest == digest
        file.write(b"\1\2\3\4")
    assert extract(path).model.digest != digest


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"length": "17"}, "17 bytes, expected 16 as its dims and type have"),
        ({"length": "1000000000000"}, "1000000000000 bytes, expected 16"),
        ({"offset": "999999999990"}, "they end at byte 1000000000006 of a file of 1000000000000"),
        ({"offset": "-1"}, "offset '-1', expected a number of bytes"),
        ({"offset": "9" * 30}, "expected a number of bytes"),
        ({"length": "1e1"}, "length '1e1', expected a number of bytes"),
        ({"location": "../w.bin"}, "expected a file in the model's folder"),
        ({"location": "/etc/hostname"}, "expected a file in the model's folder"),
        ({"location": "."}, "which is missing"),
        ({"location": "w\0.bin"}, "null"),
        ({"location": None}, "which is missing"),
    ],
)
def test_external_weights_that_do_not_fit(tmp_path, entries, message):
    with pytest.raises(tvmconv.Error, match=re.escape(message)) as caught:
        extract(external(tmp_path, **entries))
    assert str(caught.value).isprintable()


def test_external_weights_beyond_this_machines_memory(tmp_path):
    path = external(tmp_path)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].dims[:] = [2**36, 1, 2, 2]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(tvmconv.Error, match="1099511627776 bytes, more than this machine's memory"):
        extract(path)


def test_what_is_no_file(tmp_path):
    with pytest.raises(tvmconv.Error, match="not a file"):
        extract("/dev/zero")
    with pytest.raises(tvmconv.Error, match="not a file"):
        extract(tmp_path)
    large = tmp_path / "large.onnx"
    with large.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(tvmconv.Error, match="1000000000000 bytes, and a model has at most"):
        extract(large)
