"""The operators of networks: texts that read back, results, and refusals of what they cannot be."""

import numpy as np
import pytest

from tvmconv import SpecError
from tvmconv.specs.operators import Copy, Map, Piece, Type, parse_operator
from tvmconv.specs.operators.copy import expanded, indexed, joined, permuted, reshaped

TEXTS = [
    "map:1x5x6x4,1x1x1x4:float32:mul(a,sigmoid(b))",
    "map:2x3,scalar:int64,bool:where(b,a,-7)",
    "copy:1x3x16:float32:1x16x3:a[0;1,16][0;3,1][16x3]",
    "copy:2x3:float32:4x3:f1.5:a[0;1][3;1][6]",
    "reduce:1x7x7x64:float32:mean:1,2:keep",
    "reduce:3x4:int32:argmax:0:last",
    "normalise:1x8x64,64,64:float32:standard:2:e1e-05",
    "normalise:1x8x6x6:float32:lrn:1:5:0.0001:0.75:1",
    "resize:1x8x8x3:float32:1x16x16x3:nearest:asymmetric:s1,2,2,1:floor",
    "resize:1x8x8x3:float32:1x4x4x3:cubic:half_pixel:s1,0.5,0.5,1:a-0.5:exclude:antialias",
    "resize:4x4:float32:2x2:linear:tf_crop_and_resize:s0.5,0.5:r0.1,0.2,0.9,1.5:x7",
    "matmul:8x16x32,8x64x32,64:float32:tb",
    "recurrent:5x2x3,2x16x3,2x16x4,2x32,2x2x4,2x2x4:float32:lstm:bidirectional:"
    "sigmoid,tanh,tanh,sigmoid,tanh,relu:initial",
    "layer:1x8x8x3,3x3x3x4,4:float32:x,w,bias:conv2d:1x8x8x3:o4:k3x3:p1:NHWC:float32:bias:clip=0,6",
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text.partition(":")[0])
def test_texts_read_back(text):
    op = parse_operator(text)
    assert str(op) == text and parse_operator(str(op)) == op and hash(op) == hash(parse_operator(text))
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal(shape) if dtype.startswith("float") else np.ones(shape, dtype)
        for shape, dtype in op.inputs
    ]
    for result, wanted in zip(op.reference(arrays), op.infer(), strict=True):
        assert result.shape == wanted.shape


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mop:1:float32", "expected one of map, copy"),
        ("map:1x2,3:float32:add(a,b)", "broadcast"),
        ("map:1x2:float32:add(a,b)", "just those that it reads"),
        ("map:1x2:float32:plus(a)", "plus"),
        ("map:1x2:float32:add(a)", "add with 1 arguments, expected 2"),
        ("map:1x2,1x2:float32,int32:add(a,b)", "expected one type"),
        ("map:1x2:bool:sqrt(a)", "bool"),
        ("map:1x2:text:sqrt(a)", "'text'"),
        ("map:1x2:float32:" + "neg(" * 200 + "a" + ")" * 200, "deep"),
        ("copy:4:float32:4:a[1;1][0;1][4]", "reaches elements 1 to 4"),
        ("copy:4:float32:4:a[0;-1][0;1][4]", "reaches elements -3 to 0"),
        ("copy:4:float32:4:b[0;1][0;1][4]", "input"),
        ("copy:4:float32:4:a[0;1][0;0][4]", "writes an element twice"),
        ("copy:4:float32:4:a0+1", "expected a piece such as"),
        ("reduce:3x4:float32:median:0", "'median'"),
        ("reduce:3x4:float32:sum:2", "axes"),
        ("reduce:0x4:float32:argmax:0", "no elements"),
        ("normalise:3x4,5:float32:standard:1:e0", "scale"),
        ("resize:4:float32:8:linear:half_pixel", "scales"),
        ("resize:4:float32:8:linear:half_pixel:s0", "above 0"),
        ("resize:4:int32:8:linear:half_pixel:s2", "int32"),
        ("matmul:3x4,5x6:float32", "4 columns of a and 5 rows of b"),
        ("matmul:2x3x4,3x4x5:float32", "broadcast"),
        ("recurrent:5x2x3,1x16x3,1x16x4,1x31:float32:lstm:forward:sigmoid,tanh,tanh", "input 3"),
        ("layer:1x8x8x3,3x3x3x5:float32:x,w:conv2d:1x8x8x3:o4:k3x3:NHWC:float32", "w: 3x3x3x5 float32"),
        ("layer:1x8x8x3:float32:x:conv2d:1x8x8x3:o4:k3x3:NHWC:float32", "w: missing"),
        ("map:4", "operator"),
        ("map:4x-1:float32:neg(a)", "expected a shape"),
        ("map:99999x99999:float32:neg(a)", "elements"),
    ],
)
def test_refusals_are_one_line(text, words):
    with pytest.raises(SpecError) as caught:
        parse_operator(text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_copies_do_what_numpy_does():
    array = np.arange(24.0).reshape(2, 3, 4)
    x = Type((2, 3, 4), "float32")
    for op, wanted in (
        (permuted(x, (2, 0, 1)), array.transpose(2, 0, 1)),
        (reshaped(x, (4, 6)), array.reshape(4, 6)),
        (expanded(x, (5, 2, 3, 4)), np.broadcast_to(array, (5, 2, 3, 4))),
        (joined([x, Type((2, 1, 4), "float32")], 1), None),
        (indexed(x, [None, [2, 0, 1, 1], [3, 2, 1, 0]]), array[:, [2, 0, 1, 1]][..., ::-1]),
    ):
        arrays = [array, array[:, :1]][: len(op.inputs)]
        wanted = np.concatenate(arrays, 1) if wanted is None else wanted
        assert np.array_equal(op.reference(arrays)[0], wanted) and op.is_full and not op.overlaps()
    (padded,) = indexed(x, [None, [-1, 0, 1, 2, -1], None], 7.0).reference([array])
    assert np.array_equal(padded, np.pad(array, ((0, 0), (1, 1), (0, 0)), constant_values=7))
    assert reshaped(x, (24,)).is_reshape and not permuted(x, (1, 0, 2)).is_reshape
    pieces = (Piece.of(0, 0, (1,), 0, (1,), (3,)), Piece.of(0, 0, (1,), 2, (1,), (2,)))
    assert Copy((Type((4,), "float32"),), (5,), pieces).overlaps()


def test_copies_of_patterns_have_few_pieces():
    x = Type((1, 64, 8, 8), "float32")
    shuffled = [at // 2 + 32 * (at % 2) for at in range(64)]
    assert len(indexed(x, [None, shuffled, None, None]).pieces) == 1
    assert len(indexed(x, [None, [at // 2 for at in range(128)], None, None]).pieces) == 1


def test_arrays_that_do_not_fit():
    op = Map((Type((2, 3), "float32"),), "neg(a)")
    with pytest.raises(SpecError, match="array 0: 3x2 float64, expected 2x3 float32"):
        op.reference([np.ones((3, 2))])
    with pytest.raises(SpecError, match="2 arrays, expected 1"):
        op.reference([np.ones((2, 3))] * 2)
    with pytest.raises(SpecError, match="int64, expected 2x3 float32"):
        op.reference([np.ones((2, 3), np.int64)])


def test_integers_stay_what_they_are():
    """They wrap, and quotients are cut towards zero, as in C."""
    sums = Map((Type((2,), "uint8"), Type((2,), "uint8")), "add(a,b)")
    (y,) = sums.reference([np.array([250, 1], np.uint8)] * 2)
    assert y.dtype == np.uint8 and y.tolist() == [244, 2]
    quotients = Map((Type((3,), "int32"), Type((3,), "int32")), "div(a,b)")
    (y,) = quotients.reference([np.array([-7, 7, 6], np.int32), np.array([2, -2, 3], np.int32)])
    assert y.tolist() == [-3, -3, 2]
