"""Everything that can go wrong for a user, each with a one-line message and an exit code."""

from __future__ import annotations

from os import PathLike


def one_line(error: BaseException) -> str:
    """What an error says, whatever line breaks are in it."""
    return " ".join(str(error).split())


class HrtrackError(Exception):
    """A fault that the user can correct.

    The message is one line: what was found, what was expected, what to do.
    """

    exit_code = 1


class UsageError(HrtrackError):
    """The options do not fit together."""

    exit_code = 2


class ImageError(UsageError, ValueError):
    """What was given as a picture is no picture, or is of a kind that is not supported."""


class SourceError(HrtrackError):
    """A video, image, folder, camera or stream cannot be read."""


class TruncatedSourceError(SourceError):
    """A source ended before its declared end; the frames that were there are kept."""

    exit_code = 3


class SinkError(HrtrackError):
    """A result cannot be written."""


def write_error(path: str | PathLike[str], error: OSError) -> SinkError:
    """The one line for an output that could not be written."""
    reason = error.strerror or str(error)
    return SinkError(f"{path} cannot be written: {reason[:1].lower()}{reason[1:]}")


class ModelError(HrtrackError):
    """A model, checkpoint or configuration is unknown or does not fit."""


class ConfigError(HrtrackError):
    """A configuration names an unknown key or a value of the wrong kind."""

    exit_code = 2


class BackendError(HrtrackError):
    """A back end or the hardware it needs is missing."""


class DataError(HrtrackError):
    """A data set is missing, empty or of another shape than declared."""
