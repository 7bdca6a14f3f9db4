"""ONNX's own node cases of every operator that networks have, as networks: none fails, and what is not
supported says why."""

import pytest
from network_cases import cases_of, compiled, outcome, passing, written_out

from tvmconv.network.spellings import IMPORTERS

LAYERS = (
    "AveragePool", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "GlobalAveragePool",
    "GlobalMaxPool", "MaxPool", "QLinearConv",
)  # fmt: skip

# What the reason says where cases of an operator are not supported; those of all others pass.
UNSUPPORTED = {
    "BatchNormalization": "training_mode", "Dropout": "training_mode", "MaxPool": "Indices",
    "Cast": "element type", "CastLike": "element type", "Equal": "element type text",
    "Identity": "element type text", "Range": "bfloat16", "GatherND": "batch_dims", "Scan": "opset 8",
    "Loop": "element type text", "QuantizeLinear": ("element type", "block_size"),
    "DequantizeLinear": ("element type", "block_size"),
}  # fmt: skip


@pytest.mark.parametrize("operator", sorted({*IMPORTERS, *LAYERS}))
def test_node_cases(operator):
    cases = cases_of(operator)
    assert cases
    reasons = [reason for case in cases if (reason := outcome(case))]
    for reason in reasons:
        known = UNSUPPORTED[operator]
        assert any(why in reason for why in ([known] if isinstance(known, str) else known))
    assert len(reasons) < len(cases)


def test_a_sample_compiled():
    """The last case of every fourth operator, as functions of one library."""
    sample = [case for operator in sorted(IMPORTERS)[::4] for case in passing(operator)[-1:]]
    count, refused = compiled(sample, "x86-64-v3")
    assert count > 15
    assert all("no elements" in why or "no steps" in why for why in refused.values()), refused


def test_cases_written_out():
    """Operators that ONNX spells by others: graphs of several nodes."""
    reasons = [reason for case in written_out({*IMPORTERS, *LAYERS}) if (reason := outcome(case))]
    for reason in reasons:
        assert "computed while the network runs" in reason or "element type" in reason
