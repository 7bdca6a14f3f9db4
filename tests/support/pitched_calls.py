"""Kernels over ranges of the channels of wider arrays: what lies between rows and outside stays as it was, no
byte beyond is read. For a child process."""

from __future__ import annotations

import random

import numpy as np
import tvm_ffi
from checking import assert_right, extra_arrays, random_arrays
from guard import CANARY, guarded, outside_untouched
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from operator_calls import STRATEGIES, assert_close, drawn
from strategies import block_specs, pool_specs, specs

from tvmconv.base.dtypes import numpy_dtype, widened
from tvmconv.compiler.codegen import kernel as layers
from tvmconv.compiler.codegen.family import family_of
from tvmconv.compiler.codegen.pitches import apart
from tvmconv.compiler.lower import generated, lowered
from tvmconv.compiler.operators import kernel_func
from tvmconv.formats.choice import Choice
from tvmconv.schedules.llvm import llvm_target
from tvmconv.schedules.machines import resolve
from tvmconv.specs.operators import Copy
from tvmconv.specs.pitched import Pitched, parse_work

PITCHES = st.sampled_from([0, 0, 1, 3, 13, 16, 64])


class Rows:
    """An array in rows that lie apart, between guard pages, the canary between the rows."""

    def __init__(self, shape, dtype, pitch, at, values=None):
        self.shape, self.width = shape, shape[-1] if shape else 1
        self.pitch = pitch or self.width
        count = int(np.prod(shape, dtype=int)) // self.width if self.width else 0
        size = (count - 1) * self.pitch + self.width if count else 0
        self.flat = guarded((size,), numpy_dtype(dtype), at=at)
        self.rows = np.lib.stride_tricks.as_strided(
            self.flat, (count, self.width), (self.pitch * self.flat.itemsize, self.flat.itemsize)
        )
        if values is not None:
            self.rows[...] = np.asarray(values).reshape(count, self.width)

    def dense(self):
        return self.rows.reshape(self.shape)

    def seen(self):
        flat = self.flat.view(np.uint8) if self.flat.dtype == bool else self.flat
        return tvm_ffi.from_dlpack(flat.view(np.uint16) if flat.dtype.fields else flat)

    def untouched(self):
        """Whether only the rows were written."""
        marks = np.zeros(self.flat.size, bool)
        for row in range(len(self.rows)):
            marks[row * self.pitch : row * self.pitch + self.width] = True
        between = self.flat.view(np.uint8).reshape(-1, self.flat.itemsize)[~marks]
        return outside_untouched(self.flat) and bool((between == CANARY).all())


def machine_code(functions, machine):
    made = llvm_target(machine)
    return generated(lowered(layers.named(functions), made), made)


def check_layer(work, target, choice):
    """A layer by a schedule, beside its reference."""
    print(work, target, choice, flush=True)
    assert parse_work(str(work)) == work
    spec, machine = work.dense, resolve(target)
    made = apart(layers.scheduled(spec, machine, choice), work, machine)
    names = {"k": made.kernel, **({} if made.prepack is None else {"k_prepack": made.prepack})}
    module = machine_code(names, machine)
    if spec.family == "conv":
        x, w, bias = random_arrays(spec)
        arrays = {"x": x, "w": w, "bias": bias, **extra_arrays(spec)}
    else:
        rng = np.random.default_rng(1)
        arrays = {o.name: drawn((o.shape, o.dtype), rng) for o in spec.signature()[:-1]}
    packed = [guarded(p.shape, p.dtype) for p in made.packed]
    given_ = [np.ascontiguousarray(arrays[p.name]).reshape(-1) for p in made.weights]
    if packed:
        module["k_prepack"](*map(tvm_ffi.from_dlpack, (*given_, *(p.reshape(-1) for p in packed))))
    for at in ("end", "start"):
        read = [Rows(p.shape, p.dtype, p.pitch, at, arrays[p.name]) for p in made.inputs]
        y = Rows(made.output.shape, made.output.dtype, made.output.pitch, at)
        module["k"](*(r.seen() for r in read), *map(tvm_ffi.from_dlpack, (p.reshape(-1) for p in packed)),
                    y.seen())  # fmt: skip
        assert all(one.untouched() for one in (*read, y)), f"{work}: written between rows"
        if spec.family == "conv":
            extra = {name: arrays[name] for name in ("residual", "slopes") if name in arrays}
            assert_right(spec, y.dense(), x, w, bias, schedule=made.schedule, **extra)
        else:
            wanted = spec.reference(arrays)
            scale = 1e-5 if spec.dtype in ("float32", "float64") else 1e-2
            room = scale * max(1.0, float(np.abs(wanted).max()))
            np.testing.assert_allclose(widened(y.dense()).astype(float), wanted, scale, room, str(work))


@st.composite
def pitched(draw, works):
    """The work with pitches, where it takes any."""
    work = draw(works)
    able = sorted(work.takes_pitch())
    widths = widths_of(work)
    more = {name: draw(PITCHES) for name in able}
    return Pitched.of(work, {name: widths[name] + n for name, n in more.items() if n and widths[name]})


def widths_of(work):
    """Elements of a row of each array."""
    if hasattr(work, "signature"):
        return {o.name: o.shape[-1] for o in work.signature() if o.shape}
    found = {f"x{k}": one.shape[-1] if one.shape else 1 for k, one in enumerate(work.inputs)}
    (y, *_) = work.infer()
    return {**found, "y": y.shape[-1] if y.shape else 1}


def _random(what, count, number, one):
    run = settings(max_examples=count, deadline=None, database=None,
                   suppress_health_check=list(HealthCheck), derandomize=False)  # fmt: skip
    seed(number)(run(given(pitched(what), st.randoms(use_true_random=False))(one)))()


def check_layers(stated, target, counts, number):
    """Layers by the strategies that are stated for them; random ones of each kind, each by one of the
    strategies that may be best, at a random point."""
    for text, strategy in stated:
        check_layer(parse_work(text), target, Choice(strategy, {}))

    def one(work, rng: random.Random):
        spec, machine = work.dense, resolve(target)
        choices = [None]
        for name, space in family_of(spec).spaces(spec, machine).items():
            point = {knob: rng.choice(values) for knob, values in space.items()}
            try:
                layers.check_choice(spec, machine, Choice(name, point=point))
            except ValueError:
                point = {}
            choices.append(Choice(name, point=point))
        check_layer(work, target, rng.choice(choices))

    dtypes = ("float32", "float64", "float16")
    for kind, count in counts.items():
        drawn_ = {"conv": specs(max_elements=12_000), "pool": pool_specs(), "block": block_specs()}[kind]
        floats = drawn_.filter(lambda spec: spec.channels_last and spec.dtype in dtypes)
        _random(floats, count, number, one)


def check_operators(target, counts, number):
    """Random operators of each kind; copies include those that leave some elements unwritten."""

    def one(work, rng: random.Random):
        op, machine = work.dense, resolve(target)
        if isinstance(op, Copy) and rng.random() < 0.5 and len(op.pieces) > 1:
            op = Copy(op.inputs, op.shape, op.pieces[1:], None)
            pitches = {name: pitch for name, pitch in work.pitches.items() if name in op.takes_pitch()}
            work = Pitched.of(op, pitches)
        print(work, flush=True)
        assert str(parse_work(str(work))) == str(work)
        function = machine_code({"op": kernel_func(op, machine, work.pitches)}, machine)["op"]
        data = np.random.default_rng(1)
        arrays = [drawn(type_, data) for type_ in op.inputs]
        expected = op.reference(arrays)
        for at in ("end", "start"):
            read = [Rows(a.shape, t.dtype, work.pitches.get(f"x{k}", 0), at, a)
                    for k, (a, t) in enumerate(zip(arrays, op.inputs, strict=True))]  # fmt: skip
            made = [Rows(t.shape, t.dtype, work.pitches.get("y", 0), at) for t in op.infer()]
            function(*(r.seen() for r in (*read, *made)))
            assert all(r.untouched() for r in (*read, *made)), f"{work}: written between rows"
            for found, wanted, type_ in zip(made, expected, op.infer(), strict=True):
                result = found.dense()
                if isinstance(op, Copy) and op.fill is None:
                    written = op.writes()
                    left = result.reshape(-1)[~written].view(np.uint8)
                    assert (left == CANARY).all(), f"{work}: more written than its pieces"
                    result, wanted = (a.reshape(-1)[written] for a in (result, wanted))
                assert_close(op, widened(result), wanted, type_)

    for kind, count in counts.items():
        dtypes = ("float32", "float64", "float16", *([] if kind == "map" else ["int8", "int64", "bool"]))
        of_these = STRATEGIES[kind].filter(lambda op, dtypes=dtypes: op.inputs[0].dtype in dtypes)
        _random(of_these.filter(lambda op: op.takes_pitch()), count, number, one)
