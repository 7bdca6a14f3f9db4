"""`tvmconv show`: pictures of a model's filters, feature maps and receptive fields."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmconv.base.errors import Error, SpecError
from tvmconv.cli import models
from tvmconv.cli.options import Target

if TYPE_CHECKING:
    from tvmconv.show.images import Preparation
    from tvmconv.show.picture import Picture

HELP = """Draw a model's filters, its feature maps for an image, and receptive fields on the image.

\b
Examples:
  tvmconv show filters c --onnx model.onnx -o filters.png
  tvmconv show maps y --onnx model.onnx --shape x=1x3x224x224 --image cat.jpg -o maps.png
  tvmconv show maps y --onnx model.onnx --shape x=1x3x224x224 --image cat.jpg -o maps.png \\
      --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  tvmconv show field y --onnx model.onnx --shape x=1x3x224x224 --image cat.jpg --at 20,30 -o field.png

A layer or a value is named as in the model, or by its node: 'tvmconv explain --onnx MODEL --whole' lists
them, and with --picture draws the graph. Pictures are .png, .svg or .pdf. Needs pip install 'tvmconv[show]'.
"""

Value = Annotated[
    str, typer.Argument(metavar="VALUE", help="A value of the model, or the node that makes it.",
                        show_default=False)
]  # fmt: skip
Onnx = Annotated[Path, typer.Option("--onnx", metavar="MODEL", help="An ONNX model.", show_default=False)]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="The picture: .png, .svg or .pdf.",
                       show_default=False)
]  # fmt: skip
Image = typer.Option(
    "--image", metavar="FILE", show_default=False,
    help="A picture, resized to the model's input; or a .npy file of just what the input takes.",
)  # fmt: skip
Scale = Annotated[
    float | None,
    typer.Option("--scale", metavar="S", show_default=False,
                 help="Pixels, 0 to 255, are multiplied by it (default: 1/255; 1 for inputs of integers)."),
]  # fmt: skip
Mean = Annotated[str, typer.Option("--mean", metavar="M", help="Then subtracted: a number or one a channel.")]
Std = Annotated[str, typer.Option("--std", metavar="D", help="Then divided by: a number or one a channel.")]
Order = Annotated[str, typer.Option("--order", metavar="O", help="Of the channels: rgb or bgr.")]
Most = Annotated[int, typer.Option("--most", metavar="N", help="Show at most so many.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME=FILE", show_default=False,
                 help="Another input of the model, a .npy file."),
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    show = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    show.callback(help=HELP)(lambda: None)
    show.command("filters", help="Draw the weights of a layer.")(filters_verb)
    show.command("maps", help="Draw a value for an image: its feature maps.")(maps_verb)
    show.command("field", help="Draw what an element of a value sees of an image.")(field_verb)
    app.add_typer(show, name="show", short_help="Pictures of filters, feature maps, receptive fields.")


def filters_verb(layer: Value, onnx: Onnx, output: Output, most: Most = 64) -> None:
    """Draw the weights of a layer."""
    from tvmconv.show import filters

    _save(lambda: filters(onnx, layer, most=most), output)


def maps_verb(
    value: Value,
    onnx: Onnx,
    image: Annotated[Path, Image],
    output: Output,
    shapes: models.Shapes = None,
    fixed: models.Fixed = None,
    inputs: Inputs = None,
    scale: Scale = None,
    mean: Mean = "0",
    std: Std = "1",
    order: Order = "rgb",
    most: Most = 64,
    together: Annotated[bool, typer.Option("--together", help="All on one scale of colours.")] = False,
    target: Target = "native",
    referee: Annotated[
        bool, typer.Option("--referee", help="Compute in float64 by NumPy, slowly, instead of compiling.")
    ] = False,
) -> None:
    """Draw a value for an image."""
    from tvmconv.show import maps

    options = _options(shapes, fixed, inputs, scale, mean, std, order)
    _save(lambda: maps(onnx, value, image, most=most, together=together, target=target, referee=referee,
                       **options), output)  # fmt: skip


def field_verb(
    value: Value,
    onnx: Onnx,
    output: Output,
    image: Annotated[Path | None, Image] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="ROW,COLUMN", show_default=False,
                     help="The element of the value (default: the middle one)."),
    ] = None,
    shapes: models.Shapes = None,
    fixed: models.Fixed = None,
    inputs: Inputs = None,
) -> None:  # fmt: skip
    """Draw what an element sees."""
    from tvmconv.show import field

    places = None if at is None else [int(place) for place in _numbers("--at", at, whole=True)]
    options = _options(shapes, fixed, inputs, None, "0", "1", "rgb")
    _save(lambda: field(onnx, value, image, at=places, **options), output)


def _save(make: Any, output: Path) -> None:
    from tvmconv.show.picture import checked_file

    checked_file(output)
    picture: Picture = make()
    picture.save(output)
    print(f"{output}: {picture.text}")


def _options(
    shapes: list[str] | None, fixed: list[str] | None, inputs: list[str] | None, scale: float | None,
    mean: str, std: str, order: str,
) -> dict[str, Any]:  # fmt: skip
    from tvmconv.onnx.reading.branches import parse_fixed
    from tvmconv.onnx.reading.model import parse_shapes

    return {
        "shapes": parse_shapes(shapes or []), "fixed": parse_fixed(fixed or []),
        "inputs": _arrays(inputs or []), "preparation": _preparation(scale, mean, std, order),
    }  # fmt: skip


def _preparation(scale: float | None, mean: str, std: str, order: str) -> Preparation:
    from tvmconv.show.images import Preparation

    return Preparation(scale, _numbers("--mean", mean), _numbers("--std", std), order.lower())


def _arrays(texts: Sequence[str]) -> dict[str, Any]:
    from tvmconv.cli import arrays

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals:
            raise SpecError(f"--input {text}: expected NAME=FILE")
        if name in found:
            raise SpecError(f"--input {text}: {name!r} is given twice")
        if not Path(file).is_file():
            raise Error(f"--input {text}: there is no such file")
        found[name] = arrays.load(f"input {name!r}", Path(file), None, None)
    return found


def _numbers(option: str, text: str, *, whole: bool = False) -> tuple[float, ...]:
    try:
        return tuple((int if whole else float)(part) for part in text.split(","))
    except ValueError:
        what = "whole numbers" if whole else "numbers"
        raise SpecError(f"{option}: {text!r}, expected {what} joined by commas") from None
