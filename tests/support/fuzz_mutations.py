"""Random changes to text, bytes and JSON, for the fuzzer."""

from __future__ import annotations

import base64
import random
from typing import Any

Rng = random.Random
_LETTERS = "0123456789xkspdgo:+=,.-_ \n\x1b\x00é€NHWCfloatrelu"


def text_(rng: Rng, text: str) -> str:
    """``text`` with a few changes."""
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        at, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        match rng.randrange(7):
            case 0:
                text = text[:at] + rng.choice(_LETTERS) + text[at:]
            case 1:
                text = text[:at] + text[at + 1 :]
            case 2:
                text = text[:at] + text[at:end] * rng.choice([2, 2, 40]) + text[end:]
            case 3:
                text = text[:at] + str(rng.choice(_NUMBERS)) + text[at + 1 :]
            case 4:
                tokens = text.split(":")
                rng.shuffle(tokens)
                text = ":".join(tokens)
            case 5:
                text = text[:at] + text[end:]
            case 6:
                text = text[:at] + text[at : at + 1].swapcase() + text[at + 1 :]
    return text


_NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    64,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32,
    2**63,
    10**30,
    -(2**31),
    0.5,
    "nan",
    "1e9",
)


def bytes_(rng: Rng, data: bytes) -> bytes:
    """``data`` with a few changes."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(len(out) + 1) if rng.random() < 0.7 else min(len(out), rng.randrange(512))
        match rng.randrange(6):
            case 0:
                out[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del out[at:]
            case 2:
                out[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 4, 300])))
            case 3:
                out[at : at + 8] = rng.choice([0, 1, 2**31, 2**63, 2**64 - 1]).to_bytes(8, "little")
            case 4 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 5:
                del out[at : at + rng.choice([1, 8, 300])]
    return bytes(out)


_VALUES = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**63,
    10**400,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "a",
    "x" * 5000,
    "a\nb",
    "\x1b[2J",
    [],
    [[]],
    {},
    {"a": 1},
    [0],
    [None],
    ["a"],
)


def json_(rng: Rng, value: Any) -> Any:
    """``value`` with one part of it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        match rng.randrange(8):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, rng.choice(["z", "", "a\nb", text_(rng, key)]): value[key]}
            case _:
                return {**value, key: json_(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        match rng.randrange(8):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value[: at + 1], *value[at:]]
            case _:
                return [*value[:at], json_(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, str) and rng.random() < 0.5:
        return text_(rng, value)
    if isinstance(value, int) and rng.random() < 0.5:
        return value + rng.choice([-1, 1, 16, 1 << 31])
    return rng.choice(_VALUES)


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode()
