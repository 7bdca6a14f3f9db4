"""How ONNX spells each operator, and what it becomes."""

from __future__ import annotations

from tvmconv.network.spellings import elementwise, moving, recurring, reducing, resizing
from tvmconv.network.spellings.call import Call, Importer

IMPORTERS: dict[str, Importer] = {
    **elementwise.IMPORTERS, **moving.IMPORTERS, **reducing.IMPORTERS, **resizing.IMPORTERS,
    **recurring.IMPORTERS,
}  # fmt: skip

__all__ = ["IMPORTERS", "Call", "Importer"]
