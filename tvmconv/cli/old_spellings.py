"""Options as earlier versions spelled them: they still work, with a warning, and no help shows them."""

from __future__ import annotations

from collections.abc import Sequence

from tvmconv.cli import console

# By verb and old option: the new one and what its value begins with; a positional argument has no option.
_NEW = {
    "run": {
        "--repeat": ("--rounds", ""),
        "--out": ("--output", ""),
        "--weights": ("--input", "w="),
        "--bias": ("--input", "bias="),
    },
    "tune": {"--rpc": ("--tracker", "")},
    "verify": {"--name": ("", "")},
    "extract": {"--onnx": ("", "")},
}


def renewed(words: Sequence[str]) -> list[str]:
    """A command line with today's spellings, a warning for each old one."""
    verb, *rest = words or [""]
    table = _NEW.get(verb)
    if table is None:
        return list(words)
    found, arguments, line = [verb], [], iter(rest)
    for word in line:
        if word == "--":
            found += [word, *line]
            break
        old, equals, value = word.partition("=")
        if not word.startswith("--") or old not in table:
            found.append(word)
            continue
        new, prefix = table[old]
        said = f"{new} {prefix}".rstrip() or "the value alone, as an argument"
        console.log(f"warning: {old} is an old spelling: write {said}")
        value = value if equals else next(line, None)
        if value is None:
            found += [new] * bool(new)
        elif new:
            found += [new, f"{prefix}{value}"]
        else:
            arguments.append(value)
    return [*found, *arguments]
