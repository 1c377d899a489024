"""What an output is: where it goes, what it knows about the run, and files written line by
line."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ...errors import SinkError, UsageError, write_error
from ...writable import unfinished
from ..stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Format:
    """What may be done with an output of this kind."""

    suffixes: tuple[str, ...]
    """The endings of file names that stand for it."""
    pipe: bool = True
    """Whether it can go to standard output."""
    line_by_line: bool = False
    """Whether it is written from front to end, so that a FIFO or a device can take it too."""
    readable: bool = True
    """Whether `read_results` reads it back; ``results/read.py`` has a reader for each that it
    does."""


FORMATS: dict[str, Format] = {
    "video": Format((".mp4", ".mkv", ".mov", ".webm", ".m4v", ".gif"), readable=False),
    "image": Format(
        (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"), pipe=False, readable=False
    ),
    "jsonl": Format((".jsonl", ".ndjson"), line_by_line=True),
    "csv": Format((".csv",), line_by_line=True),
    "coco": Format((".json",)),
    "mot": Format((".txt",), line_by_line=True),
    "parquet": Format((".parquet",), pipe=False),
    "openpose": Format((), pipe=False),
}
"""All outputs that are files, by the name that ``--save`` takes before a colon."""

SUFFIXES = {name: form.suffixes for name, form in FORMATS.items()}
"""The results formats and the suffixes that stand for them."""

UNWRITTEN = frozenset((".avi", ".wmv", ".asf", ".flv", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
                       ".vob", ".3gp", ".ogv", ".mjpg", ".mjpeg", ".h264", ".hevc"))  # fmt: skip
"""Videos that are read and not written: old ones, that keep no time of a frame or no H.264."""

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Target:
    """One output: a format of `SUFFIXES` and a path, ``-`` for standard output."""

    format: str
    path: str

    @property
    def to_stdout(self) -> bool:
        """Whether the results go down a pipe."""
        return self.path == STDOUT

    @property
    def part(self) -> Path:
        """Where an output is written while it is not finished: ``NAME.part.mp4``."""
        return unfinished(Path(self.path))


def parse_save(text: str) -> Target:
    """Reads ``path.suffix``, ``format:path`` or ``-`` (JSON lines to standard output).

    ``video:-`` sends the video down the pipe.
    UsageError for a format or suffix that is not known.
    """
    if text == STDOUT:
        return Target("jsonl", STDOUT)
    name, colon, rest = text.partition(":")
    # One letter before a colon is a Windows drive; other names with a colon have more than letters.
    if colon and len(name) > 1 and name.isalpha():
        if name not in SUFFIXES:
            raise UsageError(f"unknown results format '{name}'; known are {', '.join(SUFFIXES)}")
        if not rest:
            raise UsageError(f"'{text}' names no path; write {name}:PATH")
        if rest == STDOUT and not FORMATS[name].pipe:
            raise UsageError(f"{name} cannot go to standard output; name a path")
        return _checked(Target(name, rest))
    suffix = Path(text).suffix.lower()
    for form, suffixes in SUFFIXES.items():
        if suffix in suffixes:
            return Target(form, text)
    if suffix in UNWRITTEN:
        raise UsageError(
            f"'{text}': videos are not written as {suffix}; "
            f"name a file that ends in {', '.join(SUFFIXES['video'])}"
        )
    known = ", ".join(s for suffixes in SUFFIXES.values() for s in suffixes)
    raise UsageError(
        f"cannot tell the results format of '{text}'; known suffixes are {known}, "
        f"or write FORMAT:PATH with one of {', '.join(SUFFIXES)}"
    )


def prepare(target: Target, *, overwrite: bool) -> None:
    """Makes sure, before any work, that a target may be written.

    Missing folders are made. SinkError for what exists (unless ``overwrite``) and for what
    cannot be written.
    """
    if target.to_stdout:
        return
    try:
        _prepare(target, overwrite=overwrite)
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise write_error(target.path, error) from None


def _prepare(target: Target, *, overwrite: bool) -> None:
    path = Path(target.path)
    if target.format == "openpose":
        if path.exists() and not path.is_dir():
            raise SinkError(f"{path} is a file; openpose: writes a folder of files")
        if path.is_dir() and any(path.glob("*_keypoints.json")) and not overwrite:
            raise SinkError(f"{path} holds results already; pass --overwrite to replace them")
        _probe(unfinished(path / ".hrtrack"))
        return
    if path.is_dir():
        raise SinkError(f"{path} is a folder; a file name was expected")
    if path.exists() and not path.is_file():  # a device or a FIFO, which takes what comes
        if not FORMATS[target.format].line_by_line:
            raise SinkError(f"{path} is no regular file, which {target.format} results need")
        return
    if overwrite:
        if target.part.is_file():  # perhaps another user's, which cannot be written but removed
            target.part.unlink()
    elif path.exists():
        raise SinkError(f"{path} exists already; pass --overwrite to replace it")
    elif target.part.exists():
        raise SinkError(
            f"{target.part} was left by a run that was cut off and holds what it had written; "
            "rename it to keep it, or pass --overwrite to begin anew"
        )
    if path.exists() and not os.access(path, os.W_OK):
        raise SinkError(f"{path} cannot be written: permission denied")
    _probe(target.part)


def _checked(target: Target) -> Target:
    suffix = Path(target.path).suffix.lower()
    known = SUFFIXES[target.format]
    if target.format in ("video", "image") and suffix not in known:
        if target.format == "video" and target.to_stdout:
            return target
        raise UsageError(
            f"'{target.path}' has no suffix of a {target.format}; known are {', '.join(known)}"
        )
    return target


def _probe(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        existed = path.exists()
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise write_error(path.parent if path.name.startswith(".") else path, error) from None


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...poses import Poses
    from ...skeleton import Skeleton
    from ..video.base import Source
    from ..video.frame import Frame

    Picture = Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True)
class Run:
    """The run whose results are written; ``model`` is what the outputs say of its maker."""

    source: Source
    skeleton: Skeleton
    model: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    budget: bool = False
    """Whether some people may be carried instead of estimated, which tables have a column for."""
    encoder: str = "libx264"
    """What H.264 is encoded with, as `pictures.encoders.pick` chose it."""


class Sink(Protocol):
    """Takes every frame's people; calls ``picture`` only when it needs to see them drawn, now or
    later, on whatever thread."""

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Takes one frame; False asks the run to end. SinkError when it cannot be kept."""
        ...

    def close(self, *, complete: bool) -> None:
        """Finishes the output; ``complete`` unless the run was broken off."""
        ...


class LineFile:
    """Whole lines to a file or to standard output, each handed to the system at once."""

    def __init__(self, target: Target) -> None:
        self.name = "standard output" if target.to_stdout else target.path
        self._good = 0
        try:
            if target.to_stdout:
                sys.stdout.flush()
                self._file = os.dup(sys.stdout.fileno())
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
                self._file = os.open(target.path, flags, 0o666)
        except OSError as error:
            raise write_error(self.name, error) from None
        regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        self._can_shrink = regular and not target.to_stdout

    def write(self, text: str) -> bool:
        """Writes whole lines; False when nobody reads the pipe any more.

        SinkError when the disk is full: the file then ends after its last whole line.
        """
        data = memoryview(text.encode())
        try:
            sent = 0
            while sent < len(data):
                sent += os.write(self._file, data[sent:])
        except BrokenPipeError:
            return False
        except OSError as error:
            if self._can_shrink:
                os.ftruncate(self._file, self._good)
            trouble = write_error(self.name, error)
            raise SinkError(f"{trouble}; what was written so far is good") from None
        self._good += len(data)
        return True

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._file)
