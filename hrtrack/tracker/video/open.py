"""From what a user writes after ``--source`` to frames."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from ...errors import SourceError, UsageError
from ...pictures import SUFFIXES as IMAGE_SUFFIXES
from ...pictures import is_animated, is_heif
from ...pyav import av
from ...writable import is_unfinished
from ..stopwatch import Stopwatch
from .base import OPEN_TIMEOUT, Decode, LiveOptions, Source, unreadable, without_password
from .camera import Camera, camera_input, camera_number, list_cameras
from .file import Peeked, from_container, open_file, open_pipe
from .image import (
    is_pattern,
    open_picture,
    open_sequence,
    rate_of,
    read_bytes,
    read_image,
    tell_skipped,
)
from .live import LiveSource

__all__ = [
    "Camera",
    "LiveOptions",
    "Source",
    "expand_sources",
    "is_still",
    "list_cameras",
    "open_source",
    "read_image",
    "require_there",
    "stem_of",
]

VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".m4v",
        ".mov",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".ts",
        ".m2ts",
        ".mts",
        ".flv",
        ".wmv",
        ".asf",
        ".3gp",
        ".ogv",
        ".vob",
        ".mjpeg",
        ".mjpg",
        ".y4m",
        ".gif",
        ".h264",
        ".264",
        ".hevc",
        ".265",
    ]
)
URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
MATROSKA = b"\x1aE\xdf\xa3"
HEAD = 64
"""Bytes by which a picture is known."""
Timeout = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Spelling:
    """A way of writing a source that is more than the name of a file, a folder or a glob."""

    fits: Callable[[str], bool]
    stem: Callable[[str], str]
    """What the outputs of the source are called."""
    connect: Callable[[str, LiveOptions, Timeout], av.container.InputContainer] | None = None
    """What opens a live source, at first and whenever it was lost; None for what is read as files
    are."""
    recorded: bool = False
    """Whether it may also be a recording, which it is if it has a length."""
    paced: bool = False
    """Whether it gives frames as fast as one takes them, so that a clock has to hold it back."""
    path: Callable[[str], str] | None = None
    """The file that has to exist; None if none has to."""
    on_disk: bool = False
    """Whether it is a path, which may stand in a glob, too."""
    folder: bool = False
    """Whether a folder that is called so goes before it."""


def spelling_of(source: str) -> Spelling | None:
    """The row of `SPELLINGS` for a source; None for the name of a file, a folder or a glob."""
    return next((known for known in SPELLINGS if known.fits(source)), None)


def stem_of(source: str) -> str:
    """What the outputs of a source are called."""
    known = spelling_of(source)
    return (Path(source).stem if known is None else known.stem(source)) or "source"


def _url_stem(url: str) -> str:
    scheme, colon, address = url.partition("://")
    if not colon:
        return _plain(Path(url).stem)
    host, _, path = address.partition("?")[0].strip("/").partition("/")
    # What stands before an @ may hold a password, and no dot in a host begins a suffix.
    return _plain(Path(path).stem or host.rpartition("@")[2] or scheme)


def _plain(stem: str) -> str:
    return re.sub(r"[^\w.-]+", "_", stem).strip("_")


def _synthetic(source: str, options: LiveOptions, timeout: Timeout) -> av.container.InputContainer:
    return _input(source.removeprefix("lavfi:"), "lavfi", {}, timeout)


def _stream(source: str, options: LiveOptions, timeout: Timeout) -> av.container.InputContainer:
    # Short analysis, no reordering: a stream's first second tells enough.
    asked = {"analyzeduration": "1000000", "probesize": "1000000", "max_delay": "0"}
    if source.lower().startswith("rtsp"):
        asked |= {"rtsp_transport": "tcp", "reorder_queue_size": "0"}
    return _input(source, None, asked, timeout)


def _camera(source: str, options: LiveOptions, timeout: Timeout) -> av.container.InputContainer:
    camera = camera_input(source, options)
    return _input(camera.url, camera.format, camera.options, timeout)


def _input(
    url: str, form: str | None, options: dict[str, str], timeout: Timeout
) -> av.container.InputContainer:
    return av.open(
        url, "r", format=form, options=options, timeout=timeout, metadata_errors="replace"
    )


SPELLINGS = (
    Spelling(lambda source: source == "-", lambda source: "stdin"),
    Spelling(lambda source: source.startswith("lavfi:"), _url_stem, connect=_synthetic, paced=True),
    Spelling(
        lambda source: source.lower().startswith("file://"), _url_stem, path=lambda url: url[7:]
    ),
    Spelling(
        lambda source: source.lower().startswith(("http://", "https://")),
        _url_stem,
        connect=_stream,
        recorded=True,
    ),
    Spelling(lambda source: URL.match(source) is not None, _url_stem, connect=_stream),
    Spelling(
        lambda source: camera_number(source) is not None,
        lambda source: _plain(Path(source).stem),
        connect=_camera,
        folder=True,
    ),
    Spelling(
        lambda source: source.startswith("/dev/video"),
        lambda source: Path(source).stem,
        connect=_camera,
        path=lambda device: device,
        on_disk=True,
    ),
)
"""The first that fits is meant. A kind of live source is added by its row here."""


def open_source(
    source: str,
    *,
    start: float | None = None,
    end: float | None = None,
    stride: int = 1,
    live: LiveOptions | None = None,
    stopwatch: Stopwatch | None = None,
    decode: Decode = "cpu",
    sequence: float | None = None,
) -> Source:
    """Opens a camera, stream, file or picture and decodes its first frame.

    ``source`` is ``webcam``, ``webcam:N``, a number, a device, a file, a URL (http, rtsp, udp,
    tcp...), ``lavfi:GRAPH`` for a synthetic live source, or ``-`` for standard input.
    ``start`` and ``end`` are in seconds from the source's beginning; of the frames between,
    those whose index is a multiple of ``stride`` are delivered. Videos in files can be decoded
    on an NVIDIA GPU by ``decode="cuda"``. With ``sequence``, ``source`` is a folder, a glob or a
    pattern (``img_%04d.png``) of numbered pictures, which are one clip of so many a second.

    SourceError when it cannot be read, BackendError when there is no such GPU. A
    TruncatedSourceError comes out of the iteration after the last frame of a file that is
    shorter than its header says.
    """
    _check_range(start, end, stride)
    _check_named(source)
    # The library reports in its own words what is reported here in one line.
    av.logging.set_level(None)
    live = live or LiveOptions()
    known = spelling_of(source)
    if known is not None and known.connect is not None:
        if decode == "cuda":
            raise UsageError(f"--decode cuda is for files; {without_password(source)} is none")
        opened = None
        if known.recorded and live.reconnect is None:
            opened = _opened(source, known, live)
            if opened.duration:
                name = without_password(source)
                return from_container(opened, name, None, None, start, end, stride, stopwatch)
        return _open_live(source, known, start, end, stride, live, stopwatch, opened)
    if known is not None and known.path is not None:
        source = known.path(source)
    # FFmpeg has formats for rows of pictures that are no others here.
    is_row = is_pattern(source) and Path(source).suffix.lower() in IMAGE_SUFFIXES
    if sequence is not None or is_row:
        rate = None if sequence is None else rate_of(sequence)
        if sequence is not None and os.path.isfile(source):
            raise UsageError(f"--sequence is for a folder of numbered pictures; {source} is a file")
        if decode == "cuda":
            raise UsageError(f"--decode cuda is for videos; {source} is a row of pictures")
        return open_sequence(source, rate, start=start, end=end, stride=stride, stopwatch=stopwatch)
    pipe = open_pipe(source)
    if pipe is not None:
        if not pipe.seekable():
            peeked = Peeked(pipe, HEAD)
            pipe = cast("IO[bytes]", peeked)
            if is_heif(peeked.head) or peeked.head[8:12] == b"WEBP":
                name = "standard input" if source == "-" else source
                return open_picture(name, peeked.read(), start, end, stride, stopwatch)
    elif is_picture(source):
        data = read_bytes(source)
        # FFmpeg reads animated PNG and AVIF as it reads videos.
        if data[:4] == b"RIFF" or not is_animated(data):
            return open_picture(source, data, start, end, stride, stopwatch)
    return open_file(
        source, start=start, end=end, stride=stride, stopwatch=stopwatch, decode=decode, pipe=pipe
    )


def expand_sources(text: str) -> list[str]:
    """The clips and pictures of a folder or a glob, sorted; anything else as it stands.

    SourceError when a folder or a glob holds none, UsageError for an empty text.
    """
    _check_named(text)
    spelled = spelling_of(text)
    of_folder = spelled is not None and spelled.folder and os.path.isdir(text)
    if spelled is not None and not spelled.on_disk and not of_folder:
        return [text]
    known = VIDEO_SUFFIXES | IMAGE_SUFFIXES
    left_out: list[str] = []
    # Unlike pathlib's, these questions are answered for a name that is too long, too.
    if os.path.isdir(text):
        try:
            files = list(Path(text).iterdir())
            found = [item for item in files if item.suffix.lower() in known]
            left_out = [item.name for item in files if item not in found and item.is_file()]
        except OSError as error:
            raise unreadable(text, error) from None
        what = f"the folder {text} holds no video or picture"
    elif glob.has_magic(text) and not os.path.exists(text):
        found = [Path(item) for item in glob.glob(text, recursive=True)]
        what = f"no file matches {text}"
    else:
        return [text]
    clips = sorted(str(item) for item in found if item.is_file() and not is_unfinished(item))
    if not clips:
        raise SourceError(what)
    tell_skipped(left_out, "is not a video or a picture", "are not videos or pictures")
    return clips


def require_there(name: str) -> None:
    """SourceError when a source is the name of a file that does not exist."""
    known = spelling_of(name)
    if known is not None and known.path is None:
        return
    path = name if known is None or known.path is None else known.path(name)
    if not ("%" in path or glob.has_magic(path) or os.path.lexists(path)):
        raise SourceError(f"no such file: {name}")


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its name, or by its first bytes where they know better."""
    suffix = Path(name).suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return False
    try:
        with open(name, "rb") as file:
            head = file.read(HEAD)
    except (OSError, ValueError):
        head = b""
    if suffix in IMAGE_SUFFIXES:
        is_mp4 = head[4:8] == b"ftyp" and not is_heif(head)
        return not (is_mp4 or head.startswith(MATROSKA))
    return is_heif(head) or head[8:12] == b"WEBP"


def is_still(name: str) -> bool:
    """Whether a source is one picture that does not move."""
    if not is_picture(name) or is_pattern(name):
        return False
    if not os.path.isfile(name):
        return True
    try:
        return not is_animated(Path(name).read_bytes())
    except OSError:
        return True


def has_source_suffix(text: str) -> bool:
    """Whether a text ends like a video or a picture."""
    return Path(text).suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES


def names_source(text: str) -> bool:
    """Whether a text, without ``--source`` before it, names something that can be opened: what
    exists, a glob that something matches, a pattern of numbered pictures, a URL, a camera."""
    known = spelling_of(text)
    if (known is not None and not known.on_disk) or os.path.lexists(text):
        return True
    if glob.has_magic(text):
        return next(glob.iglob(text, recursive=True), None) is not None
    return "%" in text and has_source_suffix(text)


def _check_named(source: str) -> None:
    if not source.strip():
        raise UsageError("the source is empty; name a camera, a file, a folder or a URL")


def _check_range(start: float | None, end: float | None, stride: int) -> None:
    for name, seconds in (("start", start), ("end", end)):
        if seconds is not None and not math.isfinite(seconds):
            raise UsageError(f"the {name} is {seconds}; it must be a number of seconds")
    if stride < 1:
        raise UsageError(f"the stride is {stride}; it must be at least 1")
    if start is not None and start < 0:
        raise UsageError(f"the start is {start:g} s; it must not be negative")
    if end is not None and end <= (start or 0):
        raise UsageError(f"the end ({end:g} s) must lie after the start ({start or 0:g} s)")


def _open_live(
    source: str,
    known: Spelling,
    start: float | None,
    end: float | None,
    stride: int,
    live: LiveOptions,
    stopwatch: Stopwatch | None,
    opened: av.container.InputContainer | None,
) -> LiveSource:
    connected = [opened] if opened else []

    def connect() -> av.container.InputContainer:
        if connected:
            return connected.pop()
        assert known.connect is not None
        return known.connect(source, live, (OPEN_TIMEOUT, live.stall))

    return LiveSource(
        without_password(source),
        "live",
        start=start,
        end=end,
        stride=stride,
        stopwatch=stopwatch,
        options=live,
        paced=known.paced,
        opener=connect,
    )


def _opened(source: str, known: Spelling, live: LiveOptions) -> av.container.InputContainer:
    """The connection to what may be a recording or a live stream; SourceError if there is none."""
    assert known.connect is not None
    try:
        return known.connect(source, live, (OPEN_TIMEOUT, live.stall))
    except (av.error.FFmpegError, OSError) as error:
        raise unreadable(without_password(source), error) from None
