"""Proof that a library computes what its descriptors say: each function against the float64 reference.

Two fills of random data. "normal": standard normal numbers, within a tolerance that grows with the length of
the sums. "integer": small integers, whose sums are exact in any order of summation, so that a single wrong
tap shows; the result must be equal if the activation is exact too, and otherwise have only the activation's
error. Where the manifest says that a schedule rounds integers too (``exact``), the tolerance is that of
"normal", and a bit more for the transformations of tiles; where it says that products are part of several
results (``combines``), results that a clip made small may err as the others do. Needs numpy and the
reference, no compiler.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.dtypes import BYTES, FLOATS, epsilon, rounded, widened
from tvmconv.base.errors import SpecError
from tvmconv.formats.order import bind_order

if TYPE_CHECKING:
    from tvmconv.runtime import Module
    from tvmconv.specs.kinds import Spec

__all__ = ["FILLS", "Case", "Check", "check", "default_tolerance", "prepare", "verify"]

FILLS = ("normal", "integer")
"""The kinds of random data: standard normal numbers, and small integers."""

_TRANSFORMS = 16  # spacings more, however short the sums are: for those of tiles, if factors are inexact
ACTIVATION_ERRORS = {"float64": 2.5e-16, "float32": 1.3e-7, "float16": 1.3e-7, "bfloat16": 1.3e-7}
"""The error allowed to an activation of x, over max(1, |x|), besides the result's rounding: needed near 0,
where a result says nothing about the size of x. 16-bit ones are computed in float32."""


@dataclass(frozen=True)
class Check:
    """What one function did on one fill.

    name: its C name. descriptor: what it computes. fill, seed: of the data. max_abs: the largest absolute
    error. max_rel: max_abs over the size of the result: its largest value, but on normal data at least
    the rms value of a sum of that many products (of the largest of such sums if the schedule rounds
    integers or combines products, for all results of a tile then err alike), else at least 1. tolerance: the
    largest max_rel that passes; 0 means that every element has to be equal. wrong: elements outside that.
    worst: index of the largest error, None if there are no elements.
    """

    name: str
    descriptor: str
    fill: str
    seed: int
    max_abs: float
    max_rel: float
    tolerance: float
    wrong: int
    worst: tuple[int, ...] | None

    @property
    def ok(self) -> bool:
        """Whether the function passes."""
        return self.wrong == 0


def verify(
    module: Module,
    names: Sequence[str] | None = None,
    *,
    seed: int = 0,
    tolerance: float | None = None,
    fills: Sequence[str] = FILLS,
) -> Iterator[Check]:
    """Check functions of a loaded library, yielding one `Check` per function and fill.

    names: the functions to check (default: all). seed: of the random data; a function's data depend only on
    the seed and its descriptor, so that it fails the same way in another library. tolerance: replaces the
    default of `default_tolerance` for the normal fill. Raises SpecError for a descriptor that has no
    reference here.
    """
    entries = {entry["name"]: entry for entry in module.manifest["functions"]}
    for name in entries if names is None else names:
        function, entry = module[name], entries[name]
        for fill in fills:
            yield check(function, entry, fill, seed=seed, tolerance=tolerance)


def check(
    function: Any, entry: Mapping[str, Any], fill: str, *, seed: int = 0, tolerance: float | None = None
) -> Check:
    """Check one function (`module[name]`) given its manifest entry; see `verify`."""
    return prepare(entry, fill, seed=seed, tolerance=tolerance).check(function)


@dataclass(frozen=True)
class Case:
    """What functions of one descriptor are checked on.

    entry: the manifest's of a function. arrays: by argument; expected: the result in float64. fill, seed: of
    the data. tolerance: the largest relative error that passes. least_size: what errors are relative to, at
    least.
    """

    entry: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    expected: np.ndarray
    fill: str
    seed: int
    tolerance: float
    least_size: float

    def check(self, function: Any) -> Check:
        """Call a function, and compare its result."""
        return self._compare(_call(function, self.entry["arguments"], self.arrays))

    def _compare(self, actual: np.ndarray) -> Check:
        error = np.abs(actual - self.expected)
        error[np.isnan(error)] = math.inf
        size = max(float(np.max(np.abs(self.expected), initial=0.0)), self.least_size)
        worst = np.unravel_index(int(np.argmax(error)), error.shape) if error.size else None
        max_abs = float(error[worst]) if worst is not None else 0.0
        return Check(
            name=self.entry["name"],
            descriptor=self.entry["descriptor"],
            fill=self.fill,
            seed=self.seed,
            max_abs=max_abs,
            max_rel=max_abs / size if size else (math.inf if max_abs else 0.0),
            tolerance=self.tolerance,
            wrong=int(np.count_nonzero(error > self.tolerance * size)),
            worst=None if worst is None else tuple(int(i) for i in worst),
        )


def check_alone(entry: Mapping[str, Any]) -> None:
    """Raises SpecError for the entry of a function of several steps, which no descriptor stands for."""
    if steps := entry.get("steps"):
        name = entry["name"]
        what = f"function {name}: {len(steps)} steps, expected one that a descriptor stands for"
        raise SpecError(f"{what}; a whole network is compared with its model: verify --onnx MODEL")


def prepare(
    entry: Mapping[str, Any], fill: str, *, seed: int = 0, tolerance: float | None = None
) -> Case:
    """The case of a function given its manifest entry; see `verify`."""
    from tvmconv.specs.kinds import parse_spec

    check_alone(entry)
    spec = parse_spec(entry["descriptor"])
    arrays = random_arrays(spec, entry["arguments"], fill, seed)
    expected = spec.reference(arrays)
    size = 1.0  # what the activations' own errors are relative to, if the sums have none
    schedule = entry.get("schedule", {})
    rounds, combines = not schedule.get("exact", True), schedule.get("combines", False)
    if fill == "normal" or rounds:
        given = tolerance if fill == "normal" else None
        tolerance = default_tolerance(spec) if given is None else given
        if given is None and rounds and combines:
            tolerance += _TRANSFORMS * _coarsest_epsilon(spec)
        size = _size_of_sums(spec, arrays)
        if (rounds or combines) and spec.is_exact:
            size *= math.sqrt(2 * math.log(max(expected.size, 2)))  # the largest sum, even if it is clipped
        if given is None and not spec.is_exact and spec.out_dtype in ACTIVATION_ERRORS:
            result = max(float(np.max(np.abs(expected), initial=0.0)), size)
            tolerance += ACTIVATION_ERRORS[spec.out_dtype] * max(1.0, size) / (result or 1.0)
    elif spec.is_exact:
        tolerance = 0.0
        # A bound such as 0.1 rounds, and so does a large sum in a narrow type.
        expected = widened(rounded(expected, spec.out_dtype)).astype(np.float64)
    else:
        tolerance = 8 * _coarsest_epsilon(spec)
    if spec.out_dtype not in FLOATS and not spec.is_exact:
        # One step of the result: the activation's own error may push it past a half.
        size = 1.0
        tolerance = 1.5 / max(float(np.max(np.abs(expected), initial=0.0)), size)
    return Case(entry, arrays, expected, fill, seed, tolerance, size)


def default_tolerance(spec: Spec) -> float:
    """The largest `max_rel` of a correct kernel, growing as the square root of the sum's length."""
    return _coarsest_epsilon(spec) * spec.allowed_error()


def random_arrays(
    spec: Spec, arguments: Sequence[Mapping[str, Any]], fill: str, seed: int
) -> dict[str, np.ndarray]:
    """One array for each input argument, in call order, of a fill ("normal" or "integer")."""
    if fill not in FILLS:
        raise SpecError(f"fill {fill!r}: expected one of {', '.join(FILLS)}")
    rng = np.random.default_rng([seed, zlib.crc32(str(spec).encode()), FILLS.index(fill)])
    arrays = {}
    for argument in arguments:
        if argument["role"] == "output":
            continue
        shape, dtype = tuple(argument["shape"]), argument["dtype"]
        if argument["name"].endswith("_scale"):
            values = rng.uniform(0.5, 1, shape) * _size_of_scale(spec, argument["name"], fill)
        elif fill == "normal" and dtype in FLOATS:
            values = rng.standard_normal(shape)
        elif fill == "normal" and dtype in BYTES:
            values = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape)
        elif argument["name"] == "w" and not _shows_at_any_size(spec):
            # Few terms per sum, for sums where the activation is still curved: else only its ends would be
            # tested.
            values = rng.choice([-1, 1], shape) * (rng.random(shape) < 9 / spec.terms)
        else:
            values = rng.integers(0 if dtype.startswith("u") else -3, 4, shape)
        arrays[argument["name"]] = rounded(values, dtype)
    return arrays


def _size_of_scale(spec: Spec, name: str, fill: str) -> float:
    """For results that mostly lie within 8 bits, and real numbers where the activation bends."""
    part = spec.part_of(name)
    read = 2 if fill == "integer" and part == spec.part_of("x_scale") else 74  # the rms value of what is read
    sums = math.sqrt(part.terms) * read * (2 if fill == "integer" else 74)  # their rms value, or more
    of_8_bits = name.endswith(("r_scale", "y_scale"))
    if part is not spec:  # what one part makes is read by the next
        return 1 / 16 if of_8_bits or name == "x_scale" else 128 / sums
    if _shows_at_any_size(spec):
        return sums / 64 if of_8_bits else 1
    return 1 / 16 if of_8_bits else math.sqrt(8 / sums)


def operands(
    arguments: Sequence[Mapping[str, Any]], arrays: Mapping[str, np.ndarray]
) -> tuple[list[np.ndarray | None], list[np.ndarray]]:
    """Positional arguments for `bind` (the bias keeps its place where there is none) and for the call."""
    named = {role: [a["name"] for a in arguments if a["role"] == role] for role in ("weight", "input")}
    weights = bind_order({name: arrays.get(name) for name in named["weight"]})
    return weights, [arrays[name] for name in named["input"]]


def _call(
    function: Any, arguments: Sequence[Mapping[str, Any]], arrays: Mapping[str, np.ndarray]
) -> np.ndarray:
    output = next(argument for argument in arguments if argument["role"] == "output")
    dtype = output["dtype"]
    # Poisoned, so that an element that the kernel misses shows.
    y = rounded(np.full(output["shape"], np.nan if dtype in FLOATS else 99.0), dtype)
    if hasattr(function, "placed"):  # on a GPU
        placed = function.placed({**arrays, output["name"]: y})
        weights, inputs = operands(arguments, placed)
        y = function.bind(*weights)(*inputs, out=placed[output["name"]]).numpy()
    else:
        weights, inputs = operands(arguments, arrays)
        function.bind(*weights)(*inputs, out=y)
    return widened(y).astype(np.float64)


def _shows_at_any_size(spec: Spec) -> bool:
    """Whether the activation, if any, treats large sums as it does small ones."""
    return spec.act is None or spec.act.homogeneous


def _size_of_sums(spec: Spec, arrays: Mapping[str, np.ndarray]) -> float:
    """The rms value of a sum before the activation, or of a mean, if its terms were independent."""
    rms = {
        name: float(np.sqrt(np.mean(np.square(widened(array), dtype=np.float64)))) if array.size else 0.0
        for name, array in arrays.items()
    }
    return spec.size_of_sums(rms)


def _coarsest_epsilon(spec: Spec) -> float:
    return max(epsilon(dtype) for dtype in (spec.dtype, spec.out_dtype))
