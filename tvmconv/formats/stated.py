"""Whether a manifest states all that its readers rely on, in the types that they expect.

Its SHA-256 detects damage; this is for a file made by something else, or rehashed after an edit. It is part
of the runtime.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable
from typing import Any

from tvmconv.base.dtypes import ITEMSIZE

_Check = Callable[[str, Any], None]
_LARGEST = 1 << 62  # of a number; bytes and elements are well below it

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = _shown.maxlong = 60


class Misstated(ValueError):
    """``key: value, expected something``, in one line."""


def check(manifest: Any) -> None:
    """Raises Misstated with the first key that is missing or has a value of another kind."""
    _MANIFEST("", manifest)
    names = [function["name"] for function in manifest["functions"]]
    _distinct("functions", names)
    for i, function in enumerate(manifest["functions"]):
        _check_function(f"functions[{i}]", function)


def _wrong(key: str, value: Any, expected: str) -> Misstated:
    return Misstated(f"{key or 'manifest'}: {_shown.repr(value)}, expected {expected}")


def _a(kind: type | tuple[type, ...], expected: str) -> _Check:
    def checked(key: str, value: Any) -> None:
        if not isinstance(value, kind):
            raise _wrong(key, value, expected)

    return checked


def _number(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST:
        raise _wrong(key, value, "an integer of 0 or more")


def _match(pattern: str, expected: str) -> _Check:
    def checked(key: str, value: Any) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise _wrong(key, value, expected)

    return checked


def _one_of(*names: str) -> _Check:
    def checked(key: str, value: Any) -> None:
        if not isinstance(value, str) or value not in names:
            raise _wrong(key, value, f"one of {', '.join(names)}")

    return checked


def _list(of: _Check, fewest: int = 0) -> _Check:
    def checked(key: str, value: Any) -> None:
        if not isinstance(value, list) or len(value) < fewest:
            raise _wrong(key, value, f"a list of {fewest} or more")
        for i, element in enumerate(value):
            of(f"{key}[{i}]", element)

    return checked


def _table(needed: dict[str, _Check], possible: dict[str, _Check] | None = None) -> _Check:
    """An object with these keys; others are allowed, since later versions add some."""

    def checked(key: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise _wrong(key, value, "an object")
        dot = f"{key}." if key else ""
        for name, of in needed.items():
            if name not in value:
                raise Misstated(f"{dot}{name}: missing")
            of(f"{dot}{name}", value[name])
        for name, of in (possible or {}).items():
            if name in value:
                of(f"{dot}{name}", value[name])

    return checked


_TEXT = _a(str, "a string")
_IDENTIFIER = _match(r"[A-Za-z][A-Za-z0-9_]{0,1023}", "a C identifier")
_SHAPE = _list(_number)
_TARGET = _table(
    {"name": _TEXT, "triple": _TEXT, "cpu": _TEXT, "arch": _TEXT, "requires": _list(_TEXT)},
    {"sms": _list(_number, 1)},
)
_ARGUMENT = _table({
    "name": _IDENTIFIER, "shape": _SHAPE, "dtype": _one_of(*ITEMSIZE), "layout": _TEXT,
    "role": _one_of("input", "weight", "output"),
})  # fmt: skip
_RESULT = _table({
    "value": _TEXT, "at": _TEXT, "offset": _number, "shape": _SHAPE, "dtype": _one_of(*ITEMSIZE),
}, {"pitch": _number})  # fmt: skip
_FACTS = _table(
    {"flops": _number, "bytes": _number, "results": _list(_RESULT)},
    {"algorithm": _TEXT, "combines": _a(bool, "true or false")},
)
_STEPS = {"steps": _list(_TEXT, 1), "sources": _list(_list(_TEXT)), "step_facts": _list(_FACTS)}
_PLAN = _table(_STEPS)
_BUFFERS = _list(_table({
    "value": _TEXT, "offset": _number, "bytes": _number, "first": _number, "last": _number,
}))  # fmt: skip
_FUNCTION = _table(
    {"name": _IDENTIFIER, "descriptor": _TEXT, "arguments": _list(_ARGUMENT, 2), "packed_bytes": _number,
     "flops": _number, "bytes": _number, "schedule": _a(dict, "an object")},
    {"symbol": _IDENTIFIER, "baked": _a(bool, "true or false"), "onnx_nodes": _list(_TEXT),
     **_STEPS, "plans": _a(dict, "an object"), "buffers": _a(dict, "an object"), "group": _TEXT,
     "model_shapes": _a(dict, "an object")},
)  # fmt: skip
_ONNX = _table({
    "model": _TEXT, "digest": _TEXT, "layout": _TEXT, "shapes": _a(dict, "an object"),
}, {
    "layers": _list(_table({
        "node": _TEXT, "function": _IDENTIFIER, "inputs": _a(dict, "an object"), "output": _TEXT,
    })), "blocks": _a(bool, "true or false"),
})  # fmt: skip
_WEIGHTS = _table({
    "file": _match(r"[^/\0]+", "the name of a file"), "bytes": _number,
    "sha256": _match("[0-9a-f]{64}", "64 hexadecimal digits"),
})  # fmt: skip
_MANIFEST = _table(
    {"format": _number, "abi": _number, "kind": _one_of("shared", "archive", "object"), "tvmconv": _TEXT,
     "tvm": _TEXT, "prefix": _IDENTIFIER, "target": _TARGET, "variants": _list(_TARGET, 1),
     "functions": _list(_FUNCTION, 1), "sha256": _match("[0-9a-f]{64}", "64 hexadecimal digits")},
    {"libc": _a((str, type(None)), "a string or null"), "onnx": _ONNX, "weights": _WEIGHTS},
)  # fmt: skip


def _distinct(key: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen or seen.add(name):
            raise Misstated(f"{key}: {name} twice, expected names that differ")


def _check_function(key: str, function: dict[str, Any]) -> None:
    """Arguments in the order of a call: the first an input, only the last written; for a function of several
    steps, inputs and then outputs."""
    arguments = function["arguments"]
    roles = [argument["role"] for argument in arguments]
    for target, plan in function.get("plans", {}).items():
        _PLAN(f"{key}.plans.{target}", plan)
    for target, buffers in function.get("buffers", {}).items():
        _BUFFERS(f"{key}.buffers.{target}", buffers)
    if "steps" in function:
        if roles != sorted(roles) or set(roles) != {"input", "output"}:
            raise _wrong(f"{key}.arguments", roles, "inputs first, then outputs")
    elif roles[0] != "input" or roles[-1] != "output" or roles.count("output") > 1:
        raise _wrong(f"{key}.arguments", roles, "an input first, and one output, last")
    if bool(function["packed_bytes"]) != ("weight" in roles):
        expected = "some with weights, and 0 without"
        raise _wrong(f"{key}.packed_bytes", function["packed_bytes"], expected)
    _distinct(f"{key}.arguments", [argument["name"] for argument in arguments])
    for i, argument in enumerate(arguments):
        if math.prod(argument["shape"]) * ITEMSIZE[argument["dtype"]] >= _LARGEST:
            raise _wrong(f"{key}.arguments[{i}].shape", argument["shape"], "an array that fits into memory")
