"""A picture: shown by notebooks, saved as a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import Error, SpecError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg", "pdf")
DOTS = 100  # pixels an inch

_MOST_PIXELS = (1 << 16) - 1  # of a side, to matplotlib


class Picture:
    """A drawing, ``width`` by ``height`` pixels as a PNG. text: what it shows, on one line."""

    def __init__(self, width: float, height: float, text: str, *, title: str | None = None) -> None:
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError:
            raise Error("pictures need matplotlib: pip install 'tvmconv[show]'") from None
        self.text = text
        self._dots = DOTS * min(1.0, _MOST_PIXELS / max(width, height))
        self._figure = Figure(figsize=(width / DOTS, height / DOTS), dpi=DOTS)
        self._height = height
        if title is not None:
            size = min(8.0, max(5.0, width / (0.85 * len(title))))  # points; a letter is 0.85 pixels a point
            most = int(width / (0.85 * size))
            title = title if len(title) <= most else f"{title[: most // 2]}…{title[-(most // 2 - 1) :]}"
            self._figure.text(0.5, 1 - 6 / height, title, ha="center", va="top", fontsize=size,
                              parse_math=False)  # fmt: skip

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Room to draw in, in pixels from the upper left corner."""
        across = self._figure.get_figwidth() * DOTS
        below = self._height - top - height
        return self._figure.add_axes(
            (left / across, below / self._height, width / across, height / self._height)
        )

    def save(self, path: str | Path) -> Path:
        """Write a file whose name ends in .png, .svg or .pdf. Raises SpecError for other names, Error for
        what cannot be written."""
        file = checked_file(path)
        data = self._bytes(file.suffix[1:].lower())
        try:
            file.write_bytes(data)
        except OSError as error:
            raise Error(f"picture: {file}: {error.strerror}") from None
        return file

    def _bytes(self, kind: str) -> bytes:
        import matplotlib

        buffer = io.BytesIO()
        stamp: dict[str, Any] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
        with matplotlib.rc_context({"svg.hashsalt": "tvmconv"}):  # the same picture is the same file
            self._figure.savefig(buffer, format=kind, dpi=self._dots, metadata=stamp)
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self._bytes("png")

    def __repr__(self) -> str:
        return f"Picture({self.text!r})"


def checked_file(path: str | Path) -> Path:
    """The file that a picture can be written to. Raises SpecError for names of other kinds of files."""
    file = Path(path)
    if file.suffix[1:].lower() not in FORMATS:
        wanted = ", ".join(f".{kind}" for kind in FORMATS)
        raise SpecError(f"picture: {str(path)!r}, expected a file name that ends in one of {wanted}")
    if not file.parent.is_dir():
        raise SpecError(f"picture: {str(path)!r}: there is no folder {file.parent}")
    return file
