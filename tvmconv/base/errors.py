"""Every error that tvmconv raises on purpose. Messages are one line: argument, value, what was expected."""


class Error(Exception):
    """Base of all tvmconv errors."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(one_line(arg) if isinstance(arg, str) else arg for arg in args))


def one_line(text: str) -> str:
    """``text`` with line breaks, escapes and other unprintable characters escaped, whatever its source."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class SpecError(Error, ValueError):
    """A convolution description, or an array given for one, is not valid."""


class TargetError(Error):
    """A target is unknown, or cannot be compiled for here."""


class ArtifactError(Error):
    """A library cannot be built, read, or run on this machine."""


class TuningError(Error):
    """A tuning run or a tuning log is not usable."""
