"""Each rewrite on a network made for it: what it was, what it becomes, and that it computes the same."""

import numpy as np
import pytest
from onnx import TensorProto
from random_checks import check_in_numpy
from small_networks import checked, model, node, weights

from tvmconv.network.importing import import_model
from tvmconv.network.layout import channels_last
from tvmconv.network.rewrites import (
    convolutions_before_resizes,
    folded_after,
    folded_before,
    folded_constants,
    fused_maps,
    maps_before_reshapes,
    means_before_convolutions,
    merged_copies,
    norms_read,
    norms_scaled,
    products_as_layers,
    simpler_maps,
    simplified,
    taps_inside,
    transposes_into_products,
    until_stable,
    without_repetition,
)  # fmt: skip
from tvmconv.network.rewrites.algebra import activation_of
from tvmconv.specs.operators import Layer, Map, expression, parse_operator


def ops(graph, kind):
    return [str(node.op) for node in graph.nodes if node.op.kind == kind]


def spec_of(graph, number=0):
    return [node.op.spec for node in graph.nodes if isinstance(node.op, Layer)][number]


def test_equal_nodes_are_one():
    proto = model(node("Relu", "x", "a"), node("Relu", "x", "b"), node("Add", "a b", "y"))
    assert checked(proto).counts() == {"map": 3}
    assert checked(proto, without_repetition).counts() == {"map": 2}


def test_what_is_constant_is_computed():
    proto = model(node("Add", "x b", "y"), b=np.ones((3, 1, 1), np.float32))
    graph = import_model(proto)
    assert folded_constants(graph).counts() == {"map": 1}
    shaped = model(
        node("Shape", "x", "s"), node("Gather", "s i", "n"), node("Cast", "n", "f", to=TensorProto.FLOAT),
        node("Div", "x f", "y"), i=np.array(1),
    )  # fmt: skip
    assert ops(checked(shaped), "map") == ["map:1x3x8x8:float32:div(a,3)"]


def test_copies_of_copies_are_one():
    """A shuffle of channels in three steps, and a slice of it."""
    steps = [
        node("Reshape", "x s", "a"), node("Transpose", "a", "b", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "b t", "c"), node("Slice", "c lo hi ax", "y"),
    ]  # fmt: skip
    proto = model(
        *steps, shape=(1, 6, 4, 4), s=np.array([1, 2, 3, 4, 4]), t=np.array([1, 6, 4, 4]), lo=np.array([2]),
        hi=np.array([6]), ax=np.array([1]),
    )  # fmt: skip
    after = checked(proto, merged_copies)
    assert len(after.nodes) == 1 and after.nodes[0].source[-1] == "Slice_y"


def test_transposes_cancel():
    proto = model(
        node("Transpose", "x", "a", perm=[0, 2, 3, 1]), node("Transpose", "a", "b", perm=[0, 3, 1, 2]),
        node("Relu", "b", "y"),
    )  # fmt: skip
    assert checked(proto, merged_copies).counts() == {"map": 1}


def test_chains_of_maps_are_one():
    proto = model(
        node("Mul", "x s", "a"), node("Sigmoid", "a", "b"), node("Mul", "a b", "c"), node("Add", "c x", "y"),
        **weights(s=(1, 3, 1, 1)),
    )
    after = checked(proto, fused_maps, fused_maps)
    assert ops(after, "map") == ["map:1x3x8x8,1x3x1x1:float32:add(mul(mul(a,b),sigmoid(mul(a,b))),a)"]
    assert set(after.nodes[-1].source) == {"Mul_a", "Sigmoid_b", "Mul_c", "Add_y"}
    one = checked(model(node("Neg", "x", "a"), node("Exp", "a", "b"), node("Abs", "b", "y")), fused_maps)
    assert ops(one, "map") == ["map:1x3x8x8:float32:abs(exp(neg(a)))"]


def test_a_value_that_is_read_under_two_names():
    """Reshaped to its own shape it is the same value, once copies are gone."""
    proto = model(
        node("Neg", "x", "a"), node("Reshape", "a s", "b"), node("Max", "a b", "y"), s=np.array([1, 3, 8, 8]),
    )  # fmt: skip
    after = checked(proto, merged_copies, fused_maps)
    assert after.counts() == {"map": 1}
    assert len(after.nodes[0].inputs) == 1
    conv = model(CONV, node("Reshape", "c s", "b"), node("Add", "c b", "y"), s=np.array([1, 3, 8, 8]),
                 **weights(w=(3, 3, 3, 3)))  # fmt: skip
    assert not spec_of(checked(conv, merged_copies, folded_after)).residual


def test_a_small_map_is_not_put_into_a_large_one():
    proto = model(
        node("GlobalAveragePool", "x", "p"), node("Exp", "p", "e"), node("Mul", "x e", "y"),
    )  # fmt: skip
    assert checked(proto, fused_maps).counts() == {"layer": 1, "map": 2}


@pytest.mark.parametrize(
    ("expression", "simple"),
    [
        ("mul(a,sigmoid(a))", "silu(a)"),
        ("mul(hard_sigmoid(a,0.16666667,0.5),a)", "hard_swish(a)"),
        ("div(mul(a,clip(add(a,3),0,6)),6)", "hard_swish(a)"),
        ("mul(a,div(clip(add(a,3),0,6),6))", "hard_swish(a)"),
        ("mul(mul(a,0.5),add(erf(div(a,1.4142135)),1))", "gelu(a)"),
        ("mul(mul(a,add(erf(mul(a,0.70710677)),1)),0.5)", "gelu(a)"),
        ("min(max(a,0),6)", "clip(a,0,6)"),
        ("max(a,0)", "relu(a)"),
        ("add(add(a,1),2)", "add(a,3)"),
        ("mul(div(a,1),1)", "a"),
        ("pow(a,2)", "mul(a,a)"),
        ("pow(a,0.5)", "sqrt(a)"),
        ("mul(a,sigmoid(neg(a)))", "mul(a,sigmoid(neg(a)))"),
        ("mul(mul(a,0.4),add(erf(div(a,1.4142135)),1))", "mul(mul(a,0.4),add(erf(div(a,1.4142135)),1))"),
    ],
)
def test_expressions_that_have_a_name(expression, simple):
    from tvmconv.network.rewrites.algebra import simplified as shorter
    from tvmconv.specs.operators import expression as ex

    found = shorter(ex.parse(expression))
    assert ex.text_of(found) == simple
    x = np.linspace(-8, 8, 1001)
    x = np.abs(x) if "pow(a,0" in expression else x
    wanted = ex.evaluate(ex.parse(expression), [x], ["float32"])
    np.testing.assert_allclose(ex.evaluate(found, [x], ["float32"]), wanted, atol=2e-6, equal_nan=True)


def test_a_map_that_does_nothing_goes():
    assert not checked(model(node("Mul", "x one", "y"), one=np.ones((), np.float32)), simpler_maps).nodes


LAYER_NORM = (
    node("ReduceMean", "x", "m", axes=[-1]), node("Sub", "x m", "d"), node("Pow", "d two", "q"),
    node("ReduceMean", "q", "v", axes=[-1]), node("Add", "v e", "w"), node("Sqrt", "w", "r"),
    node("Div", "d r", "n"), node("Mul", "n g", "s"), node("Add", "s b", "y"),
)  # fmt: skip


def test_a_layer_norm_that_is_written_out():
    proto = model(
        *LAYER_NORM, shape=(2, 5, 16), two=np.array(2, np.float32), e=np.array(1e-5, np.float32),
        **weights(g=(16,), b=(16,)),
    )  # fmt: skip
    after = checked(proto, simpler_maps, fused_maps, norms_read, fused_maps, norms_scaled)
    assert ops(after, "normalise") and "standard:2:e" in ops(after, "normalise")[0]
    assert after.counts() == {"normalise": 1}


CONV = node("Conv", "x w", "c", pads=[1, 1, 1, 1])


def test_what_follows_a_convolution_goes_into_it():
    """Beyond what the reader of layers does: a residual after a scale, then an activation."""
    proto = model(
        CONV, node("Sigmoid", "x", "z"), node("Mul", "c s", "a"), node("Add", "a z", "b"),
        node("LeakyRelu", "b", "y", alpha=0.2), **weights(w=(3, 3, 3, 3), s=(1, 3, 1, 1)),
    )  # fmt: skip
    after = checked(proto, fused_maps, folded_after)
    assert after.counts() == {"layer": 1, "map": 1}
    assert spec_of(after).residual and spec_of(after).activation == "leaky_relu=0.2"


def test_a_value_that_others_read_stays():
    proto = model(CONV, node("Exp", "c", "a"), node("Relu", "c", "b"), node("Add", "a b", "y"),
                  **weights(w=(3, 3, 3, 3)))  # fmt: skip
    assert spec_of(checked(proto, folded_after)).activation is None


@pytest.mark.parametrize("pads", [0, 1])
@pytest.mark.parametrize("group", [1, 2])
def test_scales_and_shifts_before_convolutions(pads, group):
    """They go into the weights; a shift does not where zeros are around the image."""
    nodes = [node("Relu", "x", "r"), node("Mul", "r s", "a"), node("Add", "a t", "b")]
    proto = model(
        *nodes, node("Conv", "b w", "c", pads=[pads] * 4, group=group), node("Conv", "b v", "d", group=1),
        outputs=("c", "d"), shape=(1, 4, 8, 8),
        **weights(s=(1, 4, 1, 1), t=(4, 1, 1), w=(6, 4 // group, 3, 3), v=(3, 4, 1, 1)),
    )  # fmt: skip
    after = checked(proto, fused_maps, folded_before)
    expression = "add(mul(relu(a),b),c)" if pads else "relu(a)"
    assert [node.op.expression for node in after.nodes if isinstance(node.op, Map)] == [expression]


def test_scales_alone_before_a_convolution():
    proto = model(node("Mul", "x s", "a"), node("Conv", "a w", "y", pads=[1] * 4),
                  **weights(s=(3, 1, 1), w=(4, 3, 3, 3)))  # fmt: skip
    assert checked(proto, folded_before).counts() == {"layer": 1}
    proto = model(node("Add", "x s", "a"), node("Conv", "a w", "y"), **weights(s=(3, 1, 1), w=(4, 3, 3, 3)))
    after = checked(proto, folded_before)
    assert after.counts() == {"layer": 1} and spec_of(after).bias
    proto = model(node("Add", "x s", "a"), node("Conv", "a w", "y", pads=[1] * 4),
                  **weights(s=(3, 1, 1), w=(4, 3, 3, 3)))  # fmt: skip
    assert checked(proto, folded_before).counts() == {"layer": 1, "map": 1}


@pytest.mark.parametrize(("conv", "pool", "moved"), [
    ({}, {}, True),
    ({"group": 2}, {"count_include_pad": 1}, True),
    ({"bias": False}, {"pads": [1, 0, 0, 1], "count_include_pad": 1}, True),
    ({}, {"pads": [1, 0, 0, 1], "count_include_pad": 1}, False),  # no bias is in the zeros
    ({}, {"strides": [1, 1]}, False),  # as many pixels, and more channels
    ({"relu": True}, {}, False),
    ({"shared": True}, {}, False),
])  # fmt: skip
def test_means_of_windows_go_before_pointwise_convolutions(conv, pool, moved):
    """As after each block of a DenseNet: a quarter of the pixels are left to convolve."""
    group, relu = conv.get("group", 1), conv.get("relu", False)
    given = weights(w=(32, 48 // group, 1, 1), **({"b": (32,)} if conv.get("bias", True) else {}))
    means = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1, **pool}
    proto = model(
        node("Conv", "x w b" if "b" in given else "x w", "c", group=group),
        *([node("Relu", "c", "r")] if relu else []), node("AveragePool", "r" if relu else "c", "y", **means),
        *([node("Exp", "c", "z")] if conv.get("shared") else []), shape=(2, 48, 9, 7),
        outputs=("y", "z") if conv.get("shared") else ("y",), **given,
    )  # fmt: skip
    for rewrites in ((means_before_convolutions,), (channels_last, means_before_convolutions)):
        after = checked(proto, *rewrites)
        order = [node.op.spec.family for node in after.nodes if isinstance(node.op, Layer)]
        assert order == (["pool", "conv"] if moved else ["conv", "pool"])


@pytest.mark.parametrize(("case", "moved"), [
    ({}, True), ({"mode": "linear"}, True), ({"others": 2, "at": 1}, True), ({"relu": False}, True),
    ({"shared": True}, False), ({"scales": (1, 1, 0.5, 0.5)}, False), ({"kernel": 3}, False),
])  # fmt: skip
def test_pointwise_convolutions_go_before_images_grow(case, moved):
    """As in the neck of a detector: what is made larger and joined with others is convolved while small."""
    others, kernel, at = case.get("others", 1), case.get("kernel", 1), case.get("at", 0)
    scales = np.array(case.get("scales", (1, 1, 2, 2)), np.float32)
    rows, columns = (int(4 * scale) for scale in scales[2:])
    beside = [f"o{number}" for number in range(others)]
    names = [*beside[:at], "u", *beside[at:]]
    proto = model(
        node("Resize", "x  f", "u", mode=case.get("mode", "nearest")),
        *(node("Expand", f"v{number} to", f"e{number}") for number in range(others)),
        *(node("Exp", f"e{number}", f"o{number}") for number in range(others)),
        node("Concat", " ".join(names), "k", axis=1), node("Conv", "k w b", "c", pads=[kernel // 2] * 4),
        node("Relu" if case.get("relu", True) else "Neg", "c", "y"),
        *([node("Exp", "u", "z")] if case.get("shared") else []), shape=(2, 64, 4, 4),
        outputs=("y", "z") if case.get("shared") else ("y",), f=scales,
        to=np.array([2, 3, rows, columns]), b=np.arange(8, dtype=np.float32),
        **weights(w=(8, 64 + 3 * others, kernel, kernel), **{f"v{n}": (2, 3, 1, 1) for n in range(others)}),
    )  # fmt: skip
    for rewrites in ((folded_after,), (channels_last, folded_after)):
        after = checked(proto, *rewrites, convolutions_before_resizes)
        layers = [node.op.spec for node in after.nodes if isinstance(node.op, Layer)]
        assert [spec.in_channels for spec in layers] == ([64, 3 * others] if moved else [64 + 3 * others])
        assert layers[-1].residual is moved and layers[-1].bias


def test_concatenations_that_transpose_some_are_no_plain_ones():
    """An input of the network, whose channels are first at its door, beside what was computed of it."""
    proto = model(
        node("Relu", "x", "r"), node("Concat", "r x", "k", axis=1), node("Conv", "k w", "y"),
        shape=(2, 6, 7, 5), **weights(w=(4, 12, 1, 1)),
    )  # fmt: skip
    for door in ("NCHW", "NHWC"):
        check_in_numpy(proto, door)


@pytest.mark.parametrize(("shape", "options", "kernel"), [
    ((1, 4, 7, 9), {"dilations": [9, 9], "pads": [9] * 4}, (1, 1)),
    ((1, 4, 7, 9), {"dilations": [7, 8], "pads": [7, 8, 7, 8]}, (1, 3)),
    ((1, 4, 4, 4), {"dilations": [2, 2], "pads": [6, 0, 0, 4], "group": 2}, (2, 2)),
    ((1, 4, 2, 9), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, (2, 3)),
    ((1, 4, 3, 3), {"dilations": [5, 1], "pads": [4, 1, 6, 1]}, (3, 3)),  # would have to be cut
])  # fmt: skip
def test_taps_that_see_nothing_but_padding_go(shape, options, kernel):
    """Of a DeepLab's convolutions dilated by 24 and 36, of 14x14 pixels, one is left."""
    proto = model(node("Conv", "x w b", "y", **options), shape=shape,
                  **weights(w=(6, 4 // options.get("group", 1), 3, 3), b=(6,)))  # fmt: skip
    for rewrites in ((), (channels_last,)):
        assert spec_of(checked(proto, *rewrites, taps_inside)).kernel == kernel


@pytest.mark.parametrize("transposed", [False, True])
def test_products_with_constants_are_layers(transposed):
    gemm = model(
        node("Flatten", "x", "f"), node("Gemm", "f w b", "y", transB=int(transposed)), shape=(2, 4, 2, 1),
        **weights(w=(5, 8) if transposed else (8, 5), b=(5,)),
    )  # fmt: skip
    after = checked(gemm, products_as_layers)
    assert str(spec_of(after)) == "conv1d:1x2x8:o5:k1:NHWC:float32:bias"
    batched = model(node("MatMul", "x w", "a"), node("Add", "a b", "y"), **weights(w=(8, 5), b=(5,)))
    moved = (products_as_layers, merged_copies, maps_before_reshapes, merged_copies)
    after = checked(batched, *moved, folded_after)
    assert after.counts() == {"copy": 2, "layer": 1} and spec_of(after).bias


def test_transposes_go_into_products():
    proto = model(node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("MatMul", "x t", "y"))
    after = checked(proto, transposes_into_products)
    assert ops(after, "matmul") == ["matmul:1x3x8x8,1x3x8x8:float32:tb"] and after.counts() == {"matmul": 1}


IMAGE = (
    node("Conv", "x w", "c", pads=[1] * 4), node("BatchNormalization", "c g b m v", "n"),
    node("Relu", "n", "r"), node("GlobalAveragePool", "r", "p"), node("Conv", "p u", "q"),
    node("Sigmoid", "q", "z"), node("Mul", "r z", "e"), node("Concat", "e r", "k", axis=1),
    node("MaxPool", "k", "l", kernel_shape=[2, 2]), node("Resize", "l  f", "y", mode="linear"),
)  # fmt: skip
IMAGE_WEIGHTS = {
    **weights(w=(6, 3, 3, 3), g=(6,), b=(6,), m=(6,), u=(6, 6, 1, 1)), "v": np.full(6, 0.7, np.float32),
    "f": np.array([1, 1, 2, 2], np.float32),
}  # fmt: skip


@pytest.mark.parametrize("door", ["NCHW", "NHWC"])
def test_layout(door):
    """Inside channels-last; at the door what was asked for."""
    from small_networks import assert_near, feeds_of, session_results

    from tvmconv.network.interpret import interpret

    proto = model(*IMAGE, **IMAGE_WEIGHTS)
    after = simplified(import_model(proto), door)
    assert {spec.layout for node in after.nodes if (spec := getattr(node.op, "spec", None))} == {"NHWC"}
    feeds = feeds_of(import_model(proto))
    wanted = session_results(proto, feeds)
    if door == "NHWC":
        feeds = {name: np.moveaxis(array, 1, -1) for name, array in feeds.items()}
        wanted = {name: np.moveaxis(array, 1, -1) for name, array in wanted.items()}
    assert after.counts().get("copy", 0) == (3 if door == "NCHW" else 1)  # the doors', and the concatenation
    assert_near(interpret(after, feeds), wanted)


def test_layout_that_does_not_exist():
    import tvmconv

    with pytest.raises(tvmconv.SpecError, match="expected one of NCHW, NHWC"):
        channels_last(import_model(model(*IMAGE, **IMAGE_WEIGHTS)), "HWCN")


def test_every_operator_of_a_simplified_network_reads_back():
    graph = simplified(import_model(model(*IMAGE, **IMAGE_WEIGHTS)))
    assert all(parse_operator(str(node.op)) == node.op for node in graph.nodes)


def test_rewrites_end():
    """A network that nothing changes any more is the same network."""
    graph = simplified(import_model(model(*IMAGE, **IMAGE_WEIGHTS)))
    assert until_stable(graph, [merged_copies, fused_maps, folded_after]).nodes == graph.nodes


@pytest.mark.parametrize(("text", "activation"), [
    ("relu(a)", "relu"), ("clip(a,0,6)", "relu6"), ("clip(a,-1,2.5)", "clip=-1,2.5"), ("clip(a,3,1)", None),
    ("leaky_relu(a,0.2)", "leaky_relu=0.2"), ("hard_sigmoid(a,0.2,0.5)", "hard_sigmoid=0.2,0.5"),
    ("gelu_tanh(a)", "gelu_tanh"), ("mul(a,tanh(softplus(a)))", "mish"), ("mul(tanh(softplus(a)),a)", "mish"),
    ("mul(b,tanh(softplus(a)))", None), ("exp(a)", None), ("relu(b)", None),
])  # fmt: skip
def test_activations_of_the_table(text, activation):
    assert activation_of(expression.parse(text)) == activation
