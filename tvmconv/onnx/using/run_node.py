"""One ONNX node, run by a compiled kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.dtypes import name_of
from tvmconv.base.errors import SpecError
from tvmconv.base.messages import unknown
from tvmconv.onnx.reading.attributes import INTEGER_INPUTS, QLINEAR_INPUTS, conv_spec
from tvmconv.onnx.reading.graph import Value, node_name, told_of
from tvmconv.onnx.reading.model import require_onnx
from tvmconv.onnx.recognising.deformable import run_deform
from tvmconv.onnx.recognising.integer_layers import integer_spec
from tvmconv.onnx.recognising.pooling import REDUCTIONS, run_pool, run_reduction
from tvmconv.onnx.recognising.transposed import transposed_spec
from tvmconv.runtime.arrays import check_unmasked

if TYPE_CHECKING:
    from onnx import NodeProto

Array = np.ndarray[Any, Any]
Inputs = Sequence["Array | None"]


def run_node(
    node: NodeProto, inputs: Inputs | Mapping[str, Array | None], *, target: str = "native"
) -> list[Array]:
    """The outputs of an ONNX node, by its ONNX meaning, computed by a kernel that is compiled and cached.

    ``inputs``: arrays in the node's order, None for one that is left out; or arrays by the names of the
    node's inputs. Raises SpecError for an operator that tvmconv does not have, and for attributes and arrays
    that do not fit, naming the node.
    """
    require_onnx()
    run = _OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if run is None:
        kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise SpecError(f"node {node_name(node)}: {unknown('operator', kind, _OPERATORS)}")
    if isinstance(inputs, Mapping):
        missing = [name for name in node.input if name and name not in inputs]
        if missing:
            raise SpecError(f"node {node_name(node)}: inputs: no {', '.join(missing)}")
        inputs = [inputs[name] if name else None for name in node.input]
    for value in inputs:
        check_unmasked(f"node {node_name(node)}", value)
    arrays = [None if value is None else np.asarray(value) for value in inputs]
    while arrays and arrays[-1] is None:
        arrays.pop()
    return run(node, arrays, target)


def _conv(node: NodeProto, arrays: list[Array | None], target: str) -> list[Array]:
    from tvmconv.frontends.api import function

    x, w, bias = _arguments(node, arrays, ("x", "w", "bias"), required=2)
    describe = transposed_spec if node.op_type == "ConvTranspose" else conv_spec
    spec = describe(node, x.shape, w.shape, bias=bias is not None, dtype=name_of(x))
    with told_of(node):
        return [function(spec, target)(x, w, bias)]


def _conv_integer(node: NodeProto, arrays: list[Array | None], target: str) -> list[Array]:
    x, w, x_zero, w_zero = _arguments(node, arrays, INTEGER_INPUTS, required=2)
    return _integers(node, x, w, None, "int32", [x_zero, w_zero], target)


def _qlinear_conv(node: NodeProto, arrays: list[Array | None], target: str) -> list[Array]:
    x, xs, xz, w, ws, wz, ys, yz, bias = _arguments(node, arrays, QLINEAR_INPUTS, required=8)
    return _integers(node, x, w, bias, name_of(yz), [xs, xz, ws, wz, ys, yz], target)


def _integers(
    node: NodeProto,
    x: Array,
    w: Array,
    bias: Array | None,
    out_dtype: str,
    quantisation: list[Any],
    target: str,
) -> list[Array]:
    from tvmconv.frontends.api import function

    seen = (Value(array.shape, name_of(array)) for array in (x, w))
    spec = integer_spec(node, *seen, bias=bias is not None, out_dtype=out_dtype)
    with told_of(node):
        return [function(spec, target)(x, w, bias, *quantisation)]


def _arguments(
    node: NodeProto, arrays: list[Array | None], names: Sequence[str], *, required: int
) -> list[Any]:
    """`arrays` filled up with None to one for each of `names`; raises SpecError for too few or too many."""
    given = [*arrays, *[None] * (len(names) - len(arrays))]
    lacking = [name for name, array in zip(names[:required], given, strict=False) if array is None]
    if lacking or len(given) > len(names):
        what = f"no {', '.join(lacking)}" if lacking else f"{len(given)} of them"
        wanted = f"expected {', '.join(names[:required])}"
        optional = f" and maybe {', '.join(names[required:])}" if names[required:] else ""
        raise SpecError(f"node {node_name(node)}: inputs: {what}, {wanted}{optional}")
    return given


_OPERATORS: dict[str, Callable[[Any, list[Array | None], str], list[Array]]] = {
    "Conv": _conv, "ConvInteger": _conv_integer, "ConvTranspose": _conv, "QLinearConv": _qlinear_conv,
    "AveragePool": run_pool, "DeformConv": run_deform,
    "GlobalAveragePool": run_pool, "GlobalMaxPool": run_pool, "MaxPool": run_pool,
    **dict.fromkeys(REDUCTIONS, run_reduction),
}  # fmt: skip
