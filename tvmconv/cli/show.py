"""`tvmconv show`: pictures of a model's filters, feature maps and receptive fields."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmconv.base.errors import SpecError
from tvmconv.cli import completion, console, models
from tvmconv.cli.options import Model, NoUserLogs, OneTarget, ReadLogs, logs_of

if TYPE_CHECKING:
    from tvmconv.show.picture import Picture

HELP = """Draw a model's filters, its feature maps for an image, and receptive fields on the image.

\b
Examples:
  tvmconv show filters model.onnx c -o filters.png
  tvmconv show maps model.onnx y --shape x=1x3x224x224 --input cat.jpg -o maps.png
  tvmconv show maps model.onnx y --shape x=1x3x224x224 --input cat.jpg -o maps.png \\
      --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  tvmconv show field model.onnx y --shape x=1x3x224x224 --input cat.jpg --at 20,30 -o field.png

A layer or a value is named as in the model, or by its node: 'tvmconv explain MODEL' lists them, and with
--picture draws the graph. Pictures are .png, .svg or .pdf. Needs pip install 'tvmconv[show]'.
"""

Layer = Annotated[str, typer.Argument(metavar="NAME", help="A layer: its node, or the value that it makes.")]
Value = Annotated[str, typer.Argument(metavar="NAME", help="A value of the model, or its node.")]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="The picture: .png, .svg or .pdf.",
                       show_default=False)
]  # fmt: skip
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="[NAME=]FILE", show_default=False,
                 help="An input of the model: a picture, resized to it; or a .npy file of what it takes."),
]  # fmt: skip
Scale = Annotated[
    float | None,
    typer.Option("--scale", metavar="N", show_default=False,
                 help="Pixels, 0 to 255, are multiplied by it (default: 1/255; 1 for inputs of integers)."),
]  # fmt: skip
Mean = Annotated[str, typer.Option("--mean", metavar="N", help="Then subtracted; N,N,N: by channel.")]
Std = Annotated[str, typer.Option("--std", metavar="N", help="Then divided by; N,N,N: by channel.")]
Order = Annotated[
    str, typer.Option("--order", metavar="WAY", help="Of the input's channels: rgb or bgr.",
                      autocompletion=completion.words("rgb", "bgr"))
]  # fmt: skip
Most = Annotated[int, typer.Option("--most", metavar="N", help="Show at most so many filters or channels.")]


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    show = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    show.callback(help=HELP)(lambda: None)
    show.command("filters", help="Draw the weights of a layer.")(filters_verb)
    show.command("maps", help="Draw a value for an image: its feature maps.")(maps_verb)
    show.command("field", help="Draw what an element of a value sees of an image.")(field_verb)
    app.add_typer(show, name="show", short_help="Pictures of filters, feature maps, receptive fields.")


def filters_verb(model: Model, layer: Layer, most: Most = 64, *, output: Output) -> None:
    """Draw the weights of a layer."""
    from tvmconv.show import filters

    _save(lambda: filters(model, layer, most=most), output)


def maps_verb(
    model: Model,
    value: Value,
    shapes: models.Shapes = None,
    fixed: models.Fixed = None,
    inputs: Inputs = None,
    scale: Scale = None,
    mean: Mean = "0",
    std: Std = "1",
    order: Order = "rgb",
    most: Most = 64,
    together: Annotated[bool, typer.Option("--together", help="All on one scale of colours.")] = False,
    referee: Annotated[
        bool, typer.Option("--referee", help="Compute in float64 by NumPy, slowly, instead of compiling.")
    ] = False,
    target: OneTarget = "native",
    log: ReadLogs = None,
    no_user_logs: NoUserLogs = False,
    *,
    output: Output,
) -> None:
    """Draw a value for an image."""
    from tvmconv.show import Preparation, maps

    ready = Preparation(scale, _numbers("--mean", mean), _numbers("--std", std), order.lower())
    logs = logs_of(log, no_user_logs)
    options = _options(shapes, fixed, inputs)

    def make() -> Picture:
        with console.progress("compiling") as step:
            return maps(model, value, preparation=ready, most=most, together=together, target=target,
                        tuning_logs=logs, progress=step, referee=referee, **options)  # fmt: skip

    _save(make, output)


def field_verb(
    model: Model,
    value: Value,
    shapes: models.Shapes = None,
    fixed: models.Fixed = None,
    inputs: Inputs = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="N", show_default=False,
                     help="ROW,COLUMN of the value's element (default: the middle one)."),
    ] = None,
    *,
    output: Output,
) -> None:  # fmt: skip
    """Draw what an element sees."""
    from tvmconv.show import field

    places = None if at is None else _numbers("--at", at, whole=True)
    options = _options(shapes, fixed, inputs)
    _save(lambda: field(model, value, at=places, **options), output)


def _save(make: Callable[[], Picture], output: Path) -> None:
    from tvmconv.show.picture import checked_file

    checked_file(output)
    picture = make()
    picture.save(output)
    print(f"{output}: {picture.text}")


def _options(shapes: list[str] | None, fixed: list[str] | None, inputs: list[str] | None) -> dict[str, Any]:
    from tvmconv.onnx.reading.branches import parse_fixed
    from tvmconv.onnx.reading.model import parse_shapes

    named: dict[str, Path] = {}
    image = None
    for text in inputs or []:
        name, equals, file = text.partition("=")
        if not equals or Path(text).exists():
            name, file = "", text
        if name in named or (not name and image is not None):
            what = f"{name!r} is given twice" if name else "expected NAME=FILE, for there are several"
            raise SpecError(f"--input {text}: {what}")
        if name:
            named[name] = Path(file)
        else:
            image = Path(file)
    return {
        "image": image, "inputs": named, "shapes": parse_shapes(shapes or []),
        "fixed": parse_fixed(fixed or []),
    }  # fmt: skip


def _numbers(option: str, text: str, *, whole: bool = False) -> tuple[Any, ...]:
    try:
        return tuple((int if whole else float)(part) for part in text.split(","))
    except ValueError:
        what = "whole numbers" if whole else "numbers"
        raise SpecError(f"{option}: {text!r}, expected {what} joined by commas") from None
