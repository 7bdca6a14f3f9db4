"""One call: describe, compile (cached on disk), run."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

from tvmconv.base.dtypes import BYTES, name_of
from tvmconv.base.errors import SpecError, TargetError
from tvmconv.base.messages import shown
from tvmconv.frontends.progress import compiling
from tvmconv.specs.checks import read_integer, read_layout
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.kinds import Spec
from tvmconv.specs.window import Ints, Padding


def conv(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    layout: str = "NCHW",
    activation: str | tuple[Any, ...] | None = None,
    residual: Any = None,
    slopes: Any = None,
    shuffle: int = 1,
    padding_mode: str = "zeros",
    target: str = "native",
) -> Any:
    """Convolve ``x`` with ``w``; the kernel is compiled on the first call with these shapes, then cached.

    ``x``: (N, C, *spatial) or (N, *spatial, C) by ``layout``, a NumPy or any CPU DLPack array; the result is
    of the same kind, and x is never written. ``w``: (out, in/groups, *kernel) channels-first (OIHW),
    (*kernel, in/groups, out) channels-last (HWIO). ``bias``: (out,). ``residual``: added before the
    activation, of the result's shape and type. ``slopes``: (out,), for the activation "prelu", which they
    imply. ``shuffle``: the number of groups in which the result's channels are shuffled, as by
    `channel_shuffle`; residual is added after that. The rest as in ConvSpec. x and w of 8-bit integers give
    their int32 sums. Strided and read-only arrays are copied if necessary. Raises SpecError for arguments
    that do not fit, TargetError where the kernel is neither cached nor can be compiled.
    """
    if slopes is not None and activation is None:
        activation = "prelu"
    spec = spec_of(x, w, bias, stride=stride, padding=padding, dilation=dilation, groups=groups,
                   layout=layout, activation=activation, residual=residual is not None, shuffle=shuffle,
                   padding_mode=padding_mode)
    others = [array for array in (residual, slopes) if array is not None]
    return function(spec, target)(x, w, bias, *others)


def conv_transpose(
    x: Any,
    w: Any,
    bias: Any = None,
    *,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    layout: str = "NCHW",
    activation: str | tuple[Any, ...] | None = None,
    target: str = "native",
) -> Any:
    """The transposed convolution of ``x`` with ``w``: each element of x spreads its taps ``stride`` apart.

    Arrays, errors and the compiled kernel as for ``conv``, but ``w`` is (in, out/groups, *kernel)
    channels-first, (*kernel, in, out/groups) channels-last. ``padding`` crops: a result is
    (in-1)*stride - lo - hi + dilation*(kernel-1) + output_padding + 1 elements long, in*stride with "SAME".
    ``output_padding`` is less than the larger of stride and dilation. x and w of 8-bit integers give their
    int32 sums.
    """
    spec = spec_of(x, w, bias, stride=stride, padding=padding, output_padding=output_padding,
                   dilation=dilation, groups=groups, layout=layout, activation=activation, transposed=True)
    return function(spec, target)(x, w, bias)


def spec_of(
    x: Any, w: Any, bias: Any, *, layout: str, groups: int, transposed: bool = False, **options: Any
) -> ConvSpec:
    """The ConvSpec of a call with these arrays. Raises SpecError."""
    x_shape, w_shape = _shape("x", x), _shape("w", w)
    if len(w_shape) != len(x_shape):
        raise SpecError(f"w: shape {w_shape}, expected {len(x_shape)} dims as x's shape {x_shape} has")
    groups = read_integer("groups", groups, 1)
    last = read_layout(layout, len(x_shape) - 2) == "NHWC"
    kernel, pair = (w_shape[:-2], w_shape[-2:]) if last else (w_shape[2:], w_shape[:2])
    channels = x_shape[-1 if last else 1]
    for dim, size in enumerate(w_shape):
        if size == 0:
            raise SpecError(f"w: shape {w_shape}, expected no empty dim (dim {dim} is 0)")
    if transposed:
        inputs, out = pair[0], pair[1] * groups
    else:
        in_group, out = pair if last else reversed(pair)
        inputs = in_group * groups
    options |= _integer_types(x, w)
    spec = ConvSpec(x_shape, out, kernel, layout=layout, groups=groups, dtype=name_of(x),
                    bias=bias is not None, transposed=transposed, **options)  # fmt: skip
    if inputs != channels and transposed:
        raise SpecError(f"w: shape {w_shape} has {inputs} input channels, expected {channels} as x has")
    if inputs != channels:
        raise SpecError(
            f"w: shape {w_shape} has {in_group} input channels a group, expected {channels // groups}: "
            f"x has {channels} channels in {groups} group{'s' if groups > 1 else ''}"
        )
    return spec


def function(spec: Spec, target: str = "native") -> Any:
    """The loaded function for ``spec``: from this process, else from the cache on disk, else compiled."""
    try:
        hash(target)
    except TypeError:  # an array, for example
        wanted = "expected a name, or triple=T,cpu=C,features=+F"
        raise TargetError(f"target: {shown(target)}, {wanted}") from None
    return _loaded(spec, target)


@lru_cache(maxsize=2048)  # each is a mapped library; a dropped one is still on disk
def _loaded(spec: Spec, target: str) -> Any:
    return _load(spec, target)


def _load(spec: Spec, target: str) -> Any:
    from tvmconv import runtime
    from tvmconv.base import cache_folder
    from tvmconv.base.errors import ArtifactError
    from tvmconv.compiler import cache
    from tvmconv.formats.logs.lookup import Logs
    from tvmconv.schedules.machines import resolve

    spec.check_supported()
    machine = resolve(target)
    tuned = Logs(machine).find(spec)
    path = cache_folder.folder() / f"{cache.key('library', str(spec), machine, tuned, _linker(machine))}.so"
    if path.exists():
        try:
            function = next(iter(runtime.load(path).functions.values()))
            if function.descriptor == str(spec):
                return function
        except ArtifactError:
            pass
        # Damaged, or not what the name says: rebuilt.
    with compiling(str(spec)):
        function, trouble = _compiled(spec, machine, path)
    if trouble is not None:
        warnings.warn(f"not cached: {trouble}", RuntimeWarning, stacklevel=4)
    return function


def _compiled(spec: Spec, machine: Any, path: Path) -> tuple[Any, Exception | None]:
    """The function, from its library at ``path``; what prevented that, if something did."""
    from tvmconv import runtime
    from tvmconv.base.errors import ArtifactError
    from tvmconv.compiler.compile import compile

    library, trouble = compile({"conv": spec}, machine), None
    try:
        module = runtime.load(library.export(path, header=False))
    except ArtifactError as error:  # a full disk, for example: go on without the cache
        module, trouble = library.load(), error
    return next(iter(module.functions.values())), trouble


def _linker(machine: Any) -> list[Any]:
    """What identifies the C compiler."""
    from tvmconv.base.errors import ArtifactError
    from tvmconv.compiler.artifact.compilers import find_cc, identity

    try:
        command = find_cc(machine)
    except ArtifactError:
        return []  # a library in the cache runs without one
    return [command, *identity(command)]


def _integer_types(x: Any, w: Any) -> dict[str, str]:
    """For 8-bit integers the one-call functions give the sums."""
    return {"out_dtype": "int32", "weight_dtype": name_of(w)} if name_of(x) in BYTES else {}


def _shape(name: str, array: Any) -> tuple[int, ...]:
    try:
        shape = tuple(int(size) for size in array.shape)
    except (AttributeError, TypeError):
        raise SpecError(f"{name}: {type(array).__name__}, expected a NumPy or DLPack array") from None
    if not 3 <= len(shape) <= 5:
        raise SpecError(f"{name}: shape {shape}, expected 3 to 5 dims")
    return shape

