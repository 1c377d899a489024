"""What every source has in common, and how FFmpeg's failures are reported to a user."""

from __future__ import annotations

import os
import queue
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from types import TracebackType
from typing import Literal, Self

from ...errors import HrtrackError, SourceError
from ...pyav import av
from .frame import Frame

Kind = Literal["file", "image", "live"]
Decode = Literal["cpu", "cuda"]
"""Where a file is decoded; on CUDA by FFmpeg, or not at all."""

PICTURE_CODECS = ("mjpeg", "png", "apng", "webp", "tiff", "bmp")
"""Codecs whose packets are picture files, perhaps with EXIF data of their own."""
QUEUED = 4
"""Frames that are made ahead."""
ROOM_AGAIN = 0.1
"""Seconds after which a thread that waits for room asks whether it is to end."""
OPEN_TIMEOUT = 10.0
"""Seconds that a network source may take to answer."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a live source is opened and kept.

    ``size`` (width, height), ``fps`` and ``pixel_format`` are asked of a camera.
    ``reconnect`` is how many attempts in a row may fail before the run ends; None ends the
    run when the source does. A frame older than ``max_latency`` seconds is dropped.
    ``stall`` is how many seconds without data count as a lost source.
    """

    size: tuple[int, int] | None = None
    fps: float | None = None
    pixel_format: str | None = None
    reconnect: int | Literal["forever"] | None = None
    max_latency: float | None = None
    stall: float = 10.0
    first_delay: float = 1.0
    last_delay: float = 4.0


@dataclass
class Source(ABC):
    """An open source: iterate it for its frames, once.

    ``size`` is (width, height) of the upright picture. ``path`` is where a file's audio can be
    read again, None where there is none; ``clock_zero`` is the file's timestamp, in seconds,
    at which the source's clock reads 0. ``start`` and ``end`` are the asked range in seconds.
    ``silent`` says that there is no sound in the file for certain.
    """

    name: str
    kind: Kind
    size: tuple[int, int] = (0, 0)
    fps: Fraction | None = None
    time_base: Fraction | None = None
    declared_frames: int | None = None
    declared_duration: float | None = None
    path: str | None = None
    clock_zero: Fraction = field(default_factory=Fraction)
    start: float | None = None
    end: float | None = None
    silent: bool = False

    @property
    def is_live(self) -> bool:
        """Whether frames that come too fast are dropped; a file never drops one."""
        return self.kind == "live"

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    @abstractmethod
    def close(self) -> None:
        """Lets go of the file, the camera or the connection."""

    def upcoming(self) -> Frame | None:
        """The frame that the iteration gives next, if it is there already."""
        return None

    def halt(self) -> None:
        """Ends the iteration soon, for whichever thread is in it or waits for a frame."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass
class ReadAhead(Source):
    """Frames made ahead on a thread of their own, behind a queue of a few.

    The first is made at once, so that a source that cannot be read fails when it is opened.
    """

    def __post_init__(self) -> None:
        self._queue: queue.Queue[Frame | BaseException | None] = queue.Queue(QUEUED)
        self._taken: list[Frame | BaseException | None] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._making = self._frames()
        try:
            self._first = next(self._making, None)
        except BaseException:
            self._let_go()
            raise
        if self._first is None:
            self._let_go()
            raise self._nothing_there()
        height, width = self._first.image.shape[:2]
        self.size = (width, height)

    @abstractmethod
    def _frames(self) -> Generator[Frame, None, None]:
        """All frames, in order."""

    @abstractmethod
    def _let_go(self) -> None:
        """Closes what is read."""

    @abstractmethod
    def _nothing_there(self) -> SourceError:
        """What to say where there is no frame."""

    def _at_end(self) -> HrtrackError | None:
        """What is to be raised after the last frame."""
        return None

    def __iter__(self) -> Iterator[Frame]:
        if self._first is None:
            return
        first, self._first = self._first, None
        self._thread = threading.Thread(target=self._work, name="decode", daemon=True)
        self._thread.start()
        yield first
        while (item := self._next()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def upcoming(self) -> Frame | None:
        """The frame that the iteration gives next, if it is there already."""
        if not self._taken:
            with suppress(queue.Empty):
                self._taken.append(self._queue.get_nowait())
        first = self._taken[0] if self._taken else None
        return first if isinstance(first, Frame) else None

    def _next(self) -> Frame | BaseException | None:
        if self._taken:
            return self._taken.pop()
        while not self._stop.is_set():
            with suppress(queue.Empty):
                return self._queue.get(timeout=0.2)
        return None

    def halt(self) -> None:
        self._stop.set()

    def close(self) -> None:
        self._stop.set()
        if self._thread is None:
            self._making.close()
            self._let_go()
        else:
            with suppress(queue.Empty):  # makes room, so that the thread sees at once that it ends
                while True:
                    self._queue.get_nowait()
            self._thread.join(timeout=self._patience)

    _patience = 10.0
    """Seconds that the thread is waited for."""

    def _work(self) -> None:
        last: BaseException | None = None
        try:
            for frame in self._making:
                if not self._put(frame):
                    return
            last = self._at_end()
        except HrtrackError as error:
            last = error
        except Exception as error:
            last = SourceError(f"decoding {self.name} failed: {why(error)}")
        finally:
            self._let_go()
            self._put(last)
            self._put(None)

    def _put(self, item: Frame | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=ROOM_AGAIN)
                return True
            except queue.Full:
                continue
        return False


def why(error: BaseException) -> str:
    """FFmpeg's or the system's reason in a few words, without numbers and paths."""
    if isinstance(error, av.error.ExitError):
        return "no answer in time"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return reason[0].lower() + reason[1:]


def without_password(url: str) -> str:
    """A URL as it may stand in a log."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", url)


def unreadable(name: str, error: BaseException) -> SourceError:
    """The one line for a source that does not open."""
    if isinstance(error, FileNotFoundError):
        return SourceError(f"no such file: {name}")
    if isinstance(error, av.error.InvalidDataError) and os.path.isfile(name):
        with open(name, "rb") as file:
            head = file.read(12)
        if not head:
            return SourceError(f"{name} is empty (0 bytes); a video or a picture was expected")
        if head[4:8] in (b"ftyp", b"mdat", b"free", b"wide"):
            return SourceError(
                f"{name} has no readable index (moov): the recording was cut off or damaged "
                "and its frames cannot be found"
            )
        return SourceError(f"{name} is not a video or picture in any known format")
    return SourceError(f"cannot open {name}: {why(error)}")


def video_stream(container: av.container.InputContainer, name: str) -> av.VideoStream:
    """The moving picture that players show: the default one, of several the largest.

    Cover art and thumbnails are none. SourceError when there is no other.
    """
    if container.format.name in ("tty", "bin", "xbin", "adf", "idf"):
        raise SourceError(f"{name} is text, not a video")
    kind = av.stream.Disposition
    passed_over = kind.attached_pic | kind.timed_thumbnails
    streams = [s for s in container.streams.video if not s.disposition & passed_over]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise SourceError(f"{name} has no video stream; it holds {kinds}")
    # The still picture that stands for an animated AVIF is a stream of one frame.
    moving = [stream for stream in streams if stream.frames != 1] or streams
    # Matroska does not mark every cover as one.
    moving = [one for one in moving if one.codec_context.name not in PICTURE_CODECS] or moving
    default = [stream for stream in moving if stream.disposition & kind.default] or moving
    return max(default, key=lambda stream: stream.width * stream.height)


def aspect_of(stream: av.VideoStream) -> Fraction | None:
    """Width over height of a stream's pixels, where it says so."""
    return stream.sample_aspect_ratio or None
