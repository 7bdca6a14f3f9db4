"""Operators compiled and called with every array next to a guard page, and drawn at random. For a child
process: what reads or writes outside ends it."""


import numpy as np
import tvm_ffi
from guard import guarded, guarded_copy, outside_untouched
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tvmconv.base.dtypes import FLOATS, numpy_dtype, rounded, widened
from tvmconv.base.errors import SpecError
from tvmconv.compiler.codegen.kernel import named
from tvmconv.compiler.lower import generated, lowered
from tvmconv.compiler.operators import kernel_func
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import resolve
from tvmconv.specs.operators import (
    Gather,
    Map,
    MatMul,
    Normalise,
    Recurrent,
    Reduce,
    Resize,
    Scatter,
    Type,
    parse_operator,
)  # fmt: skip
from tvmconv.specs.operators import copy as moving
from tvmconv.specs.operators.expression import (
    FUNCTIONS,
    inputs_of,
    name_of_input,
    parse,
    substituted,
    text_of,
)
from tvmconv.specs.operators.recurrent import DIRECTIONS, GATES
from tvmconv.specs.operators.resize import COORDINATES, ROUNDINGS

# Of the result's range: rounding of each step, of sums of some thousands.
TOLERANCE = {"float32": 2e-5, "float64": 1e-11, "float16": 2e-3, "bfloat16": 1.6e-2}


def drawn(type_, rng, odd=0.0):
    """Random elements; a part of the floats NaN, infinite or zero."""
    shape, dtype = type_
    if dtype in FLOATS:
        values = rng.standard_normal(shape) * 3
        strange = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], shape)
        return rounded(np.where(rng.random(shape) < odd, strange, values), dtype)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    limits = np.iinfo(dtype)
    return rng.integers(max(limits.min, -70), min(limits.max, 120), shape).astype(dtype)


def compiled(op, target="x86-64-v3"):
    """The operator's function, as machine code in this process."""
    made = llvm_target(resolve(target))
    return generated(lowered(named({"op": kernel_func(op, resolve(target))}), made), made)["op"]


def _seen(array):
    """A flat array as kernels take it."""
    flat = array.reshape(-1)
    if array.dtype == bool:
        flat = flat.view(np.uint8)
    return tvm_ffi.from_dlpack(flat.view(np.uint16) if array.dtype.fields else flat)


def check(text, odd=0.0, fill=0):
    """Compile, call, and compare with the reference."""
    op = parse_operator(text) if isinstance(text, str) else text
    print(op, flush=True)
    assert str(parse_operator(str(op))) == str(op)
    function, rng = compiled(op), np.random.default_rng(fill)
    arrays = [drawn(type_, rng, odd) for type_ in op.inputs]
    expected = op.reference(arrays)
    for at in ("end", "start"):
        given_ = [guarded_copy(array, at=at, read_only=False) for array in arrays]
        results = [guarded(type_.shape, numpy_dtype(type_.dtype), at=at) for type_ in op.infer()]
        function(*map(_seen, given_), *map(_seen, results))
        assert all(map(outside_untouched, [*given_, *results])), f"{op}: written outside"
        for found, wanted, type_ in zip(results, expected, op.infer(), strict=True):
            assert_close(op, widened(found), wanted, type_)


def assert_close(op, found, wanted, type_):
    if type_.dtype not in FLOATS:
        np.testing.assert_array_equal(found, wanted, str(op))
        return
    wanted = widened(rounded(wanted, type_.dtype)).astype(np.float64)  # what is too large is infinite
    finite, part = np.abs(wanted[np.isfinite(wanted)]), TOLERANCE[type_.dtype]
    scale = part * finite.max(initial=1e-30)
    np.testing.assert_allclose(found.astype(np.float64), wanted, part, scale, err_msg=str(op))


DIMS = st.sampled_from([1, 1, 2, 3, 5, 7, 8, 13, 16, 17, 31])
SHAPES = st.lists(DIMS, min_size=0, max_size=6).filter(lambda dims: np.prod(dims, initial=1) <= 20000)
FLOAT = st.sampled_from(["float32", "float32", "float32", "float64", "float16", "bfloat16"])
ANY = st.one_of(FLOAT, st.sampled_from(["int32", "int64", "int8", "uint8", "bool"]))


@st.composite
def maps(draw):
    """One to three functions over inputs that broadcast."""
    shape, dtype = draw(SHAPES), draw(ANY)
    floats = [n for n, f in FUNCTIONS.items() if f.types in ("float", "same", "first")]
    whole = [n for n, f in FUNCTIONS.items() if f.types == "same"]
    names = floats if dtype in FLOATS else ["and", "or", "xor", "not"] if dtype == "bool" else whole
    types, parts = [], []
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(names))
        arguments = []
        for _ in range(FUNCTIONS[name].arity):
            if parts and draw(st.booleans()):
                arguments.append(parts.pop())
            else:
                arguments.append(name_of_input(len(types)))
                dims = [draw(st.sampled_from([n, n, 1])) for n in shape]
                types.append(Type(tuple(dims[draw(st.integers(0, len(dims))) :] if types else shape), dtype))
        parts.append(f"{name}({','.join(arguments)})")
    tree = parse(parts[-1])
    used = sorted(inputs_of(tree))
    inputs = [("input", used.index(k) if k in used else 0) for k in range(len(types))]
    return Map(tuple(types[k] for k in used), text_of(substituted(tree, inputs)))


@st.composite
def copies(draw):
    """Permutations, expansions, joins, slices and gathers."""
    shape, dtype = draw(SHAPES.filter(len)), draw(ANY)
    x, way = Type(tuple(shape), dtype), draw(st.integers(0, 3))
    if way == 0:
        return moving.permuted(x, draw(st.permutations(range(len(shape)))))
    if way == 1:
        axis = draw(st.integers(0, len(shape) - 1))
        more = [Type((*shape[:axis], n, *shape[axis + 1 :]), dtype) for n in draw(st.lists(DIMS, max_size=3))]
        return moving.joined([x, *more], axis)
    if way == 2:
        wide = [n if n > 1 else draw(DIMS) for n in shape[:3]]
        return moving.expanded(x, (draw(st.integers(1, 3)), *wide, *shape[3:]))
    gathered = [st.lists(st.integers(-1, n - 1), max_size=9) for n in shape]
    index = [None if draw(st.booleans()) else draw(one) for one in gathered]
    fill = float(draw(st.integers(0, 1) if dtype == "bool" or dtype[0] == "u" else st.integers(-3, 3)))
    try:
        return moving.indexed(x, index, fill)
    except SpecError:
        return moving.reshaped(x, (x.size,))


@st.composite
def reductions(draw):
    """Any operation over any axes, of no elements too."""
    shape, dtype = draw(SHAPES.filter(len)), draw(ANY)
    names = ["max", "min", "sum", "mean", "l1", "argmax", "argmin"] + ["l2", "prod"] * (dtype in FLOATS)
    name = draw(st.sampled_from(["max", "min"] if dtype == "bool" else names))
    axes = st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True)
    over = draw(axes)[: 1 if name.startswith("arg") else None]
    if name != "mean" and not name.startswith("arg") and draw(st.integers(0, 9)) == 0:
        shape[over[0]] = 0
    last = name.startswith("arg") and draw(st.booleans())
    return Reduce((Type(tuple(shape), dtype),), name, tuple(over), draw(st.booleans()), last)


@st.composite
def normalisations(draw):
    """Softmax, norms with scale and shift, LRN."""
    shape, dtype = tuple(draw(SHAPES.filter(len))), draw(FLOAT)
    method = draw(st.sampled_from(["softmax", "log_softmax", "standard", "standard", "rms", "lrn"]))
    axes = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True))
    types, more = [Type(shape, dtype)], {}
    if method in ("standard", "rms"):
        more["epsilon"] = 0.25
        for _ in range(draw(st.integers(0, 2))):
            types.append(Type(tuple(draw(st.sampled_from([n, 1])) for n in shape), dtype))
    if method == "lrn":
        axes = axes[:1]
        more = {"size": draw(st.integers(1, 6)), "alpha": 0.5, "bias": 1.5}
        more["beta"] = draw(st.sampled_from([0.5, 0.75, 0.6]))
    return Normalise(tuple(types), method, tuple(axes), **more)


@st.composite
def resizings(draw):
    """Any mode and coordinates, of some axes."""
    shape, dtype = tuple(draw(SHAPES.filter(len)))[:4], draw(FLOAT)
    mode = draw(st.sampled_from(["nearest", "linear", "linear", "cubic"]))
    scales = [draw(st.sampled_from([1.0, 1.0, 2.0, 0.5, 1.7, 0.6])) for _ in shape]
    scales = [scale if int(n * scale) else 1.0 for n, scale in zip(shape, scales, strict=True)]
    coordinates = draw(st.sampled_from(COORDINATES))
    crop = coordinates == "tf_crop_and_resize"
    roi = [draw(st.floats(-0.5, 1.5, width=16)) for _ in range(2 * len(shape))] if crop else []
    return Resize(
        (Type(shape, dtype),), tuple(int(n * scale) for n, scale in zip(shape, scales, strict=True)), mode,
        coordinates, tuple(scales), draw(st.sampled_from(ROUNDINGS)), antialias=mode != "nearest" and not crop
        and draw(st.booleans()), roi=tuple(roi), extrapolation=2.5,
    )


@st.composite
def products(draw):
    """Batches that broadcast, either factor transposed, with and without a bias."""
    batch, (rows, inner, columns) = draw(st.lists(DIMS, max_size=2)), [draw(DIMS) for _ in range(3)]
    dtype, ways = draw(st.one_of(FLOAT, st.just("int32"))), (draw(st.booleans()), draw(st.booleans()))
    narrow = [tuple(draw(st.sampled_from([n, 1])) for n in batch) for _ in range(2)]
    sizes = ((rows, inner), (inner, columns))
    types = [Type((*dims, *(size[::-1] if way else size)), dtype)
             for dims, size, way in zip(narrow, sizes, ways, strict=True)]  # fmt: skip
    if draw(st.booleans()):
        types.append(Type((draw(st.sampled_from([rows, 1])), draw(st.sampled_from([columns, 1]))), dtype))
    return MatMul(tuple(types), *ways)


@st.composite
def recurrences(draw):
    """LSTM and GRU in all their forms."""
    cell, direction = draw(st.sampled_from(["lstm", "gru"])), draw(st.sampled_from(list(DIRECTIONS)))
    lstm, d = cell == "lstm", DIRECTIONS[direction]
    steps, batch, width, units = (draw(st.integers(1, most)) for most in (5, 3, 9, 20))
    gates, dtype = GATES[cell] * units, draw(FLOAT)
    initial, other = draw(st.booleans()), draw(st.booleans())
    shapes = [(steps, batch, width), (d, gates, width), (d, gates, units), (d, 2 * gates)]
    shapes += [(d, batch, units)] * (initial * (1 + lstm)) + [(d, 3 * units)] * (lstm and other)
    names = [draw(st.sampled_from(["sigmoid", "tanh", "relu"])) for _ in range((3 if lstm else 2) * d)]
    types = tuple(Type(shape, dtype) for shape in shapes)
    return Recurrent(types, cell, direction, tuple(names), initial, lstm and other, not lstm and other)


@st.composite
def gathers(draw):
    """Slices or elements at indices from beyond one end to beyond the other."""
    shape = draw(SHAPES.filter(len))[:4]
    axis = draw(st.integers(0, len(shape) - 1))
    index = draw(st.sampled_from(["int32", "int64"]))
    types = [Type(tuple(shape), draw(ANY)), Type(tuple(draw(SHAPES))[:2], index)]
    elements = draw(st.booleans())
    if elements:
        types[1] = Type(beside(draw, shape, axis), types[1].dtype)
    return Gather(tuple(types), axis, elements)


def beside(draw, shape, axis):
    """A shape of indices with the dims of another."""
    return tuple(draw(DIMS) if at == axis else draw(st.integers(1, n)) for at, n in enumerate(shape))


@st.composite
def scatters(draw):
    """With every reduction, several at one place among them."""
    shape, dtype = draw(SHAPES.filter(len))[:4], draw(ANY)
    axis = draw(st.integers(0, len(shape) - 1))
    few = beside(draw, shape, axis)
    index = Type(few, draw(st.sampled_from(["int32", "int64"])))
    ways = ["none"] if dtype in ("bool", "float16", "bfloat16") else ["none", "add", "max", "min", "mul"]
    return Scatter((Type(tuple(shape), dtype), index, Type(few, dtype)), axis, draw(st.sampled_from(ways)))


STRATEGIES = {"map": maps(), "copy": copies(), "reduce": reductions(), "normalise": normalisations(),
              "resize": resizings(), "matmul": products(), "recurrent": recurrences(),
              "gather": gathers(), "scatter": scatters()}  # fmt: skip


def check_random(kind, count, number):
    """This many operators of a kind."""

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(STRATEGIES[kind], st.sampled_from([0.0, 0.0, 0.1]))
    def one(op, odd):
        check(op, odd if kind in ("map", "copy") else 0.0)

    one()


def found_and_expected(expression, values):
    """What a float32 function of a gives for values, and what its reference does."""
    op = parse_operator(f"map:{len(values)}:float32:{expression}")
    found = np.zeros_like(values)
    compiled(op)(tvm_ffi.from_dlpack(values), tvm_ffi.from_dlpack(found))
    (expected,) = op.reference([values])
    return found, expected


def check_ulps(errors):
    """No error of a function above this many units in the last place, over floats of all sizes and near 0."""
    rng = np.random.default_rng(1)
    anything = rng.integers(0, 1 << 32, 1 << 15, dtype=np.uint32).view(np.float32)
    near = rng.uniform(-4, 4, 1 << 15).astype(np.float32)
    limits = np.array([np.inf, -np.inf, np.nan, 0, -0.0], np.float32)
    values = np.concatenate([anything, near, near * 25, limits])
    for expression, most in errors.items():
        print(expression, flush=True)
        found, wanted = found_and_expected(expression, values)
        with np.errstate(over="ignore"):
            rounded_ = wanted.astype(np.float32)
        finite = np.isfinite(rounded_)
        np.testing.assert_array_equal(found[~finite], rounded_[~finite], expression)
        ulp = np.spacing(np.maximum(np.abs(rounded_[finite]), np.float32(2.0**-126))).astype(np.float64)
        error = np.abs(found[finite] - wanted[finite]) / ulp
        worst = error.argmax()
        assert error[worst] <= most, f"{expression} of {values[finite][worst]}: {error[worst]} ulp"


def check_all(texts):
    """Operators by their texts."""
    for text in texts:
        check(text)
