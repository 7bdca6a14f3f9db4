"""Every error that tvmconv raises on purpose. Messages are one line: argument, value, what was expected."""


class Error(Exception):
    """Base of all tvmconv errors."""


class SpecError(Error, ValueError):
    """A convolution description, or an array given for one, is not valid."""


class TargetError(Error):
    """A target is unknown, or cannot be compiled for here."""


class ArtifactError(Error):
    """A library cannot be built, read, or run on this machine."""


class TuningError(Error):
    """A tuning run or a tuning log is not usable."""
