"""The page of a report: one HTML file that holds all it needs."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from tvmconv.base.errors import Error
from tvmconv.base.version import own_version
from tvmconv.cli import console
from tvmconv.cli.report.facts import Curve, Group, Report, Row
from tvmconv.cli.report.figures import Picture
from tvmconv.cli.report.theme import COLOURS, colours
from tvmconv.formats.manifest import libc_text


def check() -> None:
    """Raises Error if the template engine is missing."""
    if find_spec("jinja2") is None:
        raise Error("report: no module jinja2; pip install 'tvmconv[report]'")


def page(report: Report, pictures: Mapping[str, Picture]) -> str:
    """The HTML. ``pictures``: by name, to be drawn where there are such."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tvmconv.cli.report", ""), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(us=_us, size=console.size, shape=console.shape, percent=_percent)
    groups = report.by_kernel()
    return environment.get_template("page.html").render(
        report=report, manifest=report.manifest, groups=groups, kinds=report.by_kind(), pictures=pictures,
        colours=colours(report.kinds()), theme=COLOURS, facts=_facts(report),
        ratios={name: _ratio(report, name) for name in report.peers}, curves=_told(report, groups),
        codes=[_code(report, group) for group in groups], version=own_version(),
        packed_manifest=_packed({"manifest": json.dumps(report.manifest, indent=1)}),
        row_facts=[_line(report, number, row) for number, row in enumerate(report.rows, 1)],
        style=_file("page.css"), script=_file("page.js"),
    )  # fmt: skip


def _file(name: str) -> str:
    from markupsafe import Markup

    return Markup(files("tvmconv.cli.report").joinpath(name).read_text(encoding="utf-8"))


def _us(value: float) -> str:
    """Microseconds, readable: "12.3 µs", "4.56 ms"."""
    if value < 1000:
        return f"{value:.1f} µs" if value < 100 else f"{value:.0f} µs"
    return f"{value / 1e3:.3g} ms" if value < 1e6 else f"{value / 1e6:.3g} s"


def _percent(value: float | None, digits: int = 0) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}%"


def _facts(report: Report) -> list[tuple[str, str]]:
    """What the library says of itself, and where it was timed."""
    manifest = report.manifest
    rows = console.count(len(report.rows), "step" if report.network else "layer")
    found = [
        ("library", console.size(report.size)),
        ("target", f"{report.target} ({manifest['target']['triple']})"),
        ("timed on", f"{report.cpu}, {console.count(report.threads, 'thread')}"),
        ("holds", f"{rows}, {console.count(len(report.by_kernel()), 'kernel')}"),
        ("made by", f"tvmconv {manifest['tvmconv']}, TVM {manifest['tvm']}"),
        ("C library", libc_text(manifest)),
        ("sha256", manifest["sha256"]),
    ]
    if "onnx" in manifest:
        found.insert(0, ("model", f"{manifest['onnx']['model']}, SHA-256 {manifest['onnx']['digest'][:16]}…"))
    if weights := manifest.get("weights"):
        found.insert(1, ("weights", f"{weights['file']}, {console.size(weights['bytes'])}"))
    if report.roofline is not None:
        peaks = ", ".join(f"{rate / 1e9:.0f} G/s in {kind}" for kind, rate in report.roofline.peak.items())
        copies = ", ".join(f"{console.size(size)} {size / seconds / 1e9:.0f}"
                           for size, seconds in report.roofline.copies[2::3])  # fmt: skip
        found.append(("roofline", f"{peaks}; copying, GB/s: {copies}"))
    return found


def _line(report: Report, number: int, row: Row) -> str:
    """A row on one line, for its place in a picture."""
    parts = [f"{number}. {row.name}", row.kind, _us(row.all_us)]
    if report.total_us:
        parts.append(f"{100 * row.all_us / report.total_us:.1f}%")
    if row.flops:
        parts.append(f"{row.gflops:.0f} GFLOP/s")
    if row.percent is not None:
        parts.append(f"{row.percent:.0f}% of the roofline")
    return ", ".join(parts)


def _ratio(report: Report, name: str) -> float | None:
    """A peer's time over ours, in all that it ran."""
    whole = report.peers[name]
    if whole is not None:
        return whole / report.call_us if report.call_us else None
    ran = [row for row in report.rows if name in row.peers]
    ours = sum(row.all_us for row in ran)
    return sum(row.peers[name] * row.count for row in ran) / ours if ours else None


def _told(report: Report, groups: list[Group]) -> list[tuple[str, Curve]]:
    return [(group.rows[0][1].name, report.curves[group.title]) for group in groups
            if group.title in report.curves]  # fmt: skip


def _code(report: Report, group: Group) -> dict[str, Any] | None:
    """A kernel's text, packed, and where its time goes."""
    from tvmconv.bench.static_cost.assembly import heaviest, loops
    from tvmconv.schedules.machines import Machine

    kernel = report.kernels.get(group.title)
    if kernel is None:
        return None
    source, assembly = kernel.source, kernel.source.assembly
    assert isinstance(source.machine, Machine)
    loop = heaviest(loops(assembly, source.machine.arch))
    told = None
    if loop is not None:
        told = {
            "label": loop.label, "instructions": len(loop.body), "fmas": loop.fmas,
            **{what: sum(getattr(one, what) for one in loop.body) for what in ("load", "store", "spill")},
        }  # fmt: skip
    return {"packed": _packed({"tir": source.tir, "asm": assembly}), "origin": kernel.origin, "loop": told}


def _packed(texts: Mapping[str, str]) -> str:
    """Texts as base64 of gzip of JSON: the page unpacks them when they are asked for."""
    return base64.b64encode(gzip.compress(json.dumps(texts).encode(), 9, mtime=0)).decode()
