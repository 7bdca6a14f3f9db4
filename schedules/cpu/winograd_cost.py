"""Whether Winograd's algorithm pays in tiles, by what its steps cost; and which tiles it takes."""

from __future__ import annotations

from itertools import product
from math import inf, prod

from tvmconv.compiler.ops import winograd
from tvmconv.compiler.ops.problem import Problem
from tvmconv.compiler.ops.winograd import WinogradPacking
from tvmconv.schedules.cpu import group_tiles, pixel_tiles
from tvmconv.schedules.cpu.tiles import across_groups, evenly, evict_each_other
from tvmconv.schedules.machines import Machine

# Costs, in multiply-adds of a vector: of an operation of the transforms, where one may take an operand from
# memory or not (measured on x86, by llvm-mca for ARM); of a vector of weights from a core's own cache, from a
# shared one, and from memory.
_TRANSFORMED = {True: 0.6, False: 1.2}
_PLANES = {False: 2, True: 8}  # times: transposed as well; of planes that evict each other meanwhile
_NEAR, _FAR, _FARTHEST = 1.5, 4.0, 12.0
_ALONE = 8  # shares of the shared cache available to a core if the others need little
_SHUFFLED = 1.4  # of a product if x has to be shuffled for several groups per vector
_LEAST_GAIN = 1.1  # over the direct convolution, by these costs
_LEAST_STRIDED = 1.4  # likewise, with a stride
_LEAST_OVER_TURNED, _LEAST_OVER_PANELS, _LEAST_OVER_COPY = 1.25, 1.4, 1.6
_MUCH = 4  # times a core's cache
_SHARES = 8  # of all weights; a core's own cache does not even hold one


def pays(p: Problem, machine: Machine) -> bool:
    """If it costs less than the direct convolution, with full vectors; and x's few channels can be moved
    together: without masks, AVX2 moves three one by one, for all that a tile transforms. Nor does it if tasks
    take a line of each pixel from a shared cache far away, not only on one thread."""
    together = together_of(p, machine)
    scattered = p.channels_last and p.in_group * together == 3
    unmasked = machine.memory_operands and not machine.avx512  # nobody has measured others than x86
    if together * p.out_group < machine.lanes() or (scattered and unmasked):
        return False
    if across_groups(p, machine) and group_tiles.outgrows(p, machine, cores=2):
        return False
    sides = sides_of(p, machine)
    own = _cost(p, machine, sides) + _transforms(p, machine, sides)
    return _by_definition(p, machine) >= _least_gain(p, machine, sides) * own


def _least_gain(p: Problem, machine: Machine, sides: tuple[int, int]) -> float:
    """More over ``turned``, if many weights come from far away, and over ``panels``, if much of x is read
    with strides: measured with AVX2 only. Far from a shared cache more over a copy of what has strides or
    dilation, and over ``direct_last`` with a stride, which copies nothing; no gain is enough where
    transforms outweigh the products of few input channels."""
    products = prod(t.products for t in WinogradPacking(1, sides).transforms(p))
    far = not _held(p, machine, products, p.out_group // _SHARES)
    large = max(p.stride) > 1 and p.acc_bytes * prod(p.x_shape()) > _MUCH * machine.l2
    if p.channels_last and machine.far_l3 and max(p.stride) > 1:
        return _LEAST_STRIDED if p.in_group >= machine.lanes() else inf
    if p.groups > 1 or p.channels_last:
        return _LEAST_GAIN
    if not machine.avx2:
        return _LEAST_OVER_COPY if machine.far_l3 and max(*p.stride, *p.dilation) > 1 else _LEAST_GAIN
    return _LEAST_OVER_PANELS if large else _LEAST_OVER_TURNED if far else _LEAST_GAIN


def _by_definition(p: Problem, machine: Machine) -> float:
    """The cost of one output vector by direct convolution, in tiles of pixels whose weights stay in a core's
    own cache. Of groups that fill half a vector, it takes them one by one if that costs no more."""
    pixels, _ = pixel_tiles.tile_of(p, machine)
    sums = p.seen(0) * p.seen(1) * (1 + _NEAR / pixels) + p.taps * _fetch(p, machine, p.taps) / p.batch
    halves = machine.halved and 2 * p.out_group == machine.lanes()
    shuffled = across_groups(p, machine) and not halves
    return p.in_group * sums / prod(p.out_spatial) * (_SHUFFLED if shuffled else 1)


def _cost(p: Problem, machine: Machine, sides: tuple[int, int]) -> float:
    """Average cost of the products of one output vector. Each register tile loads its weights from a core's
    own cache, into which they come once per task; or once per tile, if those of a block of channels do not
    fit."""
    packing = WinogradPacking(1, sides)
    products = prod(t.products for t in packing.transforms(p))
    vectors, lines, step, steps = tile_of(p, machine, packing)
    tiles = prod(packing.tiles(p)) * prod(p.dilation)
    loads, sums = tiles / (lines * step), machine.fma_latency * machine.fma_ports
    block = min(vectors * machine.lanes(), p.out_group)
    if not _held(p, machine, products, p.out_group * p.groups):
        tasks = tiles / (lines * min(steps * step, packing.tiles(p)[1]) * p.dilation[1])
        passes = tasks if _held(p, machine, products, block) else loads
    else:
        passes = 1 / p.batch
    cost = tiles * max(1.0, sums / (vectors * lines * step)) + loads * _NEAR
    return p.in_group * products * (cost + passes * _fetch(p, machine, products)) / prod(p.out_spatial)


def _held(p: Problem, machine: Machine, products: int, channels: int) -> bool:
    """Whether a core's own cache holds the weights of this many output channels."""
    return products * p.acc_bytes * p.in_group * channels <= _room(machine)


def _room(machine: Machine) -> int:
    """Of a core's own cache, for weights: what else goes through it is allowed for if misses cost much."""
    return machine.l2 * 3 // 4 if machine.far_l3 else machine.l2


def _transforms(p: Problem, machine: Machine, sides: tuple[int, int]) -> float:
    """Their cost for one vector of the output."""
    down, across = WinogradPacking(1, sides).transforms(p)
    of_x = down.input_work * across.step + across.input_work * down.products
    products = down.products * across.products  # which are stored first
    of_y = down.output_work * across.products + across.output_work * down.outputs + 2 * products
    lanes, together = machine.lanes(), together_of(p, machine)
    vectors_out = -(-p.out_group * together // lanes)
    # A partial vector costs as much as two: its stores are masked, or several.
    vectors_in = p.in_group * together // lanes + 2 * (p.in_group * together % lanes > 0)
    planes = 1 if p.channels_last else _PLANES[evict_each_other(p, machine, lanes)]
    work = of_x * vectors_in / vectors_out + of_y
    return planes * _TRANSFORMED[machine.memory_operands] * work / (down.outputs * across.outputs)


def _fetch(p: Problem, machine: Machine, products: int) -> float:
    """The cost of loading a vector of weights from where all are kept, given the number per pair of
    channels."""
    size = products * p.acc_bytes * p.groups * p.in_group * p.out_group
    if size > _ALONE * machine.l3:
        return _FARTHEST
    return _FAR if size > _room(machine) else _NEAR


def sides_of(p: Problem, machine: Machine) -> tuple[int, int]:
    """Rows and columns of the cheapest tile."""
    down, across = able_sides(p)
    return min(product(down, across), key=lambda sides: _cost(p, machine, sides))


def able_sides(p: Problem) -> list[tuple[int, ...]]:
    """The rows, and the columns, that a tile may have."""
    return [winograd.sides(k, s) for k, s in zip(p.kernel, p.stride, strict=True)]


def together_of(p: Problem, machine: Machine) -> int:
    """The number of groups whose output channels fill a vector."""
    lanes = machine.lanes()
    together = max(1, lanes // p.out_group)
    return together if lanes % p.out_group == 0 and p.groups % together == 0 else 1


def tile_of(p: Problem, machine: Machine, packing: WinogradPacking) -> tuple[int, int, int, int]:
    """Of the register tile: vectors of channels (evenly, as measured on a Granite Rapids), rows of tiles,
    tiles in each; and such steps in a task."""
    height, width = packing.tiles(p)
    lanes, together = machine.lanes(), together_of(p, machine)
    vectors, have = 2 if width * height > 4 else 4, -(-p.out_group // lanes)
    vectors = evenly(have, vectors) if machine.far_l3 else min(vectors, have)
    most = max((machine.vector_registers - vectors - (not machine.avx512)) // vectors, 1)
    step = evenly(width, most)
    sums = machine.fma_latency * machine.fma_ports  # that keep the ports busy
    products = prod(t.products for t in packing.transforms(p))
    if products * p.acc_bytes * p.in_group * p.out_group > machine.l2 // 4:
        sums *= 2  # for weights that come from afar are then loaded half as often
    lines = evenly(height, max(1, min(height, -(-sums // (step * vectors)), most // step)))
    # As many steps per task as leave room for the transformed patches in the core's cache.
    places = products * lines * step * p.dilation[1]
    held = machine.l2 // 2 // (p.acc_bytes * places * together * p.in_group)
    return vectors, lines, step, max(1, min(-(-width // step), held))
