"""Images as models take them: read, resized, normalised; or arrays, as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvmconv.base.dtypes import FLOATS, numpy_dtype
from tvmconv.base.errors import Error, SpecError
from tvmconv.base.messages import unknown
from tvmconv.network.explaining.fields import image_axes
from tvmconv.network.graph import Value
from tvmconv.specs.operators.base import dims_text

Array = np.ndarray[Any, Any]

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
ORDERS = ("rgb", "bgr")


@dataclass(frozen=True)
class Preparation:
    """What is done to a picture's numbers, 0 to 255, after it is resized: times ``scale`` (None: 1/255, or 1
    where the model takes integers), minus ``mean``, over ``std``; one number, or one a channel. order: of the
    channels that the model takes. Raises SpecError for other numbers."""

    scale: float | None = None
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    order: str = "rgb"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not values or not all(map(math.isfinite, values)) or (name == "std" and 0 in values):
                wanted = "finite numbers" + (", none of them 0" if name == "std" else "")
                raise SpecError(f"{name}: {tuple(values)}, expected {wanted}")
        if self.scale is not None and (not math.isfinite(self.scale) or not self.scale):
            raise SpecError(f"scale: {self.scale}, expected a finite number, not 0")
        if self.order not in ORDERS:
            raise SpecError(f"order: {self.order!r}, expected one of {', '.join(ORDERS)}")

    def apply(self, pixels: Array, dtype: str) -> Array:
        """(H, W, C) pixels as the model takes them. Raises SpecError where mean or std do not fit."""
        channels = pixels.shape[2]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise SpecError(f"{name}: {len(values)} numbers, expected 1 or {channels}, one a channel")
        if self.order == "bgr":
            pixels = pixels[:, :, [2, 1, 0, *range(3, channels)]] if channels >= 3 else pixels
        whole = dtype not in FLOATS
        scale = (1.0 if whole else 1 / 255) if self.scale is None else self.scale
        found = (pixels.astype(np.float64) * scale - np.array(self.mean)) / np.array(self.std)
        if whole:
            limits = np.iinfo(dtype)
            found = np.clip(np.rint(found), limits.min, limits.max)
        return found.astype(numpy_dtype(dtype))


@dataclass(frozen=True)
class Fed:
    """feeds: the model's inputs. image: the one that takes the picture. background: it, (H, W, 3), 0 to 1;
    None if no picture is given."""

    feeds: dict[str, Array]
    image: str
    background: Array | None


def fed(
    values: Sequence[Value], image: Any, inputs: Mapping[str, Any] | None, preparation: Preparation | None
) -> Fed:
    """A model's inputs: ``image`` for the first that can take one, others by name, each as `prepared` takes
    it. Raises SpecError for names that the model does not have, and where it takes no image."""
    given, ready = dict(inputs or {}), preparation or Preparation()
    by_name = {value.name: value for value in values}
    for name in given:
        if name not in by_name:
            raise unknown("input", name, by_name)
    able = [value for value in values if len(value.shape) == 4 and _channels(value.shape) in _MODES]
    free = [value for value in able if value.name not in given] if image is not None else (
        [value for value in able if value.name in given] or able
    )  # fmt: skip
    if not free:
        named = ", ".join(f"{value.name} {value.type}" for value in values)
        raise SpecError(f"image: the model takes {named}, expected an input of 4 dims and 1, 3 or 4 channels")
    taker = free[0].name
    if image is not None:
        given[taker] = image
    ready_feeds = {name: prepared(one, by_name[name], ready) for name, one in given.items()}
    feeds = {name: array for name, (array, _) in ready_feeds.items()}
    return Fed(feeds, taker, ready_feeds[taker][1] if taker in ready_feeds else None)


def prepared(image: Any, wanted: Value, preparation: Preparation) -> tuple[Array, Array | None]:
    """(what the model takes, an RGB picture of it: (H, W, 3) of 0 to 1; None for what is no image).

    image: a file that Pillow reads, resized to the input's size; a .npy file, or an array, of the input's own
    shape and type, taken as it is. Raises SpecError for what cannot be read or does not fit.
    """
    if isinstance(image, str | Path) and Path(image).suffix.lower() == ".npy":
        image = _array(Path(image))
    if not isinstance(image, str | Path):
        array, name = np.asarray(image), f"input {wanted.name!r}"
        if array.shape != wanted.shape or array.dtype != numpy_dtype(wanted.dtype):
            found = f"{dims_text(array.shape)} {array.dtype}"
            raise SpecError(f"{name}: {found}, expected {wanted.type}")
        return array, _seen(array) if array.ndim == 4 and array.size else None
    if len(wanted.shape) != 4 or _channels(wanted.shape) not in _MODES:
        raise SpecError(f"input {wanted.name!r}: takes {wanted.type}, expected a .npy file, not a picture")
    axes = image_axes(wanted.shape)
    height, width = (wanted.shape[axis] for axis in axes)
    pixels = _pixels(Path(image), height, width, _MODES[_channels(wanted.shape)])
    taken = preparation.apply(pixels, wanted.dtype)
    if axes == (2, 3):
        taken = np.moveaxis(taken, 2, 0)
    background = (pixels if pixels.shape[2] == 3 else pixels[:, :, :1].repeat(3, 2)) / 255
    return np.array(np.broadcast_to(taken, wanted.shape)), background


def _pixels(path: Path, height: int, width: int, mode: str) -> Array:
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError:
        raise Error("reading pictures needs Pillow: pip install 'tvmconv[show]'") from None
    if not path.is_file():
        raise SpecError(f"image: {path}: there is no such file")
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened).convert(mode)
            resized = upright.resize((width, height), Image.Resampling.BILINEAR)
    except Image.DecompressionBombError:
        raise SpecError(f"image: {path}: too many pixels, expected a smaller picture") from None
    except (OSError, ValueError, SyntaxError, TypeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SpecError(f"image: {path}: not a picture, or a damaged one ({why})") from None
    return np.asarray(resized).reshape(height, width, -1)


def _array(path: Path) -> Array:
    if not path.is_file():
        raise SpecError(f"image: {path}: there is no such file")
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise SpecError(f"image: {path}: not a .npy file of numbers, or one that is cut short") from None


def _seen(array: Array) -> Array:
    """An array of numbers as a picture: its range becomes black to white."""
    axes = image_axes(array.shape)
    pixels = np.moveaxis(array[0], 0, -1) if axes == (2, 3) else array[0]
    pixels = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, :1].repeat(3, 2)
    finite = np.nan_to_num(pixels.astype(np.float64))
    low, high = finite.min(), finite.max()
    return (finite - low) / (high - low or 1)


def _channels(shape: Sequence[int]) -> int:
    return shape[1] if image_axes(shape) == (2, 3) else shape[-1]
