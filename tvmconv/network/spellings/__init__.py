"""How ONNX spells each operator, and what it becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvmconv.network.spellings import (
    elementwise,
    indexing,
    looping,
    moving,
    quantising,
    recurring,
    reducing,
    resizing,
    spectra,
)  # fmt: skip
from tvmconv.network.spellings.call import Call, Importer
from tvmconv.onnx.reading.graph import is_standard

if TYPE_CHECKING:
    from onnx import NodeProto

IMPORTERS: dict[str, Importer] = {
    **elementwise.IMPORTERS, **moving.IMPORTERS, **reducing.IMPORTERS, **resizing.IMPORTERS,
    **recurring.IMPORTERS, **indexing.IMPORTERS, **quantising.IMPORTERS, **spectra.IMPORTERS,
    **looping.IMPORTERS,
}  # fmt: skip

def importer_of(node: NodeProto) -> Importer | None:
    """What reads a node; None where nothing does."""
    if node.domain == "com.microsoft":
        return recurring.OF_ONNXRUNTIME.get(node.op_type)
    return IMPORTERS.get(node.op_type) if is_standard(node) else None


__all__ = ["IMPORTERS", "Call", "Importer", "importer_of"]
