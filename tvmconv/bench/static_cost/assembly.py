"""The loops of a function in assembly text, found from its labels and jumps, and what their instructions do.

Text as LLVM prints it, for x86 (AT&T), AArch64, 32-bit ARM and RISC-V.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_LABEL = re.compile(r"([\w.$]+):")
_BLOCK = re.compile(r"\.L[\w.$]+")
_JUMP = {
    "x86_64": re.compile(r"j[a-z]+"),
    "aarch64": re.compile(r"b|b\.\w+|cbn?z|tbn?z"),
    "armv7": re.compile(r"b(eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?"),
    "riscv64": re.compile(r"j|b(eq|ne|lt|ge|gt|le)u?z?"),
}
_ALWAYS = {"jmp", "b", "j"}
_RETURN = {"retq", "ret", "bx", "ud2", "br", "tail"}
# Products that are summed, of vectors and of scalars.
_FUSED = {
    "x86_64": re.compile(r"vfn?m(add|sub)\w+|vpdp\w+|v?pmaddwd"),
    "aarch64": re.compile(
        r"fml[as]l?2?|fn?m(add|sub)|(s|u|us|bf)dot|[su]ml[as]l2?|ml[as]|[su]mmla|bfm\w+"
    ),
    "armv7": re.compile(r"v(fn?m[as]|ml[as]l?|sdot|udot)\.\w+"),
    "riscv64": re.compile(r"fn?m(add|sub)\.\w+|vfn?m(acc|sac|add|sub)\.\w+"),
}
# Products alone, where a CPU has no sum in the same instruction.
_PRODUCT = {
    "x86_64": re.compile(r"v?mul[ps][sdh]|v?pmull[wd]"),
    "aarch64": re.compile(r"f?mul"),
    "armv7": re.compile(r"vmul\.\w+"),
    "riscv64": re.compile(r"v?fmul\.\w+|mulw?"),
}
_LOAD = {
    "aarch64": re.compile(r"ld\w+"),
    "armv7": re.compile(r"v?ld\w+(\.\w+)?"),
    "riscv64": re.compile(r"f?l[bhwd]u?|vl\w+\.\w+"),
}
_STORE = {
    "aarch64": re.compile(r"st\w+"),
    "armv7": re.compile(r"v?st\w+(\.\w+)?"),
    "riscv64": re.compile(r"f?s[bhwd]|vs\w+\.\w+"),
}
_STACK = {
    "x86_64": re.compile(r"\(%rsp"),
    "aarch64": re.compile(r"\[sp\b"),
    "armv7": re.compile(r"\[sp\b"),
    "riscv64": re.compile(r"\(sp\)"),
}


@dataclass(frozen=True)
class Instruction:
    """One line of assembly. ``spill``: a load or store of the stack."""

    text: str
    fma: bool = False
    load: bool = False
    store: bool = False
    spill: bool = False


@dataclass(frozen=True)
class Loop:
    """An innermost loop of ``function``: its instructions in the order of the text, jumps left out, and how
    many loops lie around it, itself included. ``branches``: jumps in it beside the one that closes it."""

    function: str
    label: str
    depth: int
    body: tuple[Instruction, ...]
    branches: int

    @property
    def fmas(self) -> int:
        return sum(i.fma for i in self.body)


_ITERATIONS = 8  # that a loop whose count is not known makes, as compilers guess


def weight(loop: Loop) -> float:
    """How many multiply-adds it is taken to make, to find where the time goes."""
    return loop.fmas * _ITERATIONS**loop.depth


def heaviest(found: Sequence[Loop]) -> Loop | None:
    """The loop where the time goes first; None where none multiplies and adds."""
    return max((loop for loop in found if loop.fmas), key=weight, default=None)


@dataclass
class _Block:
    label: str
    lines: list[str]
    follows: list[str]


def loops(text: str, arch: str) -> list[Loop]:
    """The innermost loops of every function in ``text``, code for ``arch``."""
    functions = [(name, _blocks(lines, arch)) for name, lines in _functions(text)]
    names = {line.split()[0] for _, blocks in functions for b in blocks.values() for line in b.lines}
    adds = _FUSED[arch] if any(map(_FUSED[arch].fullmatch, names)) else _PRODUCT[arch]
    return [loop for name, blocks in functions for loop in _innermost(name, blocks, arch, adds)]


def _functions(text: str) -> Iterator[tuple[str, list[str]]]:
    """(name, labels and instructions) of each function."""
    names = set(re.findall(r"^\s*\.type\s+([\w.$]+),\s*[@%]function", text, re.MULTILINE))
    name, lines = None, []
    for line in text.splitlines():
        line = re.split(r"\s*(?://|##|#APP|#NO_APP|\s@ )", line)[0].strip()
        label = _LABEL.match(line)
        if label and label[1] in names:
            if name:
                yield name, lines
            name, lines = label[1], []
        elif name and line and (label or not line.startswith(".")):
            lines.append(line)
    if name:
        yield name, lines


def _blocks(lines: list[str], arch: str) -> dict[str, _Block]:
    """Basic blocks by label, in the order of the text, with the labels of those that may follow each."""
    current = _Block("", [], [])
    found = {"": current}

    def begin(label: str, falls: bool) -> None:
        nonlocal current
        if falls:
            current.follows.append(label)
        current = found[label] = _Block(label, [], [])

    falls = True
    for line in lines:
        label = _LABEL.match(line)
        if label:
            begin(label[1], falls)
            falls = True
            continue
        if not falls:  # after a jump: reached by nothing, unless a label comes
            continue
        name = line.split()[0]
        target = _BLOCK.search(line)
        if _JUMP[arch].fullmatch(name) and target:
            current.follows.append(target[0])
            current.lines.append(line)
            if name in _ALWAYS:
                falls = False
            else:
                begin(f"{current.label}+{len(found)}", True)
        else:
            current.lines.append(line)
            falls = name not in _RETURN
    for block in found.values():
        block.follows = [label for label in block.follows if label in found]
    return found


def _innermost(
    function: str, blocks: dict[str, _Block], arch: str, adds: re.Pattern[str]
) -> Iterator[Loop]:
    bodies = _natural_loops(blocks)
    for head, body in bodies.items():
        if any(other != head and inner < body for other, inner in bodies.items()):
            continue
        lines = [line for label, block in blocks.items() if label in body for line in block.lines]
        jumps = [line for line in lines if _JUMP[arch].fullmatch(line.split()[0])]
        kept = tuple(_instruction(line, arch, adds) for line in lines if line not in jumps)
        depth = sum(body <= other for other in bodies.values())
        yield Loop(function, head, depth, kept, len(jumps) - 1)


def _natural_loops(blocks: dict[str, _Block]) -> dict[str, set[str]]:
    """The blocks of each loop by its head: all that reach a jump back to the head without passing it."""
    before: dict[str, set[str]] = {label: set() for label in blocks}
    for label, block in blocks.items():
        for after in block.follows:
            before[after].add(label)
    found: dict[str, set[str]] = {}
    for latch, head in _back_edges(blocks):
        body, todo = found.setdefault(head, {head}), [latch]
        while todo:
            label = todo.pop()
            if label not in body:
                body.add(label)
                todo.extend(before[label])
    return found


def _back_edges(blocks: dict[str, _Block]) -> list[tuple[str, str]]:
    """Jumps to a block that is on the way there, in a depth-first walk."""
    edges, seen, path = [], {""}, {""}
    stack = [("", iter(blocks[""].follows))]
    while stack:
        label, rest = stack[-1]
        after = next(rest, None)
        if after is None:
            stack.pop()
            path.discard(label)
        elif after in path:
            edges.append((label, after))
        elif after not in seen:
            seen.add(after)
            path.add(after)
            stack.append((after, iter(blocks[after].follows)))
    return edges


def _instruction(line: str, arch: str, adds: re.Pattern[str]) -> Instruction:
    name, _, operands = line.partition("\t") if "\t" in line else line.partition(" ")
    if arch == "x86_64":
        load, store = _x86_memory(name, operands)
    else:
        load, store = (bool(table[arch].fullmatch(name)) for table in (_LOAD, _STORE))
    return Instruction(
        text=line, fma=bool(adds.fullmatch(name)), load=load, store=store,
        spill=(load or store) and bool(_STACK[arch].search(operands)),
    )  # fmt: skip


def _x86_memory(name: str, operands: str) -> tuple[bool, bool]:
    """Whether an instruction in AT&T syntax loads and whether it stores: what it writes comes last."""
    if "(" not in operands or name.startswith(("lea", "prefetch", "nop")):
        return False, False
    last = re.split(r",\s*(?![^(]*\))", operands)[-1]
    stores = "(" in last and not name.startswith(("cmp", "test", "vcomis", "vucomis"))
    return not (stores and "mov" in name), stores
