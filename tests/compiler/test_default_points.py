"""Default points that were measured against others: what was slower, some of it by three times, stays out."""

from __future__ import annotations

import pytest

from tvmconv.compiler import codegen
from tvmconv.schedules.machines import presets, resolve
from tvmconv.specs.kinds import parse_spec

POINTS = {
    # Images far larger than the cache: strips of few rows, each worked from top to bottom at once; where a
    # block of channels is one cache line, whole pixels, across where the next row finds its rows near.
    ("x86-64-v3", "conv2d:1x512x512x32:o32:k3x3:p1:g32:NHWC:float32"): {"walk": "down", "block": 32},
    ("znver3", "conv2d:1x256x256x64:o64:k3x3:s2:p1:g64:NHWC:float32"): {"rows": 4, "block": 64},
    ("znver3", "conv2d:1x150x150x144:o144:k3x3:p1:g144:NHWC:float32"): {"block": 72, "order": "pixels"},
    ("znver3", "conv2d:1x112x112x64:o64:k3x3:p1:g64:NHWC:float32"): {"block": 16, "order": "pixels"},
    ("znver3", "conv3d:1x16x28x28x128:o128:k5x1x1:p2x0x0:g128:NHWC:float32"): {"order": "pixels"},
    ("x86-64-v4", "conv2d:1x256x256x64:o64:k3x3:s2:p1:g64:NHWC:float32"): {"width": 1, "walk": "across"},
    ("x86-64-v4", "conv2d:1x256x256x64:o64:k3x3:p1:g64:NHWC:float32:direct"): {"width": 1, "walk": "down"},
    ("znver4", "conv2d:1x100x100x384:o384:k3x3:s2:p1:g384:NHWC:float32"): {"block": 384, "walk": "across"},
    ("znver4", "conv2d:1x65x65x728:o728:k3x3:s2:p1:g728:NHWC:float32"): {"width": 4, "order": "pixels"},
    ("znver4", "conv2d:1x112x112x64:o64:k3x3:s2:p1:g64:NHWC:float32"): {"width": 4, "walk": "down"},
    ("znver4", "conv2d:4x112x112x64:o64:k3x3:s2:p1:g64:NHWC:float32"): {"width": 1, "walk": "across"},
    ("znver4", "conv2d:1x150x150x144:o144:k3x3:p1:g144:NHWC:float16"): {"width": 2, "block": 48},
    ("x86-64-v4", "conv2d:1x112x112x32:o32:k3x3:p1:g32:NHWC:float32:direct"): {"width": 4, "walk": "down"},
    ("znver5", "conv2d:1x56x56x256:o256:k3x3:s2:p1:g256:NHWC:float32"): {"order": "pixels", "walk": "across"},
    # Kernels along one dim: channels side by side, since there is nothing to share with the next pixel.
    ("x86-64-v4", "conv3d:1x16x28x28x128:o128:k5x1x1:p2x0x0:g128:NHWC:float32"): {"width": 1, "block": 128},
    # Large kernels: wide tiles, which load each cache line rarely.
    ("x86-64-v4", "conv2d:1x28x28x256:o256:k7x7:p3:g256:NHWC:float32"): {"width": 7, "block": 32},
    ("x86-64-v4", "conv2d:1x56x56x128:o128:k7x7:p3:g128:NHWC:float32"): {"width": 8, "walk": "down"},
    ("x86-64-v4", "conv2d:1x112x112x96:o96:k7x7:p3:g96:NHWC:float32"): {"block": 16, "walk": "across"},
    ("x86-64-v4", "conv2d:1x160x160x72:o72:k5x5:s2:p2:g72:NHWC:float32"): {"block": 32, "walk": "down"},
    # Rows of taps far apart: tiles that follow each other share nothing below, and lines beside.
    ("x86-64-v4", "conv2d:1x33x33x256:o256:k3x3:d6:p6:g256:NHWC:float32"): {"rows": 33, "walk": "across"},
    ("x86-64-v4", "conv2d:1x33x33x256:o256:k3x3:d2:p2:g256:NHWC:float32"): {"rows": 33, "walk": "down"},
    ("x86-64-v4", "conv2d:4x33x33x256:o256:k3x3:s2:p18:d18:g256:NHWC:float32"): {"rows": 1},
    # Depthwise by Winograd's rows: few channels at once, of large images all, of others one vector, unless
    # those share few sets of the cache.
    ("znver4", "conv2d:1x84x84x32:o32:k3x3:p1:g32:NHWC:float32"): {"inner": "vectors", "block": 32},
    ("znver4", "conv2d:1x28x28x58:o58:k3x3:p1:g58:NHWC:float32"): {"inner": "vectors", "block": 58},
    ("znver4", "conv2d:1x65x65x728:o728:k3x3:p1:g728:NHWC:float32"): {"inner": "vectors", "block": 728},
    ("znver4", "conv2d:1x14x14x384:o384:k3x3:p1:g384:NHWC:float32"): {"inner": "vectors", "block": 16},
    ("znver4", "conv2d:1x28x28x256:o256:k3x3:p1:g256:NHWC:float32"): {"inner": "vectors", "block": 16},
    ("sapphirerapids", "conv2d:1x56x56x128:o128:k3x3:p1:g128:NHWC:float32"): {"block": 128},
    ("znver4", "conv2d:1x28x28x512:o512:k3x3:p1:g512:NHWC:float32"): {"walk": "down"},
    # Short rows, vectors as long as a cache line: few channels of a whole row, unless their lines have few
    # places in the cache; sums enough to hide their latency. Wide tiles of what has to be widened.
    ("znver4", "conv2d:1x14x14x576:o576:k3x3:s2:p1:g576:NHWC:float32"): {"width": 7, "block": 16},
    ("x86-64-v4", "conv2d:1x14x14x576:o576:k3x3:s2:p1:g576:NHWC:float32"): {"width": 7, "block": 32},
    ("znver4", "conv2d:1x14x14x768:o768:k3x3:s2:p1:g768:NHWC:float32"): {"width": 4, "block": 32},
    ("znver4", "conv2d:1x14x14x512:o512:k3x3:s2:p1:g512:NHWC:float32"): {"width": 4, "block": 64},
    ("znver4", "conv2d:1x7x7x512:o512:k3x3:p2:d2:g512:NHWC:float32"): {"width": 7, "block": 32},
    ("znver4", "conv2d:1x7x7x1024:o1024:k3x3:p1:g1024:NHWC:float32"): {"width": 4, "block": 64},
    ("znver4", "conv2d:1x28x28x58:o58:k3x3:s2:p1:g58:NHWC:float32"): {"width": 4, "block": 58},
    ("x86-64-v4", "conv2d:1x28x28x192:o192:k3x3:p1:g192:NHWC:float16"): {"width": 7, "block": 32},
    # Images that outgrow a core's cache, the shared one far away: whole pixels; of large kernels, only larger
    # images. Small groups not by Winograd's algorithm then.
    ("sapphirerapids", "conv2d:1x56x56x128:o128:k3x3:s2:p1:g128:NHWC:float32"): {"order": "pixels"},
    ("sapphirerapids", "conv2d:1x28x28x128:o128:k3x3:s2:p1:g128:NHWC:float32"): {"order": "channels"},
    ("sapphirerapids", "conv2d:1x28x28x768:o768:k7x7:p3:g768:NHWC:float32"): {"order": "pixels"},
    ("sapphirerapids", "conv2d:1x56x56x144:o144:k7x7:p3:g144:NHWC:float32"): {"order": "channels"},
    ("sapphirerapids", "conv2d:1x56x56x144:o144:k3x3:p1:g144:NHWC:float32"): {"block": 144},
    ("sapphirerapids", "conv2d:1x56x56x128:o128:k3x3:p1:g32:NHWC:float32"): {"order": "pixels"},
    ("sapphirerapids", "conv3d:1x16x28x28x128:o128:k5x1x1:p2x0x0:g128:NHWC:float32"): {"rows": 4},
    ("sapphirerapids", "conv2d:1x14x14x256:o256:k3x3:p1:g64:NHWC:float32"): {"tall": 4, "wide": 4},
    # Far from a shared cache: not by Winograd's algorithm with a stride, nor by weights that fill a core's.
    ("sapphirerapids", "conv2d:1x28x28x256:o256:k3x3:s2:p1:NHWC:float32"): {"width": 5, "order": "rows"},
    ("sapphirerapids", "conv2d:1x7x7x116:o116:k3x3:p1:NHWC:float32"): {"tall": 2, "wide": 4},
    ("sapphirerapids", "conv2d:1x28x28x128:o128:k3x3:p1:NHWC:float32"): {"tall": 4, "wide": 4},
    # Few groups' channels in a vector: by themselves where too few products share what would be shuffled, and
    # not by Winograd's algorithm where half a vector costs half.
    ("x86-64-v4", "conv2d:1x56x56x192:o48:k1x1:s2:g16:NHWC:float32"): {"block": 3, "strip": 0},
    ("x86-64-v4", "conv2d:1x56x56x64:o64:k1x1:g16:NHWC:float32"): {"block": 16, "walk": "down"},
    ("znver4", "conv2d:1x65x65x64:o64:k3x3:p8:d8:g8:NHWC:float32"): {"block": 8, "order": "channels"},
    # Groups of a large image together; whole vectors of channels by themselves where a part costs less.
    ("x86-64-v4", "conv2d:1x171x171x64:o64:k1x1:g4:NHWC:float32"): {"width": 8, "strip": 1},
    ("znver4", "conv2d:1x75x75x256:o21:k1x1:NHWC:float32"): {"block": 16},
    ("x86-64-v4", "conv2d:1x75x75x256:o21:k1x1:NHWC:float32"): {"block": 21},
    # Blocks of channels of which few sets of the cache have room: all channels of a tile at once, or, for a
    # large kernel, fewer pixels. Other numbers of channels, short rows and sums of many taps don't need it.
    ("x86-64-v3", "conv2d:1x14x14x1024:o1024:k3x3:p1:g1024:NHWC:float32"): {"width": 4, "order": "pixels"},
    ("x86-64-v3", "conv2d:1x56x56x128:o128:k3x3:s2:p1:g128:NHWC:float32"): {"width": 4, "order": "pixels"},
    ("x86-64-v3", "conv2d:1x56x56x144:o144:k3x3:p1:g144:NHWC:float32"): {"width": 4, "order": "channels"},
    ("x86-64-v3", "conv2d:1x7x7x1024:o1024:k3x3:p1:g1024:NHWC:float32"): {"width": 2, "order": "channels"},
    ("x86-64-v3", "conv2d:1x56x56x128:o128:k7x7:p3:g128:NHWC:float32"): {"width": 2, "block": 32},
    ("x86-64-v3", "conv2d:1x28x28x512:o512:k5x5:p2:g512:NHWC:float32"): {"width": 2, "block": 32},
    ("x86-64-v3", "conv2d:1x14x14x512:o512:k5x5:p2:g512:NHWC:float32"): {"width": 4, "order": "channels"},
    ("x86-64-v3", "conv2d:1x14x14x384:o384:k3x3:p1:g384:NHWC:float32"): {"width": 4, "order": "channels"},
    ("x86-64-v3", "conv2d:1x14x14x512:o512:k3x3:p1:g512:NHWC:float32"): {"width": 4, "order": "pixels"},
    ("x86-64-v3", "conv2d:1x14x14x576:o576:k3x3:p1:g576:NHWC:float32"): {"width": 4, "order": "channels"},
    ("x86-64-v3", "conv2d:1x7x7x960:o960:k5x5:p2:g960:NHWC:float32"): {"width": 4, "block": 16},
    # Winograd's tiles: smaller ones, and several rows of them, where weights have to come again and again.
    ("x86-64-v4", "conv2d:1x256x14x14:o256:k3x3:p1:NCHW:float32"): {"tall": 4, "wide": 2, "lines": 2},
    ("x86-64-v4", "conv2d:1x512x28x28:o512:k3x3:p1:NCHW:float32"): {"tall": 4, "wide": 4, "lines": 2},
    ("x86-64-v4", "conv2d:1x64x56x56:o64:k3x3:p1:NCHW:float32"): {"tall": 4, "wide": 4},
    # A vector of pixels, few channels: sums of several rows, which do not wait for each other.
    ("x86-64-v4", "conv2d:1x256x14x14:o256:k7x7:p3:g32:NCHW:bfloat16"): {"channels": 8, "rows": 2},
    ("x86-64-v4", "conv2d:1x64x14x14:o128:k3x3:p1:g32:NCHW:float32"): {"channels": 4, "rows": 4},
    # Words: no tile of a single vector, and less of one where a short loop is unrolled.
    ("x86-64-v3", "conv2d:4x56x56x128:o128:k3x3:p1:g128:NHWC:uint8/int32"): {"order": "pixels"},
    ("x86-64-v3", "conv2d:1x14x14x512:o512:k3x3:p1:g512:NHWC:int8"): {"order": "channels"},
    ("x86-64-v4-vnni", "conv2d:1x14x14x544:o68:k1x1:NHWC:int8"): {"block": 48},
    ("x86-64-v4-vnni", "conv2d:1x28x28x60:o180:k1x1:NHWC:int8"): {"width": 4, "block": 64},
    # Threads divide pixels, in strips of a number that divides the tiles, where they would contend for lines.
    ("znver5", "conv2d:1x112x112x32:o96:k1x1:NHWC:uint8"): {"width": 6, "block": 48, "strip": 51},
    ("x86-64-v3", "conv2d:1x28x28x32:o192:k1x1:NHWC:int8"): {"strip": 44},
    ("x86-64-v3", "conv2d:1x14x14x544:o68:k1x1:NHWC:int8"): {"strip": 33},
    ("znver5", "conv2d:1x28x28x128:o512:k1x1:NHWC:int8"): {"strip": 0},
    # Many groups of few channels: words of several groups in a vector, of which a tile has two.
    ("x86-64-v4-vnni", "conv2d:1x56x56x128:o128:k3x3:p1:g32:NHWC:int8"): {"width": 8, "block": 32},
    # Few input channels, which LLVM unrolls: rows of taps are loops; few stores into a large y at once.
    ("x86-64-v4", "conv2d:1x56x56x64:o384:k3x3:p1:g32:NHWC:float32"): {"width": 8, "taps": 0},
    ("x86-64-v4", "conv2d:1x96x28x28:o384:k3x3:s2:p1:g24:NCHW:float32"): {"width": 14, "taps": 0},
    # Rows of a transposed depthwise layer: as many vectors as on AVX2.
    ("x86-64-v4", "tconv2d:1x64x14x56:o64:k7x1:s2:p3x0:g64:NCHW:float32"): {"vectors": 4},
    # Planes whose lines come from afar, and rows of taps that are loops: wide tiles.
    ("x86-64-v4", "conv2d:1x256x33x33:o256:k3x3:d12:p12:NCHW:float32"): {"width": 11, "block": 32},
    ("x86-64-v4", "conv2d:1x64x28x28:o64:k5x5:s3:p2:NCHW:float32:direct"): {"width": 10, "block": 32},
    ("x86-64-v4", "conv2d:1x64x56x56:o64:k1x7:s2:p0x3:NCHW:float32"): {"width": 10, "taps": 0},
    # Weights that are asked for: blocks of which a core's cache has room for two, and for x.
    ("sapphirerapids", "conv2d:1x512x14x14:o512:k3x3:s2:p1:NCHW:float32"): {"width": 7, "block": 32},
    ("sapphirerapids", "conv2d:1x256x14x14:o512:k3x3:s2:p1:NCHW:float32"): {"width": 7, "block": 48},
    # Weights from a core's second cache: wide tiles, which load them rarely, where x is there as well.
    ("sapphirerapids", "conv2d:1x256x28x28:o256:k3x3:s2:p1:NCHW:float32"): {"width": 14, "block": 32},
    ("sapphirerapids", "conv2d:1x128x56x56:o128:k3x3:s2:p1:NCHW:float32"): {"width": 6, "block": 64},
    # A copy of a few rows at a time, where a core's cache would not hold x and all of its copy.
    ("sapphirerapids", "conv2d:4x64x56x56:o128:k3x3:s2:p1:NCHW:float32"): {"strip": 14},
    ("sapphirerapids", "conv3d:1x64x16x28x28:o144:k1x3x3:p0x1x1:NCHW:float32"): {"strip": 2},
    ("sapphirerapids", "conv2d:1x64x56x56:o128:k3x3:s2:p1:NCHW:float32"): {"strip": 0},
    ("sapphirerapids", "conv2d:1x256x28x28:o512:k3x3:s2:p1:NCHW:float32"): {"strip": 0},
    ("sapphirerapids", "conv2d:1x256x33x33:o256:k3x3:d12:p12:NCHW:float32"): {"width": 11, "block": 32},
    # Strips of an x that comes from a far cache, or that many blocks of channels read.
    ("sapphirerapids", "conv2d:1x64x256x256:o32:k1x1:NCHW:float32"): {"strip": 10, "deep": 2},
    ("sapphirerapids", "conv2d:1x64x56x56:o256:k1x1:NCHW:float32"): {"strip": 6, "width": 64},
    ("sapphirerapids", "conv2d:1x96x112x112:o24:k1x1:NCHW:float32"): {"strip": 1, "vectors": 4},
    # A row of y, which uses x once: in place.
    ("sapphirerapids", "conv2d:1x128x3x224:o128:k3x3:s3:p1:NCHW:float32"): {"width": 5, "block": 64},
    # Many rows alone, of a large x: copied in strips, which read each of them in long runs.
    ("sapphirerapids", "conv1d:1x64x16000:o64:k2:p256+0:d256:NCHW:float32"): {"tall": 1, "long": 480},
    ("x86-64-v4", "conv1d:1x128x16000:o128:k3:p32+0:d16:NCHW:float32"): {"tall": 1, "long": 480},
    ("x86-64-v4", "conv1d:1x48x44100:o48:k5:p32:d16:NCHW:float32"): {"width": 6, "block": 48},
    # A row that every thread copies for itself, unless it is used often.
    ("sapphirerapids", "conv1d:1x1x16000:o64:k16:s8:NCHW:float32"): {"tall": 1, "long": 240},
    ("sapphirerapids", "conv1d:1x1x16000:o512:k10:s5:NCHW:float32"): {"rows": 1, "strip": 0},
    # Strides that are gathered rather than read for each block of channels.
    ("sapphirerapids", "conv2d:1x256x56x56:o512:k1x1:s2:NCHW:float32"): {"along": "pixels", "width": 48},
    ("sapphirerapids", "conv2d:1x1024x14x14:o2048:k1x1:s2:NCHW:float32"): {"along": "channels"},
    # Planes that are copied one by one, the shared cache far away, unless tiny; three vectors at once.
    ("sapphirerapids", "conv2d:1x576x14x14:o576:k3x3:p1:g576:NCHW:float32"): {"planes": 1, "rows": 4},
    ("sapphirerapids", "conv2d:1x576x7x7:o576:k3x3:p1:g576:NCHW:float32"): {"planes": 4},
    ("sapphirerapids", "conv2d:1x116x33x33:o116:k7x7:p3:g116:NCHW:float32"): {"planes": 1, "vectors": 3},
    # Sorted rows: few of them at a time for large kernels.
    ("x86-64-v4", "conv2d:1x256x56x56:o256:k7x7:s2:p3:g256:NCHW:float32"): {"rows": 2, "vectors": 2},
    ("x86-64-v4", "conv2d:1x72x56x56:o72:k5x5:s2:p2:g72:NCHW:float32"): {"rows": 4, "vectors": 2},
    # Small planes one by one, if they make more than a vector.
    ("znver4", "conv2d:1x576x14x14:o576:k3x3:s2:p1:g576:NCHW:float32"): {"planes": 1, "rows": 4},
    ("znver4", "conv2d:1x96x7x7:o96:k3x3:s2:p1:g96:NCHW:float32"): {"planes": 12},
    ("znver4", "conv2d:1x384x16x16:o384:k3x3:s2:p1:g384:NCHW:float32"): {"planes": 12},
    # Taps across rows that a core's cache does not hold together: strips of them, not where weights are many.
    ("znver4", "conv3d:1x16x56x56x144:o64:k3x1x1:p1x0x0:NHWC:float32"): {"width": 6, "strip": 48},
    ("znver4", "conv3d:1x144x16x56x56:o64:k3x1x1:p1x0x0:NCHW:float32"): {"tall": 1, "long": 144},
    ("x86-64-v3", "conv3d:1x16x56x56x144:o64:k3x1x1:p1x0x0:NHWC:float32"): {"width": 6, "strip": 25},
    ("znver4", "conv3d:1x32x28x28x64:o64:k5x1x1:p2x0x0:NHWC:float32"): {"strip": 0},
    ("znver4", "conv3d:1x8x14x14x576:o256:k3x1x1:p1x0x0:NHWC:float32"): {"strip": 0},
    # Planes that do not fit the core's cache: all channels of a tile before the next.
    ("x86-64-v4", "conv2d:1x96x56x56:o24:k1x1:NCHW:float32"): {"strip": 1},
    ("x86-64-v4", "conv2d:1x96x28x28:o24:k1x1:NCHW:float32"): {"strip": 0},
    ("x86-64-v4", "conv2d:1x4x112x112:o32:k3x3:s2:p1:NCHW:float32"): {"width": 8, "block": 32},
    # Gathered pixels: vectors along these, unless the last would be too empty; all of x at once where
    # weights, read anew for each strip, are many.
    ("x86-64-v3", "conv2d:1x2048x7x7:o512:k1x1:NCHW:float32"): {"along": "channels", "block": 16, "strip": 0},
    ("x86-64-v3", "conv2d:1x256x14x14:o1024:k1x1:NCHW:float32"): {"along": "pixels", "width": 16, "strip": 0},
    ("x86-64-v3", "conv2d:1x512x28x28:o256:k1x1:NCHW:float32"): {"width": 24, "block": 4, "strip": 4},
    ("x86-64-v3", "conv2d:1x64x56x56:o256:k1x1:NCHW:float32"): {"width": 24, "block": 4, "strip": 8},
    # One tap a row: nothing of the next is loaded ahead, so that more sums fit.
    ("x86-64-v4", "conv2d:1x28x7x168:o672:k5x1:p2x0:NHWC:float32"): {"width": 7, "block": 48},
    # Rows of taps that would be written out with all channels, and spill.
    ("x86-64-v3", "conv2d:1x640x640x3:o32:k6x6:s2:p2:NHWC:float32:direct"): {"taps": 0},
    ("x86-64-v3", "conv2d:1x224x224x3:o32:k3x3:s2:p1:NHWC:float32:direct"): {"taps": 1},
    # Not by Winograd's algorithm, which moves three channels of each pixel one by one; but four.
    ("x86-64-v3", "conv2d:1x640x640x3:o32:k6x6:s2:p2:NHWC:float32"): {"width": 4, "block": 16},
    ("x86-64-v3", "conv2d:1x224x224x3:o64:k3x3:p1:NHWC:float32"): {"width": 4, "block": 16},
    ("x86-64-v3", "conv2d:1x112x112x4:o32:k3x3:p1:NHWC:float32"): {"tall": 4, "wide": 4},
    # Strips whose columns leave most of a core's cache to weights.
    ("x86-64-v3", "conv3d:1x144x16x56x56:o64:k3x1x1:p1x0x0:NCHW:float32"): {"long": 96, "channels": 6},
    # Channels-last copies of x: tiles of all registers for short rows, otherwise of fewer; narrow if dilated.
    ("x86-64-v3", "conv2d:1x512x14x14:o512:k3x3:s2:p1:NCHW:float32"): {"width": 4, "block": 24},
    ("x86-64-v3", "conv2d:1x192x17x17:o192:k7x1:p3x0:NCHW:float32"): {"width": 6, "block": 16, "taps": 0},
    ("x86-64-v3", "conv2d:1x256x33x33:o256:k3x3:d12:p12:NCHW:float32"): {"width": 3, "block": 24, "taps": 1},
    # Means of images of few channels: a task reads at least a whole cache line of a pixel.
    ("x86-64-v3", "avgpool2d:1x112x112x32:k112x112:NHWC:float32"): {"block": 16},
    ("x86-64-v3", "avgpool2d:1x112x112x32:k112x112:NHWC:float16"): {"block": 32},
    ("x86-64-v4", "avgpool2d:1x112x112x32:k112x112:NHWC:float32"): {"block": 16},
    ("x86-64-v3", "avgpool2d:1x28x28x240:k28x28:NHWC:float32"): {"block": 24},
    # Sorted rows of one vector, few taps: planes one by one.
    ("x86-64-v3", "conv2d:1x512x14x14:o512:k3x3:s2:p1:g512:NCHW:float32"): {"planes": 1, "rows": 4},
    ("x86-64-v3", "conv2d:1x672x14x14:o672:k5x5:s2:p2:g672:NCHW:float32"): {"planes": 12},
    # Weights from a core's second cache: not for two pixels alone.
    ("x86-64-v3", "conv2d:1x7x7x960:o160:k1x1:NHWC:float32"): {"width": 5, "block": 16},
    ("x86-64-v3", "conv2d:1x28x28x512:o1024:k1x1:s2:NHWC:float32"): {"width": 3, "block": 24},
    # More weights than a core's cache holds, for a small image: all rows by a block of them, then the next.
    ("x86-64-v4", "conv2d:2x7x7x128:o1536:k3x3:p1:d2:NHWC:float32"): {"block": 64, "order": "rows"},
    ("x86-64-v4", "conv2d:1x14x14x1024:o2048:k1x1:s2:NHWC:float32"): {"block": 48, "order": "rows"},
    ("x86-64-v4", "conv2d:1x56x56x64:o128:k3x3:s2:p1:NHWC:float32:direct"): {"order": "channels"},
    # Likewise for larger ones, far from a shared cache, by a block whose weights a core's cache keeps.
    ("sapphirerapids", "conv2d:1x14x14x1024:o512:k7x1:p3x0:NHWC:float32"): {"block": 48, "order": "rows"},
    ("sapphirerapids", "conv2d:1x28x28x512:o1024:k3x3:s2:p1:NHWC:float32"): {"block": 64, "order": "rows"},
    ("sapphirerapids", "conv3d:1x8x14x14x256:o256:k3x3x3:p1:NHWC:float32"): {"block": 32, "order": "rows"},
    ("sapphirerapids", "conv3d:1x8x14x14x256:o256:k3x1x1:p1x0x0:NHWC:float32"): {"order": "channels"},
    # Few weights, and a y that goes far away: all channels of a tile at once.
    ("sapphirerapids", "conv2d:1x112x112x16:o96:k1x1:NHWC:float32"): {"block": 48, "strip": 1},
    ("sapphirerapids", "conv2d:1x56x56x24:o144:k1x1:NHWC:float32"): {"block": 48, "strip": 50},
    ("znver5", "conv2d:1x112x112x16:o96:k1x1:NHWC:float32"): {"strip": 41},
    # Groups that fill half a vector, to be widened: by themselves if that takes ports of multiply-adds.
    ("x86-64-v4", "conv2d:1x28x28x128:o128:k3x3:p1:g16:NHWC:bfloat16"): {"block": 8, "strip": 0},
    ("znver5", "conv2d:1x28x28x128:o128:k3x3:p1:g16:NHWC:bfloat16"): {"block": 16, "walk": "down"},
    ("x86-64-v4", "conv2d:1x28x28x128:o128:k3x3:p1:g32:NHWC:float16"): {"block": 16, "walk": "down"},
    # Transposed, weights of a phase from a core's second cache: as wide as registers allow.
    ("sapphirerapids", "tconv2d:1x8x8x512:o64:k4x4:s2:p1:NHWC:float32"): {"width": 8, "block": 32},
    ("sapphirerapids", "tconv2d:1x32x32x128:o64:k4x4:s2:p1:NHWC:float32"): {"width": 11, "block": 32},
    ("znver5", "tconv2d:1x8x8x512:o64:k4x4:s2:p1:NHWC:float32"): {"width": 4, "block": 64},
    # Transposed, channels first: by vectors of channels if rows are less than a vector, or phases unlike.
    ("x86-64-v4", "tconv2d:1x128x16x16:o64:k3x3:s3:p1:NCHW:float32"): {"width": 4, "block": 64},
    ("sapphirerapids", "tconv2d:1x64x56x56:o32:k3x3:s2:p1:NCHW:float32"): {"width": 8, "block": 32},
    ("sapphirerapids", "tconv2d:1x128x16x16:o64:k4x4:s2:p1:NCHW:float32"): {"channels": 16, "vectors": 1},
    ("sapphirerapids", "tconv2d:1x64x56x56:o32:k1x1:s2:NCHW:float32"): {"channels": 11, "vectors": 1},
    # A stride and few input channels, far from a shared cache: not by Winograd's algorithm.
    ("sapphirerapids", "conv2d:1x224x224x3:o64:k7x7:s2:p3:NHWC:float32"): {"width": 4, "taps": 0},
    ("znver5", "conv2d:1x224x224x3:o64:k7x7:s2:p3:NHWC:float32"): {"tall": 3, "wide": 3},
    # Two input channels an iteration, but not with a last block whose last vector is partial: it would spill.
    ("sapphirerapids", "conv2d:1x28x28x116:o128:k1x1:NHWC:float32"): {"deep": 2},
    ("sapphirerapids", "conv2d:1x28x28x116:o116:k1x1:NHWC:float32"): {"deep": 1},
    # Taps that see much padding, of x that is widened: a copy without its zeros.
    ("x86-64-v4", "conv2d:1x256x14x14:o256:k3x3:p8:d8:g32:NCHW:bfloat16"): {"width": 14, "strip": 0},
    # Few of Winograd's tiles: even blocks of channels.
    ("sapphirerapids", "conv2d:1x116x7x7:o87:k3x3:p1:NCHW:float32"): {"block": 48, "tall": 4},
    # Planes that would be widened and then fetched from far away: strips.
    ("sapphirerapids", "conv2d:1x64x111x111:o128:k1x1:NCHW:bfloat16"): {"long": 480, "order": "pixels"},
    ("znver5", "conv2d:1x64x83x83:o128:k1x1:NCHW:float16"): {"channels": 8, "strip": 1},
    # AMX, channels first: whole vectors of pixels to a tile, for what stores and loads align then.
    ("sapphirerapids", "conv2d:1x64x56x56:o64:k3x3:p1:NCHW:uint8"): {"columns": 16, "across": 2, "high": 1},
    ("sapphirerapids", "conv2d:1x256x14x14:o256:k3x3:p1:NCHW:int8"): {"columns": 14, "high": 2},
    # Planes of y a power of two apart: wide tiles store to their lines once; of few products whole lines.
    ("znver5", "conv2d:1x64x64x64:o64:k3x3:s2:p1:NCHW:float32"): {"width": 11, "block": 32},
    ("znver5", "conv3d:1x3x16x112x112:o64:k7x1x7:s1x2x2:p3x0x3:NCHW:float32"): {"width": 14, "block": 32},
    ("znver5", "conv2d:1x3x256x256:o96:k4x4:s4:NCHW:float32"): {"width": 16, "block": 16},
    ("znver5", "conv2d:1x3x224x224:o96:k4x4:s4:NCHW:float32"): {"width": 4, "block": 48},
    # Planes of several groups are copied at a time, if they are small.
    ("znver5", "conv2d:1x128x17x17:o128:k3x3:s2:p1:g32:NCHW:float32"): {"planes": 4, "channels": 4},
    ("znver5", "conv2d:1x128x56x56:o128:k3x3:s2:p1:g32:NCHW:float32"): {"planes": 1, "channels": 4},
    # Pointwise groups of up to 64 channels of a large image: all groups of a few pixels at once.
    ("znver5", "conv2d:1x33x33x2048:o256:k1x1:g32:NHWC:float32"): {"width": 8, "strip": 1},
    ("znver5", "conv2d:1x56x56x512:o64:k1x1:g4:NHWC:float32"): {"width": 16, "strip": 49},
    ("znver4", "conv2d:1x33x33x2048:o256:k1x1:g32:NHWC:float32"): {"strip": 46},
    # Depthwise by Winograd's rows, images beyond a core's cache: all channels if the L1 keeps a tile of them.
    ("znver5", "conv2d:1x28x28x384:o384:k3x3:p1:g384:NHWC:float32"): {"block": 16},
    ("znver5", "conv2d:1x56x56x128:o128:k7x7:p6:d2:g128:NHWC:float32"): {"taps": 2},
    ("znver5", "conv2d:1x56x56x128:o128:k7x7:p3:g128:NHWC:float32"): {"taps": 1},
    ("znver5", "conv2d:1x52x3x384:o384:k3x3:p1:g384:NHWC:float32"): {"walk": "down"},  # groups_last's
    ("znver5", "conv2d:1x56x56x192:o192:k3x3:p1:g192:NHWC:float32"): {"block": 192},
    # Transposed depthwise: sums of a row enough not to wait for each other.
    ("x86-64-v3", "tconv2d:1x64x28x28:o64:k4x4:s2:p1:g64:NCHW:float32"): {"vectors": 4},
}


def test_every_machine_has_registers_enough() -> None:
    """What is a default for one is made of what another has: 8 registers on RISC-V without vectors."""
    small = "conv2d:1x4x4x32:o64:k3x3:p1:NHWC:float32"  # few tiles, wide ones, of Winograd's algorithm
    transposed = "tconv1d:1x18x23:o1:k32:s16:NCHW:float32"
    specs = [*(text for _, text in POINTS), transposed, small, f"{small}:winograd"]
    for machine in presets():
        for text in specs:
            codegen.scheduled(parse_spec(text), machine)


@pytest.mark.parametrize(("target", "descriptor"), POINTS)
def test_default(target: str, descriptor: str) -> None:
    point = codegen.scheduled(parse_spec(descriptor), resolve(target)).schedule["point"]
    wanted = POINTS[target, descriptor]
    assert {name: point[name] for name in wanted} == wanted
