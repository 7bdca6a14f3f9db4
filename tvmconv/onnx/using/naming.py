"""What the functions of a model's library are called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tvmconv.base.errors import SpecError
from tvmconv.base.messages import near
from tvmconv.compiler.artifact.names import is_free
from tvmconv.onnx.recognising.layers import Extraction, Layer

WAYS = ("node", "hash")


def functions_of(found: Extraction, bake_weights: bool, names: str = "node") -> dict[str, list[Layer]]:
    """The layers that each function of a library computes, by the function's name.

    ``names``: node, a function a layer, called by its node, so that it keeps its name when the model is
    trained again; hash, by kind and a hash of the descriptor (and of weights that are baked in), layers that
    are equal being one function; or the path of a file of lines NAME=NODE, where nodes that it leaves out are
    called as by node. Raises SpecError.
    """
    if names == "hash":
        return _by_hash(found, bake_weights)
    chosen = {} if names == "node" else _read(names, found)
    taken = {name.upper() for name in chosen.values()}
    named: dict[str, list[Layer]] = {}
    for layer in found.layers:
        name = chosen.get(layer.name) or _free(_identifier(layer), taken)
        taken.add(name.upper())
        named[name] = [layer]
    return named


def can_be_baked(layer: Layer) -> bool:
    """Whether a library can hold all that the layer's function is bound to."""
    return bool(layer.weights) and layer.constant


def _by_hash(found: Extraction, bake_weights: bool) -> dict[str, list[Layer]]:
    from tvmconv.compiler.compile import default_name

    named: dict[str, list[Layer]] = {}
    for layer in found.layers:
        name = default_name(layer.spec)
        if bake_weights and can_be_baked(layer):
            name = f"{name}_{layer.weights_digest[:8]}"
        named.setdefault(name, []).append(layer)
    return named


def _identifier(layer: Layer) -> str:
    """A C identifier that is like the node's name: "/stem/conv.0/Conv" is stem_conv_0_Conv."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", layer.name).strip("_")[:200]
    return name if name[:1].isalpha() and is_free(name) else f"{layer.spec.kind}_{name}".rstrip("_")


def _free(name: str, taken: set[str]) -> str:
    """``name``, or with the first number behind it that makes it new; macros in headers are in capitals."""
    number, candidate = 1, name
    while candidate.upper() in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _read(path: str, found: Extraction) -> Mapping[str, str]:
    """Names by node, of a file of lines NAME=NODE; blank lines, and any that begin with "#", are skipped."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        ways = ", ".join(WAYS)
        raise SpecError(f"names: {path!r}, expected {ways}, or a file of lines NAME=NODE") from None
    nodes = {layer.name for layer in found.layers}
    chosen: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, node = (part.strip() for part in line.partition("="))
        if not equals:
            raise SpecError(f"names: {path}:{number}: {line!r}, expected NAME=NODE")
        if node not in nodes:
            like = ", ".join(near(node, nodes, most=3) or sorted(nodes)[:3])
            raise SpecError(f"names: {path}:{number}: node {node!r}, expected a layer's, as {like}")
        if node in chosen or name.upper() in {one.upper() for one in chosen.values()}:
            raise SpecError(f"names: {path}:{number}: {line!r}, expected each node and each name once")
        chosen[node] = name
    return chosen
