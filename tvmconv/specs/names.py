"""Names used in specs: layouts, element types, paddings, algorithms."""

from __future__ import annotations

# Channels-first and channels-last name of each number of spatial dims; the 2-D ones are accepted at every
# rank.
LAYOUTS: dict[int, tuple[str, str]] = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
LAYOUT_NAMES = tuple(name for pair in LAYOUTS.values() for name in pair)

DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint8")
OUT_DTYPES = (*DTYPES, "int32")

ALGORITHMS = ("direct", "im2col", "winograd", "strassen")
NAMED_PADDINGS = ("SAME", "VALID", "FULL")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
