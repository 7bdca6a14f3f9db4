"""Tiles of ``groups_last``, and how they follow each other: what depends on where their pixels lie in the
caches."""

from __future__ import annotations

from math import gcd, prod

from tvmconv.base.memory import LINE
from tvmconv.compiler.ops.problem import Problem, reach_of
from tvmconv.schedules.cpu.tiles import FEWEST_TASKS, evenly, height
from tvmconv.schedules.machines import Machine

# Which of them tasks go through last; with "pixels" a task has all channels of a tile before the next tile.
ORDERS = ("rows", "channels", "pixels")
WALKS = ("down", "across")  # how a task's tiles follow each other in its strip of rows
_LONG_ROW = 48  # pixels
_SHORT_ROW = 7  # pixels
_APART = 3  # rows between taps; those of a tile are used again too many rows below to be cached
LARGE = 5  # taps of a kernel's side
_LARGEST = 7  # likewise
_LARGER = 4  # times as large as the cache
_FAR = 8  # times as large as a core's share of the last cache: x and y then come from memory
_WIDTH = 4  # pixels of most tiles
_WIDEST = 8  # likewise, of wide ones
_FEW_ROWS = 4  # of a strip of a large image
_FEW = 4  # vectors of one pixel in a tile, if they have to be widened
_LEAST = 256  # bytes of sums of the narrowest tiles
_ROUND = 256  # bytes; pixels a multiple of that apart use few sets of the caches for a block of channels
_ROUNDER = 512  # likewise, half as many


def tile_of(p: Problem, machine: Machine, lanes: int) -> tuple[int, int]:
    """(pixels, vectors of channels).

    Half the registers hold sums: the others hold what is loaded ahead.
    """
    sums = machine.vector_registers // 2
    large = p.kernel[-1] >= LARGE and _in_lines(p, machine)  # then most of a wide tile's loads are shared
    narrow = (p.out_spatial[-1] <= _SHORT_ROW and not large) or (sums >= 16 and p.out_spatial[-1] <= 14)
    have = -(-p.groups * p.out_group // lanes)
    vectors = min(4 if narrow else 2, have)
    width = min(sums // vectors, _WIDTH, p.out_spatial[-1])
    if vectors < 4 and (_overflows(p, machine) or (_collide(p, machine, width) and not large)):
        vectors, width = min(4, have), max(width // 2, 1)
    if narrow and machine.avx512:
        width, vectors = _short_tile(p, machine, have)
    if _is_wide(p, machine) or (p.widened and machine.avx512):
        # What is loaded, or widened, is used for more taps. Few cache lines are then loaded twice: with a
        # power of two of channels, those of one pixel and the next conflict.
        vectors = min(1 if _is_across(p, machine) else 2, have)
        width = evenly(p.out_spatial[-1], _WIDEST)
    if _whole_pixels(p, machine):
        vectors = evenly(have, _FEW if p.widened else sums + sums // 2)
        least = min(sums, _LEAST * (1 + p.widened) // (lanes * p.acc_bytes))
        width = min(max(1, least // vectors), _WIDTH, p.out_spatial[-1])
    if p.kernel[-1] == 1 and len(p.kernel) > 1 and p.stride[-1] == 1:
        # Nothing is shared along a row: as many contiguous channels as possible.
        vectors = min(8, sums, have)
        width = min(max(1, sums // (2 * vectors)), p.out_spatial[-1])
    if p.in_group > 1 and machine.memory_operands:
        # What is loaded and shuffled is used for as many pixels as possible, and LLVM keeps it in registers.
        vectors, width = 1, evenly(p.out_spatial[-1], min(10, sums - 1))
    if not machine.memory_operands and p.taps * p.in_group + 12 <= machine.vector_registers:
        # All weights of one vector stay in registers beside eight sums and four vectors loaded ahead.
        vectors, width = 1, min(8, p.out_spatial[-1])
    return width, vectors


def _short_tile(p: Problem, machine: Machine, have: int) -> tuple[int, int]:
    """(pixels, vectors of channels) of a tile in a short row, if a vector is as long as a cache line: as few
    channels as hide the latency of sums, if the L1 cache holds what so wide a tile reads of them. But more,
    whose lines are fetched together, if it does not; and where vectors share lines."""
    wide, shared = evenly(p.out_spatial[-1], _WIDEST), _pixel_bytes(p) % LINE > 0
    width = min(_WIDTH, p.out_spatial[-1])
    held = machine.l1_ways * _places(p, machine)
    if shared and have <= 4:
        return width, have
    if _lines(p, wide) <= held:
        hidden = wide * (1 + machine.halved) >= machine.fma_latency * machine.fma_ports
        return wide, min(1 if hidden and not shared else 2, have)
    if p.stride[-1] == 1 and held > machine.l1_ways:  # wide tiles share most of what they load
        return wide, min(2, have)
    return width, min(2 if _lines(p, width) <= held else 4, have)


def order_of(p: Problem, machine: Machine, block: int) -> str:
    """One of ``ORDERS``, for blocks of so many channels."""
    return "pixels" if block < p.groups * p.out_group and _by_pixels(p, machine) else "channels"


def rows_of(p: Problem, machine: Machine, block: int, order: str) -> int:
    """Rows of a strip."""
    blocks = 1 if order == "pixels" else -(-p.groups * p.out_group // block)
    others = p.batch * prod(p.out_spatial[:-2]) * blocks
    # Threads divide the rows, as they do in other layers; of dilated ones each strip reads many more. On ARM
    # the shorter strips' loops take up to a tenth more cycles by the model, which nobody has weighed there.
    fewest = 2 if set(p.dilation) == {1} and machine.arch == "x86_64" else 1
    strips = min(height(p), max(fewest, -(-FEWEST_TASKS // others)))
    rows = -(-height(p) // strips)
    if rows < p.kernel[-2:][0] and p.kernel[-1] == 1 and outgrows(p, machine):
        rows = min(height(p), 2 * rows)  # fewer tasks, which fetch less of what others fetch as well
    if is_large(p, machine) and p.kernel[-1] > 1:
        few = p.stride[-1] == 1 or _by_pixels(p, machine)
        rows = min(rows, _FEW_ROWS if few else 4 * _FEW_ROWS)
    if _is_apart(p) and p.stride[-2] > 1:
        rows = 1
    return rows


def walk_of(p: Problem, machine: Machine) -> str:
    """Down, if each input row is in the L1 cache for all its taps; or across long rows, which prefetching
    keeps up with, unless a stride leaves too little work for what is read, or more rows are read than it can
    follow or the cache can hold; or across if the next row shares nothing. A large image with all channels of
    a tile at once across, if a core's own cache then holds the rows that the next one shares; but not with
    long vectors and a stride of 1, which go down strips of few rows faster."""
    if _is_apart(p) or _overflows(p, machine):
        return "across"
    if _by_pixels(p, machine):
        shared = (p.kernel[-2] + 1) * p.spatial[-1] * _pixel_bytes(p)
        held = p.stride[-2] > 1 or (2 * shared < machine.l2 and not machine.avx512)
        afar = is_large(p, machine) or _is_far(p, machine) or outgrows(p, machine)
        return "across" if afar and p.kernel[-1] > 1 and held else "down"
    if p.stride[-1] > 1 or p.out_spatial[-1] < _LONG_ROW or p.kernel[-1] == 1:
        return "down"
    if _is_wide(p, machine):
        return "across" if _is_across(p, machine) else "down"
    return "down" if is_large(p, machine) else "across"


def is_large(p: Problem, machine: Machine) -> bool:
    """Whether an image is far larger than a core's cache: strips then have few rows, each traversed downwards
    at once so that what one row of taps loads is cached for the next."""
    size = prod(p.spatial) * _pixel_bytes(p)
    return len(p.spatial) > 1 and size > _LARGER * machine.l2


def _is_apart(p: Problem) -> bool:
    """Whether rows of taps are too far apart for the next rows of a strip to share what one loads."""
    return len(p.spatial) > 1 and p.kernel[-2] > 1 and p.dilation[-2] >= _APART


def _is_wide(p: Problem, machine: Machine) -> bool:
    """Whether tiles are wide: for a large kernel, if registers have room for sums and what is loaded."""
    return p.kernel[-1] >= LARGE and machine.avx512


def _is_across(p: Problem, machine: Machine) -> bool:
    """Whether wide tiles go across a large image with one vector of channels: rows of taps, which are many,
    then come one after the other."""
    return _is_wide(p, machine) and p.in_group == 1 and p.stride[-1] == 1 and is_large(p, machine)


def _pixel_bytes(p: Problem) -> int:
    """Of x."""
    return p.groups * p.in_group * p.acc_bytes


def _in_lines(p: Problem, machine: Machine) -> bool:
    """Whether a depthwise tile's vectors take one cache line of each pixel, of which such CPUs then fetch
    more, in vain if the turn of the rest comes late. (Wider vectors take two lines; nobody has measured
    others than x86.)"""
    narrow = machine.memory_operands and not machine.avx512
    return narrow and p.in_group == 1 and not p.widened and len(p.spatial) > 1


def _by_pixels(p: Problem, machine: Machine) -> bool:
    """Whether to take all channels of a tile before the next one: of large images, so that each pixel is
    fetched once; and where a block of channels has few sets of the caches. Not for large kernels with many
    weights, whose sums take longer than that, nor in short rows or small images, whose pixels stay near. With
    vectors as long as a cache line, only what comes from memory, or a shared cache far away."""
    if len(p.spatial) == 1 or _is_apart(p):
        return False
    if outgrows(p, machine):
        return True
    if p.in_group > 1:
        return False
    if machine.avx512:
        return _is_far(p, machine)
    if p.widened and machine.memory_operands:
        # Results may be four times as large as x: their lines are then written once, not half by half.
        size = prod(p.spatial) * _pixel_bytes(p)  # of such results
        return _pixel_bytes(p) >= _ROUND and size > machine.l2 and not _is_far(p, machine)
    if not _in_lines(p, machine):
        return False
    light = _is_light(p, machine)
    if p.kernel[-1] >= LARGE:
        return is_large(p, machine) and light
    near = 4 * prod(p.spatial) * _pixel_bytes(p) <= 3 * machine.l2  # beside y
    alike = _pixel_bytes(p) % (_ROUND if light else _ROUNDER) == 0 and not near
    return is_large(p, machine) or (alike and p.out_spatial[-1] > _SHORT_ROW)


def outgrows(p: Problem, machine: Machine, cores: int = 1) -> bool:
    """Whether x and y outgrow the caches of so many cores, and the shared one is far away, or sums are few
    and done fast: whole pixels, one after the other, then come sooner than the same line or two of each. The
    sums of larger kernels wait less for them, and find rows again in the L1 cache, which has no room for
    whole pixels of so many."""
    if not machine.full_avx512 or len(p.spatial) == 1:
        return False
    size = p.batch * (prod(p.spatial) + prod(p.out_spatial)) * _pixel_bytes(p)
    if not machine.far_l3:  # measured on a Zen 5
        few = p.is_depthwise and p.kernel[-1] < LARGE and max(p.dilation) == 1
        return few and 4 * size > 5 * cores * machine.l2
    return 4 * size > 3 * cores * machine.l2 * max(1, p.kernel[-1] // 2)


def _is_light(p: Problem, machine: Machine) -> bool:
    """Whether the L1 cache holds all weights, which each tile reads, and as much again."""
    return 2 * p.taps * p.groups * p.acc_bytes <= machine.l1


def _is_far(p: Problem, machine: Machine) -> bool:
    """Whether x and y come from memory, and take longer than the sums."""
    images = p.batch if machine.avx512 else 1  # nobody has measured several on other machines
    size = images * (prod(p.spatial) + prod(p.out_spatial)) * _pixel_bytes(p)
    return p.kernel[-1] < LARGE and size > _FAR * machine.l3


def _whole_pixels(p: Problem, machine: Machine) -> bool:
    """Whether tiles are whole pixels, one after the other, as they come from memory: unless, with long
    vectors, weights come from afar as well, which wider tiles load less often."""
    light = not machine.avx512 or _is_light(p, machine)
    return light and _by_pixels(p, machine) and _is_far(p, machine)


def _lines(p: Problem, width: int) -> int:
    """Of the cache, of one block of channels, that a tile of so many pixels reads."""
    return reach_of(p, -1, width) * (p.kernel[-2] if len(p.kernel) > 1 else 1)


def _collide(p: Problem, machine: Machine, width: int) -> bool:
    """Whether all pixels that a tile reads lie at one place of the L1 cache, which has room for fewer: then a
    narrower tile of more channels, whose lines are at places of their own. All channels at once avoid it
    better."""
    page = machine.l1 // machine.l1_ways
    one_place = _pixel_bytes(p) % page == 0 and not _by_pixels(p, machine)
    return one_place and _lines(p, width) > machine.l1_ways


def _overflows(p: Problem, machine: Machine) -> bool:
    """Whether the L1 cache has no room, at the places where they lie, for the lines that a tile of a large
    kernel reads, which the next tile reads again: as above. (Of 5x5, whose tiles read fewer, only where lines
    then come from far.)"""
    large = p.kernel[-1] >= LARGE and p.out_spatial[-1] > _SHORT_ROW
    if not large or not _in_lines(p, machine) or is_large(p, machine):
        return False
    if p.kernel[-1] < _LARGEST and prod(p.spatial) * _pixel_bytes(p) <= machine.l2:
        return False
    return _lines(p, _WIDTH) > machine.l1_ways * _places(p, machine)


def _places(p: Problem, machine: Machine) -> int:
    """In the L1 cache, where lines of one block of channels lie, each with as many as it has ways."""
    page = machine.l1 // machine.l1_ways
    return page // gcd(_pixel_bytes(p), page)
