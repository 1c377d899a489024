"""What an output is: where it goes, what it knows about the run, and files written line by
line."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from ...errors import SinkError, UsageError, write_error
from ...writable import unfinished
from ..stopwatch import Stopwatch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...poses import Poses
    from ...skeleton import Skeleton
    from ..video.base import Source
    from ..video.frame import Frame

    Picture = Callable[[], NDArray[np.uint8]]

Content = Literal["empty frames", "times", "joints", "names", "boxes", "scores", "estimated"]
"""What a results format may not keep: frames with nobody in them, their times, the joints, which
joints those are, the boxes, the people's scores, and who was estimated in a frame."""


class Package(NamedTuple):
    """A package that the plain installation lacks: the module, and the extra that brings it."""

    module: str
    extra: str


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of output that is a file or a folder of files: what writes it, what reads it, and
    what may be done with it.

    ``sink`` and ``reader`` are ``MODULE:NAME`` in this folder; the module is loaded when a run
    asks for the format. A sink is a `Sink` made of a `Target` and a `Run`. A reader makes the
    poses of each frame of a path, in order, and of a clip of a table where it takes one.
    """

    suffixes: tuple[str, ...]
    """The endings of file names that stand for it."""
    sink: str
    reader: str | None = None
    """What `read_results` reads it by; None if it is not read back."""
    skeleton: str | None = None
    """What finds the name of the skeleton in a file that names it and not its joints."""
    assumes: str | None = None
    """The skeleton of a file that names none and has as many joints."""
    lacks: tuple[Content, ...] = ()
    """What is lost between the sink and the reader; the tests expect everything else back."""
    stdout: bool = True
    """Whether it can go to standard output."""
    fifo: bool = False
    """Whether it is written from front to end, so that a FIFO or a device can take it too."""
    several: bool = False
    """Whether one file can be the table of several clips: the module of the sink then has the
    functions ``sources``, ``join`` and ``take_apart`` (``results/several.py``)."""
    files: str | None = None
    """The pattern of the files' names where it is a folder of files, as ``*_keypoints.json``."""
    package: Package | None = None
    """What has to be installed besides hrtrack."""

    def load(self, place: str) -> Any:
        """What stands at ``MODULE:NAME``."""
        return getattr(self.module(place), place.partition(":")[2])

    def module(self, place: str | None = None) -> ModuleType:
        """The module of the sink, or of another place."""
        return import_module(f".{(place or self.sink).partition(':')[0]}", __package__)


FORMATS: dict[str, Format] = {
    "video": Format((".mp4", ".mkv", ".mov", ".webm", ".m4v", ".gif"), "pictures.video:Video"),
    "image": Format(
        (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"),
        "pictures.image:Image",
        stdout=False,
    ),
    "jsonl": Format(
        (".jsonl", ".ndjson"),
        "results.jsonl:JsonLines",
        "results.jsonl:read_jsonl",
        skeleton="results.jsonl:skeleton_of",
        fifo=True,
    ),
    "csv": Format(
        (".csv",),
        "results.table:Csv",
        "results.table:read_csv",
        lacks=("empty frames",),
        fifo=True,
        several=True,
    ),
    "coco": Format(
        (".json",),
        "results.coco:Coco",
        "results.coco:read_coco",
        assumes="coco17",
        lacks=("empty frames",),
    ),
    "openpose": Format(
        (),
        "results.openpose:OpenPose",
        "results.openpose:read_openpose",
        lacks=("names", "boxes", "scores"),
        stdout=False,
        files="*_keypoints.json",
    ),
    "mot": Format(
        (".txt",),
        "results.mot:Mot",
        "results.mot:read_mot_frames",
        lacks=("empty frames", "times", "joints", "names", "estimated"),
        fifo=True,
    ),
    "parquet": Format(
        (".parquet",),
        "results.parquet:Parquet",
        "results.parquet:read_parquet",
        lacks=("empty frames",),
        stdout=False,
        several=True,
        package=Package("pyarrow", "parquet"),
    ),
}
"""All outputs that are files, by the name that ``--save`` takes before a colon. A results format
is added by its row here and its module; the command line, the checks before a run, the reader and
the tests take it from here."""

SUFFIXES = {name: form.suffixes for name, form in FORMATS.items()}
"""Every output that is a file, pictures too, and the suffixes that stand for it."""

RESULTS = tuple(name for name, form in FORMATS.items() if form.sink.startswith("results."))
"""The formats of results; the others are pictures."""

READABLE = tuple(name for name, form in FORMATS.items() if form.reader is not None)
"""The results formats that `read_results` reads."""

TABLES = tuple(name for name, form in FORMATS.items() if form.several)
"""The results formats of which one file can hold several clips."""

UNWRITTEN = frozenset((".avi", ".wmv", ".asf", ".flv", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
                       ".vob", ".3gp", ".ogv", ".mjpg", ".mjpeg", ".h264", ".hevc"))  # fmt: skip
"""Videos that are read and not written: old ones, that keep no time of a frame or no H.264."""

STDOUT = "-"


class Part(NamedTuple):
    """What a file that is one clip's part of a table knows of it: the clip's name, which stands
    in the column ``source``, and the table's path."""

    source: str
    table: str


@dataclass(frozen=True, slots=True)
class Target:
    """One output: a format of `FORMATS` and a path, ``-`` for standard output; and whose part it
    is of the table of several clips."""

    format: str
    path: str
    part_of: Part | None = None

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
    # One letter before a colon is a Windows drive; other words may belong to a file's name.
    if colon and (name in FORMATS or (len(name) > 1 and name.isalpha())):
        if name not in FORMATS:
            raise UsageError(
                f"unknown results format '{name}'; choose one of {', '.join(SUFFIXES)}"
            )
        if not rest:
            raise UsageError(f"'{text}' names no path; write {name}:PATH")
        if rest == STDOUT and not FORMATS[name].stdout:
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
    path, form = Path(target.path), FORMATS[target.format]
    if form.files is not None:
        if path.exists() and not path.is_dir():
            raise SinkError(f"{path} is a file; {target.format}: writes a folder of files")
        if path.is_dir() and any(path.glob(form.files)) and not overwrite:
            raise SinkError(f"{path} holds results already; pass --overwrite to replace them")
        _probe(unfinished(path / ".hrtrack"))
        return
    if path.is_dir():
        raise SinkError(f"{path} is a folder; a file name was expected")
    if path.exists() and not path.is_file():  # a device or a FIFO, which takes what comes
        if not form.fifo:
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
    known = FORMATS[target.format].suffixes
    if target.format in ("video", "image") and suffix not in known:
        if target.format == "video" and target.to_stdout:
            return target
        raise UsageError(
            f"'{target.path}' has no suffix of a {target.format}; choose one of {', '.join(known)}"
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
