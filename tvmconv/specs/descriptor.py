"""The canonical one-line text of a convolution, its parser, and the names that may occur in it.

``conv2d:1x112x112x32:o32:k3x3:s2:p1:g32:NHWC:float32:bias:relu6``: tokens joined by ":", no
spaces, safe in a shell, a file name or a test id. Numbers only are checked here for their form;
whether they make a convolution is :class:`tvmconv.ConvSpec`'s business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import SpecError

if TYPE_CHECKING:
    from tvmconv.specs.conv import ConvSpec

# Channels-first and channels-last name of each number of spatial dims; the 2-D ones serve at every rank.
LAYOUTS: dict[int, tuple[str, str]] = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
LAYOUT_NAMES = tuple(name for pair in LAYOUTS.values() for name in pair)

DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint8")
OUT_DTYPES = (*DTYPES, "int32")

# Name -> default parameters; None where they must be given (clip's lo and hi).
ACTIVATIONS: dict[str, tuple[float | None, ...]] = {
    "relu": (), "relu6": (), "clip": (None, None), "leaky_relu": (0.01,), "sigmoid": (),
    "hard_sigmoid": (1 / 6, 0.5), "hard_swish": (), "silu": (), "tanh": (), "gelu": (), "gelu_tanh": (),
    "prelu": (),  # its slopes, one a channel, are an array
}  # fmt: skip

FLAGS = ("bias", "residual")
ALGORITHMS = ("direct", "im2col", "winograd")
NAMED_PADDINGS = ("SAME", "VALID", "FULL")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")

_NUMBER = r"\d{1,12}"
_DIMS = rf"{_NUMBER}(?:x{_NUMBER})*"
_PADS = rf"{_NUMBER}(?:\+{_NUMBER})?(?:x{_NUMBER}(?:\+{_NUMBER})?)*"
_HEAD = re.compile(r"(t?)conv([123])d")
_TOKEN = re.compile(
    rf"o(?P<out_channels>{_NUMBER})|k(?P<kernel>{_DIMS})|s(?P<stride>{_DIMS})|d(?P<dilation>{_DIMS})"
    rf"|g(?P<groups>{_NUMBER})|op(?P<output_padding>{_DIMS})|sh(?P<shuffle>{_NUMBER})|p(?P<padding>{_PADS}|SAME|VALID|FULL)"
)


def shown(value: Any) -> str:
    """``repr`` of a bad value, on one line and not too long for a message."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python prints no integer of many thousand digits
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def unknown(argument: str, value: Any, names: Iterable[str]) -> SpecError:
    """The error for a name that is not one of ``names``; near ones are suggested."""
    names = tuple(names)
    return SpecError(f"{argument}: {shown(value)}, expected one of {', '.join(names)}{_hint(value, names)}")


def _hint(value: Any, names: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        return ""
    import difflib  # only when something went wrong: importing this module stays cheap

    folded = {name.lower(): name for name in names}  # "nhwc" is near "NHWC"
    near = [folded[name] for name in difflib.get_close_matches(value.lower(), folded, n=2)]
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def canonical_activation(activation: Any) -> str | None:
    """The canonical text of an activation given as None, "relu", "clip=0,6" or ("clip", 0, 6)."""
    if activation is None:
        return None
    name, params = _activation(activation)
    if params == ACTIVATIONS[name]:
        return name
    return f"{name}={','.join(_float_text(value) for value in params)}"


def parse_activation(activation: str) -> tuple[str, tuple[float, ...]]:
    """``(name, params)`` of an activation's text, defaults filled in: "clip=0,6" -> ("clip", (0.0, 6.0)).

    Raises SpecError for an unknown name, a wrong number of parameters, NaN, or clip with lo > hi.
    """
    return _activation(activation)


def clamp_of(activation: str | None) -> tuple[float, float] | None:
    """(lo, hi) of an activation that keeps values within bounds and does nothing else; None for others.
    Without an activation they are infinite."""
    if activation is None:
        return -math.inf, math.inf
    name, params = parse_activation(activation)
    bounds = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0), "clip": params}.get(name)
    return None if bounds is None else (bounds[0], bounds[1])


def _activation(activation: Any) -> tuple[str, tuple[float, ...]]:
    if isinstance(activation, str):
        name, equals, text = activation.partition("=")
        given: tuple[Any, ...] = tuple(text.split(",")) if equals else ()
    elif isinstance(activation, (tuple, list)) and activation and isinstance(activation[0], str):
        name, given = activation[0], tuple(activation[1:])
    else:
        raise SpecError(f"activation: {shown(activation)}, expected a name, or a tuple (name, parameters...)")
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    defaults = ACTIVATIONS[name]
    if not given and None not in defaults:
        return name, defaults  # type: ignore[return-value]
    try:
        params = tuple(float(value) for value in given)
    except (TypeError, ValueError, OverflowError):
        raise SpecError(f"activation: {shown(activation)}, expected numbers as parameters") from None
    if len(params) != len(defaults):
        wanted = f"{len(defaults)} parameters" if defaults else "no parameters"
        raise SpecError(f"activation: {shown(activation)}, expected {wanted} for {name}")
    if any(math.isnan(value) for value in params):
        raise SpecError(f"activation: {shown(activation)}, expected parameters that are not NaN")
    if name == "clip":
        if params[0] > params[1]:
            raise SpecError(f"activation: {shown(activation)}, expected lo <= hi")
    elif any(math.isinf(value) for value in params):
        raise SpecError(f"activation: {shown(activation)}, expected finite parameters")
    return name, params


def _float_text(value: float) -> str:
    value = value or 0.0  # no "-0": it would be a second text for the same bound
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def format_spec(spec: ConvSpec) -> str:
    """The canonical descriptor of ``spec``; defaults are left out, so that a convolution has one text."""
    tokens = [
        f"{'tconv' if spec.transposed else 'conv'}{spec.rank}d",
        "x".join(map(str, spec.input_shape)),
        f"o{spec.out_channels}",
        "k" + "x".join(map(str, spec.kernel)),
    ]
    if set(spec.stride) != {1}:
        tokens.append("s" + _dims_text(spec.stride))
    if set(spec.padding) != {(0, 0)}:
        tokens.append("p" + _padding_text(spec.padding))
    if spec.padding_mode != "zeros":
        tokens.append(spec.padding_mode)
    if set(spec.dilation) != {1}:
        tokens.append("d" + _dims_text(spec.dilation))
    if spec.groups != 1:
        tokens.append(f"g{spec.groups}")
    if set(spec.output_padding) != {0}:
        tokens.append("op" + _dims_text(spec.output_padding))
    tokens.append(spec.layout)
    tokens.append(spec.dtype if spec.dtype == spec.out_dtype else f"{spec.dtype}/{spec.out_dtype}")
    if spec.weight_dtype == "uint8":
        tokens.append("wuint8")
    if spec.bias:
        tokens.append("bias")
    if spec.residual:
        tokens.append("residual")
    if spec.activation:
        tokens.append(spec.activation)
    if spec.shuffle != 1:
        tokens.append(f"sh{spec.shuffle}")
    if spec.algorithm:
        tokens.append(spec.algorithm)
    return ":".join(tokens)


def _dims_text(dims: tuple[int, ...]) -> str:
    return str(dims[0]) if len(set(dims)) == 1 else "x".join(map(str, dims))


def _padding_text(padding: tuple[tuple[int, int], ...]) -> str:
    if all(lo == hi for lo, hi in padding):
        return _dims_text(tuple(lo for lo, _ in padding))
    return "x".join(f"{lo}+{hi}" for lo, hi in padding)


def parse_descriptor(text: str) -> dict[str, Any]:
    """The arguments of ConvSpec that a descriptor states, by name.

    The first two tokens are the kind and the input shape; the others may come in any order, each
    at most once, and ``pSAME``, ``pVALID``, ``pFULL`` are understood. Raises SpecError.
    """
    if not isinstance(text, str):
        raise SpecError(f"descriptor: {shown(text)}, expected a string such as conv2d:1x8x8x3:o4:k3x3:NHWC")
    kind, *tokens = text.strip().split(":")
    head = _HEAD.fullmatch(kind)
    if not head:
        kinds = [f"{prefix}conv{rank}d" for prefix in ("", "t") for rank in (1, 2, 3)]
        raise unknown("descriptor's first token", kind, kinds)
    if not tokens or not re.fullmatch(_DIMS, tokens[0]):
        what = shown(tokens[0]) if tokens else "nothing"
        raise SpecError(f"descriptor's second token: {what}, expected an input shape such as 1x8x8x3")
    rank = int(head[2])
    shape = _ints(tokens.pop(0))
    if len(shape) != rank + 2:
        raise SpecError(f"descriptor's input shape: {shown(shape)}, expected {rank + 2} dims for {kind}")
    found: dict[str, Any] = {"input_shape": shape, "transposed": bool(head[1])}
    for token in tokens:
        for name, value in _read_token(token, text, rank).items():
            if name in found:
                raise SpecError(f"descriptor's token: {shown(token)}, expected {name} once")
            found[name] = value
    for name, form in (("out_channels", "o<number>"), ("kernel", "k<size>x<size>")):
        if name not in found:
            raise SpecError(f"descriptor: {shown(text)}, expected {name} in it, as {form}")
    return found


def _read_token(token: str, text: str, rank: int) -> dict[str, Any]:
    match = _TOKEN.fullmatch(token)
    if match:
        name = str(match.lastgroup)
        return {name: _token_value(name, match[name], rank)}
    if token in FLAGS:
        return {token: True}
    if token in ("wint8", "wuint8"):
        return {"weight_dtype": token[1:]}
    if token in LAYOUT_NAMES:
        return {"layout": token}
    if token in PADDING_MODES:
        return {"padding_mode": token}
    dtype, slash, out_dtype = token.partition("/")
    if dtype in OUT_DTYPES and (not slash or out_dtype in OUT_DTYPES):
        return {"dtype": dtype, **({"out_dtype": out_dtype} if slash else {})}
    if token.partition("=")[0] in ACTIVATIONS:
        return {"activation": canonical_activation(token)}
    if token in ALGORITHMS:
        return {"algorithm": token}
    names = (*LAYOUT_NAMES, *OUT_DTYPES, *FLAGS, *ACTIVATIONS, *ALGORITHMS, *PADDING_MODES)
    raise SpecError(
        f"descriptor's token: {shown(token)} in {shown(text)}, expected o, k, s, p, d, g, op, sh with sizes, "
        f"a layout, a dtype, bias, residual, an activation, an algorithm, a padding mode{_hint(token, names)}"
    )


def _token_value(name: str, text: str, rank: int) -> Any:
    if name in ("out_channels", "groups", "shuffle"):
        return int(text)
    if name == "padding" and text in NAMED_PADDINGS:
        return text
    values = tuple(_pair(part) for part in text.split("x")) if name == "padding" else _ints(text)
    return values * rank if len(values) == 1 else values  # one value stands for every dim


def _pair(text: str) -> tuple[int, int]:
    lo, _, hi = text.partition("+")
    return int(lo), int(hi or lo)


def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("x"))
