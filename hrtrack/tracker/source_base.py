"""What every source has in common, and how FFmpeg's failures are told to a user."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, cast

from ..errors import SourceError
from .frame import Frame
from .pyav import av

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["file", "image", "live"]
Decode = Literal["cpu", "cuda"]
"""Where a file is decoded; on CUDA by FFmpeg, or not at all."""

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
    last_delay: float = 30.0


@dataclass
class Source(ABC):
    """An open source: iterate it for its frames, once.

    ``size`` is (width, height) of the upright picture. ``path`` is where a file's audio can be
    read again, None where there is none; ``clock_zero`` is the file's timestamp, in seconds,
    at which the source's clock reads 0. ``start`` and ``end`` are the asked range in seconds.
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

    @property
    def is_live(self) -> bool:
        """Whether frames that come too fast are dropped; a file never drops one."""
        return self.kind == "live"

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    @abstractmethod
    def close(self) -> None:
        """Lets go of the file, the camera or the connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def upright_rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A decoded frame as (H, W, 3) uint8 RGB, turned as its display matrix asks."""
    image = cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))
    quarter_turns = round(frame.rotation / 90) % 4
    if not quarter_turns:
        return image
    import cv2

    turn = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
    return cv2.rotate(image, turn[quarter_turns - 1])


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
    """The first moving picture of a container; SourceError when it has none."""
    if container.format.name in ("tty", "bin", "xbin", "adf", "idf"):
        raise SourceError(f"{name} is text, not a video")
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise SourceError(f"{name} has no video stream; it holds {kinds}")
