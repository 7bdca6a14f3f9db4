"""Every error that tvmconv raises on purpose. Messages are one line: argument, value, what was expected."""


def printable(text: str) -> str:
    """A text on one line: a line break is a space, and another control character, which names in files may
    have, is written as an escape."""
    text = " ".join(text.splitlines())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Error(Exception):
    """Base of all tvmconv errors. Its message is one line; what in it does not print is an escape."""

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))

    def __init__(self, *args: object) -> None:
        super().__init__(*(one_line(arg) if isinstance(arg, str) else arg for arg in args))


def one_line(text: str) -> str:
    """``text`` with line breaks, escapes and all else that does not print written out, whoever wrote it."""
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
