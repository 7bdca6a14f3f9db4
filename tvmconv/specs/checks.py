"""Reading the arguments of a spec: each becomes its canonical form, or a one-line error."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from tvmconv.base.dtypes import BYTES
from tvmconv.base.errors import SpecError
from tvmconv.base.messages import shown, unknown
from tvmconv.specs.names import ALGORITHMS, LAYOUT_NAMES, LAYOUTS
from tvmconv.specs.spec import Spec

INDEX_LIMIT = 2**31 - 1  # compiled kernels index with 32-bit integers
# Of an array: the indices of full tiles reach beyond its end.
MOST_ELEMENTS = 2**31 - 2**20


def most_workspace(array_bytes: int) -> int:
    """The most bytes of workspace that a kernel with ``array_bytes`` of inputs, weights and output may
    use."""
    return 8 * array_bytes + (64 << 20)


def read_integer(name: str, value: Any, least: int) -> int:
    """A Python or NumPy integer that is at least ``least``; True and 1.0 are not integers."""
    what = {0: "an integer that is not negative", 1: "a positive integer"}[least]
    if type(value).__name__ in ("bool", "bool_"):  # Python's and NumPy's
        raise SpecError(f"{name}: {shown(value)}, expected {what}")
    try:
        number = operator.index(value)  # NumPy's integers too, but not floats
    except TypeError:
        raise SpecError(f"{name}: {shown(value)}, expected {what}") from None
    if number < least:
        raise SpecError(f"{name}: {shown(number)}, expected {what}")
    if number > INDEX_LIMIT:
        raise SpecError(f"{name}: {shown(number)}, expected at most {INDEX_LIMIT}")
    return number


def read_items(value: Any) -> tuple[Any, ...] | None:
    """The items of a tuple, a list or a NumPy array with dims; None for anything else."""
    if isinstance(value, (tuple, list)):
        return tuple(value)
    ndim = getattr(value, "ndim", 0)  # of a NumPy type, it is a descriptor
    return tuple(value) if isinstance(ndim, int) and ndim else None


def read_shape(value: Any) -> tuple[int, ...]:
    """An input shape: batch, channels and 1 to 3 spatial dims, in any order."""
    items = read_items(value)
    if items is None or not 3 <= len(items) <= 5:
        what = "3 to 5 integers: batch, channels and 1 to 3 spatial dims"
        raise SpecError(f"input_shape: {shown(value)}, expected {what}")
    return tuple(read_integer("input_shape", item, 0) for item in items)


def read_per_dim(name: str, value: Any, rank: int, least: int) -> tuple[int, ...]:
    """One integer per spatial dim; a single one applies to all."""
    items = read_items(value)
    if items is None:
        return (read_integer(name, value, least),) * rank
    if len(items) != rank:
        raise SpecError(f"{name}: {shown(value)}, expected one integer, or {rank}: one per spatial dim")
    return tuple(read_integer(name, item, least) for item in items)


def read_flag(name: str, value: Any) -> bool:
    """True or False. An array passed as ``bias`` is a likely mistake, and its truth value must not decide."""
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise SpecError(f"{name}: {shown(value)}, expected True or False")


def read_layout(value: Any, rank: int) -> str:
    """ "NCHW" or "NHWC", from a layout name that fits the rank."""
    names = tuple(dict.fromkeys((*LAYOUTS[2], *LAYOUTS[rank])))
    if not isinstance(value, str) or value not in names:
        if isinstance(value, str) and value in LAYOUT_NAMES:
            raise SpecError(f"layout: {value!r}, expected one of {', '.join(names)} for {rank} spatial dims")
        raise unknown("layout", value, names)
    return "NHWC" if value in [last for _, last in LAYOUTS.values()] else "NCHW"


def read_dtype(name: str, value: Any, known: tuple[str, ...]) -> str:
    """The name of a dtype given as a name, a NumPy dtype or a NumPy scalar type."""
    text = value if isinstance(value, str) else getattr(value, "name", getattr(value, "__name__", None))
    if text not in known:
        raise unknown(name, value if text is None else text, known)
    return str(text)


def read_weight_dtype(dtype: str, value: Any) -> str:
    """The weights' dtype for x's: the same, but for 8-bit x either int8 or uint8 (None: int8)."""
    known = BYTES if dtype in BYTES else (dtype,)
    return known[0] if value is None else read_dtype("weight_dtype", value, known)


def check_shape(shape: tuple[int, ...]) -> None:
    """Raises SpecError for an empty dim that is not the batch."""
    if 0 in shape[1:]:
        raise SpecError(f"input_shape: {shape}, expected no dim but the batch to be 0")


def check_elements(**arrays: int) -> None:
    """Raises SpecError if an array, named with _ for spaces, has more elements than kernels can index."""
    for name, elements in arrays.items():
        if elements > MOST_ELEMENTS:
            what = f"{name.replace('_', ' ')}: {elements} elements"
            raise SpecError(f"{what}, expected at most {MOST_ELEMENTS} (32-bit indices)")


def suits_winograd(kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> bool:
    """Whether Winograd's algorithm can compute such a convolution: two dimensions, each with 2 to 5 taps at
    stride 1, up to 10 at stride 2, which excludes dilation."""
    dims = list(zip(kernel, stride, dilation, strict=True))
    return len(dims) == 2 and all(
        2 <= k <= 5 * s and (s == 1 or (s == 2 and d == 1)) for k, s, d in dims
    )


def suits_strassen(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[tuple[int, int]], *channels: int,
    levels: int = 1,
) -> bool:
    """Whether Strassen's product can compute such a convolution: a pointwise one with numbers of ``channels``
    of a group that can be halved, ``levels`` times."""
    dims = zip(kernel, stride, padding, strict=True)
    return all(k == s == 1 and p == (0, 0) for k, s, p in dims) and not any(c % 2**levels for c in channels)


def read_algorithm(spec: Spec, algorithm: Any, groups: int) -> str | None:
    """``algorithm``, None or one that can compute the finished ``spec``, which has so many ``groups``. Raises
    SpecError, listing those."""
    if algorithm is None:
        return None
    able = ["direct"]
    if not spec.transposed:
        if spec.dtype in ("float32", "float64"):  # sums are held in the type of x
            able.append("im2col")
        # A single output has no next one: its stride makes no difference.
        stride = [1 if size == 1 else s for size, s in zip(spec.out_spatial, spec.stride, strict=True)]
        if suits_winograd(spec.kernel, stride, spec.dilation) and spec.dtype == "float32":
            able.append("winograd")
        channels = spec.in_channels // groups, spec.out_channels // groups
        if (spec.channels_last and spec.dtype == "float32"
                and suits_strassen(spec.kernel, stride, spec.padding, *channels)):
            able.append("strassen")
    if algorithm in able:
        return str(algorithm)
    if algorithm not in ALGORITHMS:
        raise unknown("algorithm", algorithm, ALGORITHMS)
    raise SpecError(f"algorithm: {algorithm!r}, expected one that fits this convolution: {', '.join(able)}")
