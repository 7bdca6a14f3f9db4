"""How the ONNX package's own node cases fare as networks: the tables in tvmconv/docs/node_cases.md.

    python scripts/node_cases.py [--every N] [-o FILE]

Each case is read and computed by the float64 referee that steps are checked against.
With --every N, every N-th case that passes is compiled too, as a function of one library, and run.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import onnx

from tvmconv.network.spellings import IMPORTERS

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from network_cases import cases_of, compiled, nodes_of, outcome, written_out

HEAD = """# ONNX's own node cases as networks

The onnx package {version} has cases for each operator: a model of one node (or of several that spell it),
inputs, and the results that are right. Here is what becomes of the {count} cases of operators that networks
have, read as `tvmconv.network.compile` reads models:
**{passed} pass, {unsupported} are not supported, {failed} fail.**
{compiled}Left out are bfloat16 cases of several nodes, whose results are of values rounded after each.

`scripts/node_cases.py` wrote this page; the tests run the same cases.

"""
LAYERS = ("AveragePool", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "GlobalAveragePool",
          "GlobalMaxPool", "MaxPool", "QLinearConv")  # fmt: skip
SEVERAL = "(several nodes)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--every", type=int, metavar="N", help="compile every N-th case that passes")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write, not to stdout")
    options = parser.parse_args()
    text = report(options.every)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


def report(every: int | None = None) -> str:
    """The page."""
    known = {*IMPORTERS, *LAYERS}
    passed: dict[str, list[Any]] = defaultdict(list)
    reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
    failed: list[tuple[str, str]] = []
    cases = [*cases_of(*known), *written_out(known)]
    for case in cases:
        kinds = list(dict.fromkeys(node.op_type for node in nodes_of(case)))
        name = kinds[0] if len(kinds) == 1 else SEVERAL
        try:
            reason = outcome(case)
        except Exception as error:
            failed.append((case.name, f"{type(error).__name__}: {error}".splitlines()[0]))
            continue
        if reason is None:
            passed[name].append(case)
        else:
            why, detail = short(reason)
            reasons[name, why].append(detail)
    done = [case for name in sorted(passed) for case in passed[name]]
    note = ""
    if every:
        sample = [case for case in done[::every] if "bfloat16" not in case.name]
        count, refused = compiled(sample, "x86-64-v3")
        note = f"Of those that pass, {count}, of nearly all operators, were compiled, and give the same.\n"
        why_not: dict[str, list[str]] = defaultdict(list)
        for name, why in refused.items():
            why_not[re.sub(r".*: (?:\S+ (?=of no))?(.*), expected some", r"\1", why)].append(name)
        note += "".join(f"Not compiled ({why}): {', '.join(names)}.\n" for why, names in why_not.items())
    text = HEAD.format(version=onnx.__version__, count=len(cases), passed=len(done), failed=len(failed),
                       unsupported=sum(map(len, reasons.values())), compiled=note)  # fmt: skip
    text += "| operator: cases that pass |\n|---|\n"
    names = [f"{name} {len(found)}" for name, found in sorted(passed.items())]
    text += f"| {', '.join(names)} |\n"
    if reasons:
        text += "\n| operator | not supported | why |\n|---|---|---|\n"
        for (name, why), details in sorted(reasons.items()):
            text += (
                f"| {name} | {len(details)} | {' '.join([why, ', '.join(sorted(set(details)))]).strip()} |\n"
            )
    if failed:
        text += "\n| case | how it fails |\n|---|---|\n"
        text += "".join(f"| {name} | {how} |\n" for name, how in failed)
    return text


def short(reason: str) -> tuple[str, str]:
    """A reason without the model's name, the node's, and the way out; and the element type it speaks of."""
    if found := re.search(r"element type (\w+)", reason):
        return "element types", found[1]
    reason = reason.partition("; ")[0]
    place = r"^.*?: (?:node \S+: \w+ \(node \d+ of \d+\)(?::)? ?|input '[^']*': )?"
    return re.sub(place, "", reason, count=1).strip(), ""


if __name__ == "__main__":
    main()
