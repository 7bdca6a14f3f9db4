"""Targets of the fuzzer that are calls: descriptors, specs, arrays."""

from __future__ import annotations

import contextlib
import io
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_mutations import Rng, text_

import tvmconv
from tvmconv.base.errors import Error
from tvmconv.specs.kinds import parse_spec

_DESCRIPTORS = (
    "conv2d:1x112x112x32:o64:k3x3:s2:p1:NHWC:float32:bias:relu6",
    "conv1d:2x3x40:o8:k5:d2:pFULL:NCW:float16:gelu",
    "conv3d:1x4x5x6x7:o4:k3x3x3:p1x0x2:g2:NCDHW:float64:bias:residual:prelu",
    "conv2d:1x8x9x9:o8:k3x3:winograd",
    "tconv2d:1x9x9x16:o32:k4x4:s2:p1:op1:NHWC:uint8/int8:bias:residual:clip=-1,2.5",
    "conv2d:1x8x9x9:o8:k1x1:sh2",
    "maxpool2d:1x56x56x64:k3x3:s2:p1:ceil:NHWC:float32",
    "avgpool1d:1x3x9:k3:countpad:NCW:bfloat16",
    "deform2d:1x64x28x28:o64:k3x3:p1:og2:mask:bias:NCHW:float32",
    "conv2d:1x9x9x8:o8:k3x3:p0+1x2+0:NHWC:int8/int32",
)


def draw_descriptor(rng: Rng) -> Any:
    return text_(rng, rng.choice(_DESCRIPTORS))


def run_descriptor(text: str) -> None:
    spec = parse_spec(text)
    assert parse_spec(str(spec)) == spec, f"{text!r} is {spec}, which is read as {parse_spec(str(spec))}"
    assert str(spec).isprintable() and spec.flops >= 0 and spec.bytes >= 0


def draw_specs(rng: Rng) -> Any:
    return [random_spec(rng) for _ in range(3)]


def random_spec(rng: Rng) -> str:
    while True:
        text = _candidate(rng)
        try:
            spec = parse_spec(text)
        except Error:
            continue
        sizes = [
            np.prod(shape)
            for shape in (spec.input_shape, spec.output_shape, getattr(spec, "weight_shape", ()))
        ]
        if max(sizes) <= 40_000:
            return str(spec)


def _candidate(rng: Rng) -> str:
    kind = rng.choice(["conv", "conv", "conv", "tconv", "maxpool", "avgpool", "deform"])
    rank = 2 if kind == "deform" else rng.choice([1, 2, 2, 2, 3])
    pick = rng.choice
    last = kind != "deform" and rng.random() < 0.5
    groups = pick([1, 1, 2, 3, 8, 17])
    channels = groups * pick([1, 1, 2, 3, 4, 5, 8, 16, 17, 33])
    spatial = [pick([1, 2, 3, 5, 7, 8, 13, 16, 31]) for _ in range(rank)]
    x = [pick([0, 1, 1, 1, 2, 3]), *([*spatial, channels] if last else [channels, *spatial])]
    words = [f"{kind}{rank}d", "x".join(map(str, x))]
    per_dim = lambda values: "x".join(str(pick(values)) for _ in range(rank))  # noqa: E731
    if kind in ("conv", "tconv", "deform"):
        words.append(f"o{groups * pick([1, 1, 2, 3, 8, 13])}")
    words += [f"k{per_dim([1, 2, 3, 3, 4, 5, 7])}", f"s{per_dim([1, 1, 2, 3])}", f"d{per_dim([1, 1, 2, 3])}"]
    words.append(pick(["p0", "p1", "pSAME", f"p{per_dim(['0+1', '2+0', '1+1', '3+2'])}"]))
    if kind in ("conv", "tconv"):
        words += [
            f"g{groups}",
            *pick([[], [], [], [pick(["direct", "im2col", "winograd", "strassen"])], ["op1"], ["sh2"]]),
        ]
        words.append(
            pick(
                ["float32"] * 5
                + [
                    "float64",
                    "float16",
                    "bfloat16",
                    "int8/int32",
                    "uint8/int32",
                    "int8",
                    "uint8",
                    "uint8/int8",
                ]
            )
        )
        words += [w for w in ("bias", "residual") if rng.random() < 0.4]
        words += pick(
            [
                [],
                ["relu"],
                ["relu6"],
                ["clip=-1,2.5"],
                ["gelu"],
                ["tanh"],
                ["prelu"],
                ["hard_swish"],
                ["leaky_relu=0.2"],
            ]
        )
    elif kind == "deform":
        words += [f"og{pick([1, 2])}", *[w for w in ("mask", "bias") if rng.random() < 0.5]]
    else:
        words += [
            *[w for w in ("ceil", "countpad") if rng.random() < 0.3],
            pick(["float32", "float32", "float16", "bfloat16", "float64", "int8"]),
        ]
    return ":".join([*words, "NHWC" if last else "NCHW"])


def run_specs(descriptors: list[str]) -> None:
    from guarded_libraries import verify_guarded

    with tempfile.TemporaryDirectory() as folder:
        path = tvmconv.compile(list(dict.fromkeys(descriptors))).export(Path(folder, "fuzzed.so"))
        with contextlib.redirect_stdout(io.StringIO()):
            verify_guarded(str(path))


_FUNCTIONS = {
    "dw": "conv2d:1x9x11x24:o24:k3x3:p1:g24:NHWC:float32:bias:relu6",
    "half": "conv1d:1x3x9:o4:k3:NCW:float16",
    "quantised": "conv2d:1x5x5x8:o8:k3x3:NHWC:int8:bias",
    "pool": "maxpool2d:1x6x6x8:k2x2:NHWC:float32",
}
_DTYPES = (
    "float32",
    "float32",
    "float32",
    "float64",
    "float16",
    "int8",
    "uint8",
    "int32",
    "int64",
    "bool",
    "complex64",
    "object",
    ">f4",
    "U3",
    "S2",
    "datetime64[s]",
    [["a", "f4"]],
)


@lru_cache(maxsize=1)
def module() -> tvmconv.Module:
    return tvmconv.compile(_FUNCTIONS).load()


def draw_arrays(rng: Rng) -> Any:
    name = rng.choice(sorted(_FUNCTIONS))
    compiled = module()
    arguments = [_draw_array(rng, a.shape, a.dtype) for a in compiled[name].arguments]
    if rng.random() < 0.1:
        del arguments[rng.randrange(len(arguments))]
    return {
        "function": name,
        "arguments": arguments[:-1],
        "out": rng.choice([None, arguments[-1]]),
        "bind": rng.random() < 0.5,
    }


def _draw_array(rng: Rng, shape: tuple[int, ...], dtype: str) -> Any:
    if rng.random() < 0.06:
        return {"value": rng.choice([None, 0, 1.5, "x", [], [[1.0]], {"a": 1}, True])}
    facts: dict[str, Any] = {"shape": list(shape), "dtype": dtype}
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
        match rng.randrange(6):
            case 0 if shape:
                facts["shape"][rng.randrange(len(facts["shape"]))] = rng.choice([0, 1, 2, 9, 24, 25])
            case 1:
                facts["shape"] = facts["shape"] + [1] if rng.random() < 0.5 else facts["shape"][1:] or [1]
            case 2:
                facts["dtype"] = rng.choice(_DTYPES)
            case 3:
                facts["how"] = rng.choice(
                    [
                        "readonly",
                        "fortran",
                        "reversed",
                        "strided",
                        "broadcast",
                        "offset1",
                        "masked",
                        "subclass",
                        "memoryview",
                        "list",
                        "nan",
                    ]
                )
            case 4:
                facts["shape"] = facts["shape"][::-1]
            case 5:
                facts["same"] = True  # as the first argument's memory
    return facts


def _array(facts: dict[str, Any], first: Any = None) -> Any:
    if "value" in facts:
        return facts["value"]
    shape, dtype = tuple(facts["shape"] or (1,)), facts["dtype"]
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    dtype = np.dtype([tuple(field) for field in dtype] if isinstance(dtype, list) else dtype)
    if (
        facts.get("same")
        and isinstance(first, np.ndarray)
        and first.dtype == dtype
        and first.size >= np.prod(shape)
    ):
        return first.reshape(-1)[: int(np.prod(shape))].reshape(shape)
    a = np.zeros(shape, dtype)
    match facts.get("how"):
        case "readonly":
            a.flags.writeable = False
        case "fortran":
            a = np.asfortranarray(a)
        case "reversed":
            a = a[::-1]
        case "strided":
            a = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2]
        case "broadcast":
            a = np.broadcast_to(np.zeros((1,) * len(shape), dtype), shape)
        case "offset1" if not dtype.hasobject:
            a = np.zeros(a.nbytes + 1, np.uint8)[1:].view(dtype).reshape(shape) if a.nbytes else a
        case "masked":
            a = np.ma.masked_array(a, mask=False)
        case "subclass":
            a = a.view(type("Subclass", (np.ndarray,), {}))
        case "memoryview" if dtype.kind in "fiu" and dtype.isnative:
            a = memoryview(a)
        case "list" if a.size < 100:
            a = a.tolist()
        case "nan" if dtype.kind == "f":
            a += np.nan
    return a


def run_arrays(case: Any) -> None:
    function = module()[case["function"]]
    values: list[Any] = []
    for facts in case["arguments"]:
        values.append(_array(facts, values[0] if values else None))
    if not values:
        return  # Python's own error for a call without x
    out = None if case["out"] is None else _array(case["out"], values[0] if values else None)
    if case["bind"]:
        function.bind(*values[1:])(*values[:1], out=out)
    else:
        function(*values, out=out)
