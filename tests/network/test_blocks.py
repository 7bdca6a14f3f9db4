"""Chains of convolutions that become blocks: which, which not, and that the results stay."""

from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto
from small_networks import assert_near, feeds_of, model, node, session_results, weights

from tvmconv.base.errors import SpecError
from tvmconv.network import choosing, compiling
from tvmconv.network.importing import import_model
from tvmconv.network.interpret import interpret
from tvmconv.network.rewrites import simplified
from tvmconv.network.rewrites.blocks import with_blocks, with_scales
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import parse_spec


def chain(*, read_twice="", outputs=("y",), stride=1, kernel=3, groups=20, bias=True):
    """x -> a (1x1, relu6) -> b (depthwise, relu6) -> c (1x1) -> y, the sum of c and x's own 1x1 where nothing
    is strided; ``read_twice``: a value that another node reads as well."""
    shapes = {"wa": (20, 8, 1, 1), "wb": (20, 20 // groups, kernel, kernel), "wc": (8, 20, 1, 1),
              "w0": (8, 3, 1, 1)}  # fmt: skip
    shapes |= {"ba": (20,), "bc": (8,)} if bias else {}
    held = weights(0, **shapes) | {"lo": np.float32(0), "hi": np.float32(6)}
    nodes = [
        node("Conv", "x w0", "x0"),
        node("Conv", "x0 wa ba" if bias else "x0 wa", "a0"), node("Clip", "a0 lo hi", "a"),
        node("Conv", "a wb", "b0", group=groups, pads=[kernel // 2] * 4, strides=[stride] * 2),
        node("Clip", "b0 lo hi", "b"),
        node("Conv", "b wc bc" if bias else "b wc", "c"),
    ]  # fmt: skip
    nodes.append(node("Add", "c x0", "y") if stride == 1 else node("Relu", "c", "y"))
    if read_twice:
        nodes.append(node("Sigmoid", read_twice, "z"))
        outputs = (*outputs, "z")
    return model(*nodes, shape=(1, 3, 9, 11), outputs=outputs, **held)


def blocks_of(graph):
    specs = (one.op.spec for one in graph.nodes if one.op.kind == "layer")
    return [spec for spec in specs if spec.family == "block"]


CHAINS = {
    "residual": (chain(), "e20", "residual"),
    "strided": (chain(stride=2), "e20", "relu"),
    "5x5, no bias": (chain(kernel=5, bias=False), "e20", "residual"),
    "the depthwise result is read twice": (chain(read_twice="b"), None, None),
    "the expanded one is": (chain(read_twice="a"), "k3x3", "residual"),
    "it is a result": (chain(outputs=("y", "a")), "k3x3", "residual"),
    "not depthwise": (chain(groups=4), None, None),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_become_blocks(name):
    proto, first, last = CHAINS[name]
    graph = simplified(import_model(proto))
    fused = with_blocks(graph, lambda spec: True)
    found = [str(spec).split(":") for spec in blocks_of(fused)]
    assert [(tokens[2], last in tokens) for tokens in found] == ([] if first is None else [(first, True)])
    feeds = feeds_of(graph)
    assert_near(interpret(fused, feeds), session_results(proto, feeds))
    assert with_blocks(graph, lambda spec: False).nodes == graph.nodes


@pytest.mark.parametrize("name", ["residual", "strided", "5x5, no bias", "the expanded one is"])
def test_networks_with_blocks_compile(name):
    proto = CHAINS[name][0]
    module = compiling.compile(proto.SerializeToString(), blocks="always").load()
    (entry,) = module.manifest["functions"]
    assert any(step.startswith("block2d:") for step in entry["steps"])
    feeds = feeds_of(import_model(proto))
    found = module["main"](*feeds.values())
    names = [value.name for value in proto.graph.output]
    results = found if isinstance(found, tuple) else (found,)
    assert_near(dict(zip(names, results, strict=True)), session_results(proto, feeds))


def quantised(steps=0.05):
    """x as integers -> a (1x1) -> b (depthwise) -> c (1x1), its sum with x -> y, as floats, every value
    between them quantised and dequantised; b's in ``steps`` which may not be those in which c reads it."""
    rng, shapes = np.random.default_rng(3), {"wa": (20, 8, 1, 1), "wb": (20, 1, 3, 3), "wc": (8, 20, 1, 1)}
    held = {name: rng.integers(-60, 61, shape).astype(np.int8) for name, shape in shapes.items()}
    held |= {"sw": np.float32(2**-6), "zw": np.int8(0), "s": np.float32(0.05), "z": np.uint8(128),
             "t": np.float32(steps)}  # fmt: skip
    nodes, given = [node("DequantizeLinear", "x s z", "xf")], "xf"
    for name, how, made in (("a", {}, "s"), ("b", {"group": 20, "pads": [1] * 4}, "t"), ("c", {}, "s")):
        nodes += [node("DequantizeLinear", f"w{name} sw zw", f"w{name}f"),
                  node("Conv", f"{given} w{name}f", f"{name}0", **how)]  # fmt: skip
        if name == "c":
            nodes += [node("Add", "c0 xf", "c1"), node("QuantizeLinear", "c1 s z", "y")]
        else:
            nodes += [node("QuantizeLinear", f"{name}0 {made} z", f"{name}q"),
                      node("DequantizeLinear", f"{name}q s z", f"{name}f")]  # fmt: skip
        given = f"{name}f"
    proto = model(*nodes, shape=(1, 8, 9, 11), **held)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.UINT8
    return proto


def test_quantised_chains_become_blocks():
    proto = quantised()
    graph = simplified(import_model(proto))
    fused = with_blocks(graph, lambda spec: True)
    assert [str(spec) for spec in blocks_of(fused)] == [
        "block2d:1x9x11x8:e20:k3x3:p1:o8:NHWC:uint8:residual"]
    feeds = {"x": np.random.default_rng(0).integers(0, 256, (1, 8, 9, 11)).astype(np.uint8)}
    (apart,), (found,) = interpret(graph, feeds).values(), interpret(fused, feeds).values()
    np.testing.assert_array_equal(found, apart)
    module = compiling.compile(proto.SerializeToString(), blocks="always").load()
    assert any(step.startswith("block2d:") for step in module.manifest["functions"][0]["steps"])
    np.testing.assert_array_equal(module["main"](*feeds.values()), apart)
    (theirs,) = session_results(proto, feeds).values()  # which adds the residual as a float
    assert np.abs(theirs.astype(int) - apart.astype(int)).max() <= 1


def test_integers_that_stand_for_other_numbers_stay_apart():
    graph = simplified(import_model(quantised(steps=0.04)))
    assert blocks_of(with_blocks(graph, lambda spec: True)) == []


def squeezed(reads_twice=False):
    """x -> a (depthwise) -> its product with what its means give -> c (1x1), their sum with x."""
    held = weights(5, wb=(8, 1, 3, 3), ws=(4, 8, 1, 1), wt=(8, 4, 1, 1), wc=(8, 8, 1, 1), bc=(8,))
    nodes = [
        node("Conv", "x wb", "b0", group=8, pads=[1] * 4), node("Relu", "b0", "b"),
        node("GlobalAveragePool", "b", "m"), node("Conv", "m ws", "s0"), node("Relu", "s0", "s"),
        node("Conv", "s wt", "t0"), node("HardSigmoid", "t0", "t", alpha=1 / 6, beta=0.5),
        node("Mul", "t b", "scaled"), node("Conv", "scaled wc bc", "c"), node("Add", "c x", "y"),
    ]  # fmt: skip
    outputs = ("y", "z") if reads_twice else ("y",)
    more = [node("Sigmoid", "scaled", "z")] if reads_twice else []
    return model(*nodes, *more, shape=(2, 8, 9, 11), outputs=outputs, **held)


def test_products_of_squeeze_and_excite_go_into_the_last_part():
    proto = squeezed()
    graph = simplified(import_model(proto))
    fused = with_scales(graph, lambda spec: True)
    assert [str(spec) for spec in blocks_of(fused)] == [
        "block2d:2x9x11x8:k1x1:o8:NHWC:float32:bias:residual:scale"]
    assert not any(one.op.kind == "map" for one in fused.nodes)
    feeds = feeds_of(graph)
    wanted = session_results(proto, feeds)
    assert_near(interpret(fused, feeds), wanted)
    assert with_scales(graph, lambda spec: False).nodes == graph.nodes
    twice = simplified(import_model(squeezed(reads_twice=True)))
    assert blocks_of(with_scales(twice, lambda spec: True)) == []
    module = compiling.compile(proto.SerializeToString(), blocks="always").load()
    assert_near({"y": module["main"](*feeds.values())}, wanted)
    with pytest.raises(SpecError, match="blocks: 'some', expected one of auto, always, never"):
        compiling.compile(proto.SerializeToString(), blocks="some")


BIG = "block2d:1x56x56x24:e144:k3x3:p1:o24:NHWC:float32:bias:residual:expand=relu6:depthwise=relu6"
SMALL = "block2d:1x7x7x160:e960:k3x3:p1:o160:NHWC:float32:bias:residual:expand=relu6:depthwise=relu6"
DENSE = "block2d:1x56x56x128:k3x3:p1:o128:NHWC:float32:bias:depthwise=relu:relu"


class Known:
    """Logs that know some specs."""

    def __init__(self, cold="", machine="x86-64-v4", **seconds):
        self.cold, self.seconds, self.machine = cold, seconds, resolve(machine)

    def known(self, spec):
        found = self.seconds.get(spec.kind)
        if found is not None:
            yield spec, "given", SimpleNamespace(seconds=found, cold=self.cold == spec.kind)


def test_the_rule_and_what_records_say_instead():
    nothing = Known()
    assert choosing.gains(parse_spec(BIG), nothing)
    assert not choosing.gains(parse_spec(SMALL), nothing)
    assert not choosing.gains(parse_spec(DENSE), nothing)
    scaled = "block2d:1x56x56x144:k1x1:o{}:NHWC:float32:bias:scale"
    assert choosing.gains(parse_spec(scaled.format(24)), nothing)
    assert not choosing.gains(parse_spec(scaled.format(40)), nothing)
    assert choosing.gains(parse_spec(SMALL), Known(block=2.9, pointwise=1.0, depthwise=1.0))
    assert not choosing.gains(parse_spec(BIG), Known(block=3.1, pointwise=1.0, depthwise=1.0))
    assert choosing.gains(parse_spec(BIG), Known(block=3.1, pointwise=1.0))  # not all are known
    padded = parse_spec("block2d:1x56x56x24:e72:k3x3:p1:o24:NHWC:float32")
    assert choosing.gains(padded, Known(machine="x86-64-v3")) and not choosing.gains(padded, nothing)
    assert not choosing.gains(parse_spec("block2d:1x56x56x24:e96:k5x5:p2:o24:NHWC:float32"), nothing)
    apart = Known(cold="block", block=3.1, pointwise=1.0, depthwise=1.0)  # not measured alike
    assert choosing.gains(parse_spec(BIG), apart)


def test_the_rule_of_integers():
    """They gain where few pixels are, if a block's dot products are as good as those apart."""
    fours, pairs = Known(machine="znver4"), Known(machine="x86-64-v3")
    for text, wanted in {
        "1x112x112x32:k3x3:p1:o16": (True, True), "1x56x56x24:e144:k3x3:p1:o24": (True, False),
        "1x14x14x96:e576:k3x3:s2:p1:o160": (True, False), "1x7x7x160:e960:k3x3:p1:o160": (False, False),
        "1x56x56x128:k3x3:p1:o128": (True, False), "1x112x112x64:k3x3:s2:p1:o128": (False, False),
    }.items():  # fmt: skip
        spec = parse_spec(f"block2d:{text}:NHWC:uint8:bias")
        assert (choosing.gains(spec, fours), choosing.gains(spec, pairs)) == wanted, text
