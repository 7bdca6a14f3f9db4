"""One grammar of options over all verbs: names, forms, order, help; older spellings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import typer
from onnx_models import two_rates

from tvmconv.cli import main
from tvmconv.cli.app import whole_command
from tvmconv.cli.options import ORDER

# What stands for a value: a kind of thing, or a number.
METAVARS = {
    "FILE", "DIR", "NAME", "MODEL", "LIBRARY", "DESCRIPTOR", "TARGET", "N", "LAYOUT", "WAY", "COMMAND",
    "ENGINES", "ADDRESS", "HOST:PORT", "NAME=SHAPE", "NAME=VALUE", "[NAME=]FILE",
    "LIBRARY [NAME]|DESCRIPTOR", "DESCRIPTOR|MODEL",
}  # fmt: skip
# Options whose meaning, and so help, is each verb's own.
OWN_HELP = {"--output", "--rounds", "--input", "--log", "--port", "--host", "--time", "--steps", "--cold",
            "--verbose", "--target",
            "--no-user-logs"}  # fmt: skip


def commands() -> Iterator[tuple[str, typer.core.TyperCommand]]:
    def walk(command: typer.core.TyperCommand, name: str) -> Iterator[tuple[str, typer.core.TyperCommand]]:
        inner = getattr(command, "commands", {})
        if not inner:
            yield name, command
        for word, one in inner.items():
            yield from walk(one, f"{name} {word}".strip())

    yield from walk(whole_command(), "")


def shown(command: typer.core.TyperCommand) -> list[typer.core.TyperOption]:
    return [p for p in command.params if p.param_type_name == "option" and not p.hidden]


def test_an_option_is_the_same_in_all_verbs() -> None:
    seen: dict[str, tuple[str, object]] = {}
    for verb, command in commands():
        for option in shown(command):
            name = max(option.opts, key=len)
            help_ = None if name in OWN_HELP else option.help
            facts = sorted(option.opts), option.metavar, help_
            first, before = seen.setdefault(name, (verb, facts))
            assert facts == before, (verb, first)


def test_a_letter_is_one_option() -> None:
    letters: dict[str, str] = {}
    for verb, command in commands():
        for option in shown(command):
            for letter in (o for o in option.opts if not o.startswith("--")):
                assert letters.setdefault(letter, max(option.opts, key=len)) in option.opts, verb
    assert {"-f", "-o", "-t", "-v", "-n", "-j"} <= set(letters)


def test_options_come_in_one_order() -> None:
    for verb, command in commands():
        found = [max(option.opts, key=len) for option in shown(command)]
        common = [name for name in found if name in ORDER]
        assert common == sorted(common, key=ORDER.index), verb
        assert "--json" not in found[:-1], verb


def test_values_are_named_alike_and_explained() -> None:
    for verb, command in commands():
        for parameter in command.params:
            name = getattr(parameter, "opts", [parameter.name])[-1]
            assert parameter.help, (verb, name)
            assert parameter.help.endswith((".", ")")), (verb, name)
            if not getattr(parameter, "is_flag", False):
                assert parameter.metavar in METAVARS, (verb, name, parameter.metavar)


def test_help_shows_no_types_of_python() -> None:
    for verb, command in commands():
        with typer.Context(command, info_name=verb) as context:
            text = command.get_help(context)
        assert not re.search(r"<[a-z]+(\[\w+\])?>", text), verb


def test_who_reads_records_can_be_told_which() -> None:
    for verb, command in commands():
        names = {name for option in shown(command) for name in option.opts}
        assert ("--log" in names) == ("--target" in names), verb
        assert "--no-user-logs" not in names or "--log" in names, verb
        assert not {"--onnx"} & names or {"--shape", "--set"} <= names or verb == "verify", verb


@pytest.mark.parametrize(("old", "new"), [
    ("run no.so f --repeat 5 --out y.npy", "run no.so f --rounds 5 --output y.npy"),
    ("run no.so f --repeat=5 --out=y.npy", "run no.so f --rounds 5 --output y.npy"),
    ("run no.so --weights w.npy --bias=b.npy f", "run no.so --input w=w.npy --input bias=b.npy f"),
    ("verify no.so --name dw --name=pw --seed 7", "verify no.so --seed 7 dw pw"),
    ("tune x --rpc h:1 --key k", "tune x --tracker h:1 --key k"),
    ("extract --onnx no.onnx --json", "extract --json no.onnx"),
    ("run no.so -- --repeat", "run no.so -- --repeat"),
    ("compile --name a x -o no.so", "compile --name a x -o no.so"),
    ("run no.so --out", "run no.so --output"),
])  # fmt: skip
def test_old_spellings(old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    from tvmconv.cli.old_spellings import renewed

    assert renewed(old.split()) == new.split()
    lines = capsys.readouterr().err.splitlines()
    changed = [word.partition("=")[0] for word in old.partition(" -- ")[0].split() if word not in new.split()
               and word.startswith("--")] if old != new else []  # fmt: skip
    for spelling, line in zip(changed, lines, strict=True):
        assert line.startswith(f"tvmconv: warning: {spelling} is an old spelling: write ")
    assert main(old.split()) == 2  # whatever is wrong, it is not the spelling
    assert "No such option" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["logs missing", "explain", "bench --static -t cortex-a72"])
def test_any_verb_takes_a_fixed_input(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(two_rates().model(), path)
    for rate, channels in (("16000", 6), ("8000", 8)):
        assert main([*verb.split(), "--onnx", str(path), "--set", f"sr={rate}", "--json"]) == 0
        assert f"conv2d:1x4x9x8:o{channels}:k3x3" in capsys.readouterr().out
