"""What a report says: plain facts, gathered once, drawn and written from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from tvmconv.cli.kernels import Kernel

if TYPE_CHECKING:
    from tvmconv.bench.roofline import Roofline


@dataclass(frozen=True)
class Row:
    """A step of a network, or a layer: microseconds of one call of it. ``count``: the layers of a model that
    it stands for. ``nodes``: of the model. ``roof_us``, ``bound``: missing without a measured roofline.
    ``peers``: µs of other engines. ``doubtful``: other load disturbed nearly all samples. ``exceeds``: it
    is above the roof, whose measurement was disturbed."""

    name: str
    nodes: tuple[str, ...]
    descriptor: str
    kind: str
    us: float
    flops: int
    bytes: int
    count: int = 1
    roof_us: float | None = None
    bound: str = ""
    peers: Mapping[str, float] = field(default_factory=dict)
    doubtful: bool = False
    exceeds: bool = False

    @property
    def all_us(self) -> float:
        """µs of all that it stands for."""
        return self.us * self.count

    @property
    def gflops(self) -> float:
        """GFLOP/s."""
        return self.flops / self.us / 1e3 if self.us else 0.0

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / max(self.bytes, 1)

    @property
    def percent(self) -> float | None:
        """Of the roofline."""
        return None if self.roof_us is None or not self.us else 100 * self.roof_us / self.us


@dataclass(frozen=True)
class Group:
    """Rows that one thing is common to, ``title``: their kernel, or their kind. ``share`` of all time, and
    ``cumulative`` with those before."""

    title: str
    kind: str
    rows: tuple[tuple[int, Row], ...]  # with their numbers, from 1 on
    share: float
    cumulative: float

    @property
    def count(self) -> int:
        return sum(row.count for _, row in self.rows)

    @property
    def all_us(self) -> float:
        return sum(row.all_us for _, row in self.rows)

    @property
    def us(self) -> float:
        """Of one, on average."""
        return self.all_us / self.count

    @property
    def gflops(self) -> float:
        flops = sum(row.count * row.flops for _, row in self.rows)
        return flops / self.all_us / 1e3 if self.all_us else 0.0

    @property
    def percent(self) -> float | None:
        """Of the roofline, all together."""
        roofs = [row.count * row.roof_us for _, row in self.rows if row.roof_us is not None]
        return 100 * sum(roofs) / self.all_us if len(roofs) == len(self.rows) and self.all_us else None

    @property
    def bounds(self) -> str:
        """What limits its speed, where that is known."""
        return ", ".join(dict.fromkeys(row.bound for _, row in self.rows if row.bound))

    @property
    def doubtful(self) -> bool:
        return any(row.doubtful for _, row in self.rows)

    def peer_ratio(self, name: str) -> float | None:
        """A peer's time over ours."""
        ran = [row for _, row in self.rows if name in row.peers]
        ours = sum(row.all_us for row in ran)
        return sum(row.peers[name] * row.count for row in ran) / ours if ours else None


@dataclass(frozen=True)
class Curve:
    """The trials of a kernel in a log, in order: seconds of each, None where it failed. ``default``,
    ``chosen``: of the schedule without a search and of the best, as measured in turns in the end, if the log
    says."""

    descriptor: str
    whose: str
    seconds: tuple[float | None, ...]
    default: float | None
    chosen: float | None

    @property
    def best(self) -> list[float | None]:
        """The least so far, after each trial."""
        found: list[float | None] = []
        for one in self.seconds:
            known = [value for value in (found[-1] if found else None, one) if value is not None]
            found.append(min(known, default=None))
        return found


@dataclass(frozen=True)
class Buffer:
    """What lies in the workspace: bytes, and the steps (from 1 on) from the one that writes it first to the
    last that reads it."""

    value: str
    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Report:
    """``title``: the model's or the library's file. ``rows``: in order. ``call_us``: of a whole call, for a
    network. ``peers``: of a network, µs of a whole call by engine; or the engines of ``rows``, without a
    number. ``kernels``: by descriptor. ``notes``: what a reader should know."""

    title: str
    function: str | None
    target: str
    cpu: str
    threads: int
    rows: Sequence[Row]
    roofline: Roofline | None
    manifest: Mapping[str, Any]
    size: int
    call_us: float | None = None
    peers: Mapping[str, float | None] = field(default_factory=dict)
    kernels: Mapping[str, Kernel] = field(default_factory=dict)
    schedules: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    buffers: Sequence[Buffer] = ()
    workspace: int = 0
    notes: Sequence[str] = ()

    @property
    def total_us(self) -> float:
        """Of all rows."""
        return sum(row.all_us for row in self.rows)

    @property
    def network(self) -> bool:
        """Whether rows are steps of one function."""
        return self.call_us is not None

    def by_kernel(self) -> list[Group]:
        """Rows that run the same kernel, what takes longest first."""
        return self._grouped(lambda row: row.descriptor)

    def by_kind(self) -> list[Group]:
        """Rows of a kind, what takes longest first."""
        return self._grouped(lambda row: row.kind)

    def kinds(self) -> list[str]:
        """In the order of their time."""
        return [group.kind for group in self.by_kind()]

    def _grouped(self, key: Any) -> list[Group]:
        found: dict[str, list[tuple[int, Row]]] = {}
        for number, row in enumerate(self.rows, 1):
            found.setdefault(key(row), []).append((number, row))
        total, before, groups = self.total_us or 1.0, 0.0, []
        spent = {title: sum(row.all_us for _, row in rows) for title, rows in found.items()}
        for title in sorted(found, key=lambda title: -spent[title]):
            before += spent[title]
            rows = tuple(found[title])
            groups.append(Group(title, rows[0][1].kind, rows, spent[title] / total, before / total))
        return groups


def short(nodes: Sequence[str]) -> str:
    """A name for a step, from those of its nodes: what they have in common, or the last; without parts that
    the next one repeats, as exporters write them: "features.3/conv.0.0/Conv"."""
    parts = [[part for part in PurePosixPath(node).parts if part != "/"] or [node] for node in nodes]
    if not parts:
        return ""
    common = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        common.append(column[0])
    chosen = common if len(parts) > 1 and common else parts[-1]
    kept = [part for part, after in zip(chosen, [*chosen[1:], ""], strict=True)
            if not after.startswith(part)]  # fmt: skip
    return "/".join(kept)


def kind_of(descriptor: str) -> str:
    """What kind of layer or operator a step is, for people: "depthwise", "block", "copy"."""
    from tvmconv.bench.ratios import kind_of as kind_of_layer
    from tvmconv.specs.operators import KINDS
    from tvmconv.specs.pitched import parse_work

    word, work = descriptor.partition(":")[0], parse_work(descriptor).dense
    return word if word in KINDS else kind_of_layer(cast(Any, work))
