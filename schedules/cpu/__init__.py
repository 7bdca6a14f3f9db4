"""Strategies for CPUs with vectors: their table."""

from __future__ import annotations

from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules import traced
from tvmconv.schedules.cpu import (
    amx_last,
    amx_planes,
    block,
    crossed,
    deform,
    direct_last,
    gathered,
    group_words_last,
    groups_last,
    im2col,
    panels,
    phases,
    planes,
    pool_last,
    pool_planes,
    pool_whole_last,
    pool_whole_plane,
    strassen,
    transposed,
    transposed_planes,
    turned,
    winograd_cost,
    winograd_rows,
    winograd_tiles,
    words_last,
)
from tvmconv.schedules.cpu.tiles import across_groups
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Row, Table, never
from tvmconv.schedules.words import Checked, InWords


def _within_groups(p: Problem, machine: Machine) -> bool:
    """If no vector holds channels of several groups; or of two, where half a vector may be as good."""
    return not across_groups(p, machine) or p.out_group > 2


def _matrices(p: Problem, machine: Machine) -> bool:
    """If a matrix product may pay."""
    return not across_groups(p, machine) and p.in_group * p.out_group > 1


def _transforms(p: Problem, machine: Machine) -> bool:
    """If those of x are used for several channels."""
    return p.in_group > 1 or _matrices(p, machine)


def _no_words(p: Problem, machine: Machine) -> bool:
    """For 8-bit integers, channels last: if groups do not fill vectors and there are no dot products."""
    return not across_groups(p, machine) and words_last.dot_of(p, machine) is None


_GROUPS_LAST = Row(groups_last, groups_last.pays)
_PHASES = Row(phases, phases.pays)
_TURNED = Row(turned, turned.pays)
_DIRECT = (
    Row(direct_last, tried=_within_groups),
    Row(crossed, crossed.pays),
    Row(planes),
    Row(traced, never),
)
_FLOATS = {
    None: (
        Row(winograd_tiles, winograd_cost.pays, _transforms),
        Row(winograd_rows, winograd_rows.pays, across_groups),
        Row(strassen, strassen.pays, strassen.worth_trying),
        _GROUPS_LAST,
        _PHASES,
        _TURNED,
        Row(gathered, gathered.pays),
        Row(panels, panels.pays),
        *_DIRECT,
        Row(im2col, never, _matrices),
    ),
    "direct": (_GROUPS_LAST, _PHASES, _TURNED, *_DIRECT),
    "im2col": (Row(panels), Row(im2col)),
    "winograd": (Row(winograd_tiles),),
    "strassen": (Row(strassen),),
}
_INTEGERS = (
    Row(Checked(group_words_last)),
    Row(InWords(groups_last, words_last.product_of)),
    Row(amx_last, amx_last.pays),
    Row(amx_planes, amx_planes.pays),
    Row(Checked(words_last), tried=amx_last.fits),
    Row(Checked(InWords(direct_last, words_last.dot_of)), tried=_no_words),
    Row(Checked(InWords(planes, words_last.dot_of))),
)
_TRANSPOSED = (Row(transposed_planes, transposed.pays_in_planes), Row(transposed))
_INTEGERS_TRANSPOSED = (
    Row(InWords(transposed_planes, words_last.transposed_dot_of), transposed.pays_in_planes),
    Row(InWords(transposed, words_last.transposed_dot_of)),
)
_POOLINGS = (Row(pool_last), Row(pool_planes), Row(pool_whole_last), Row(pool_whole_plane))

TABLE: Table = {
    **{("conv", algorithm): rows for algorithm, rows in _FLOATS.items()},
    **{("integer", algorithm): _INTEGERS for algorithm in (None, "direct")},
    **{("transposed", algorithm): _TRANSPOSED for algorithm in (None, "direct")},
    **{("integer_transposed", algorithm): _INTEGERS_TRANSPOSED for algorithm in (None, "direct")},
    ("deform", None): (Row(deform),),
    ("pool", None): _POOLINGS,
    ("block", None): (Row(block),),
}
