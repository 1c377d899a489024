"""What a file says of its length, what could be read of it, and what was lost on the way."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from ..pyav import av

DECLARES_DURATION = ("mov", "matroska", "avi", "flv", "asf")
"""Containers whose header states the length; others are guessed from what is there."""
EVEN_SHARE = 0.75
"""Of the steps between frames, at least so many must be those of a constant rate."""
OFF_BEAT = 0.2
"""Steps by which a picture may miss the beat of a constant rate, for coarse timestamps."""


@dataclass
class Tally:
    """Counts while a file is decoded. ``step`` is its nominal seconds a frame.

    Where the rate is ``constant``, gaps in the timestamps are counted as missing frames.
    """

    step: float
    constant: bool
    until: float = 0.0
    due: float = 0.0
    frames: int = 0
    damaged: int = 0
    missing: int = 0
    even: int = 0
    off_beat: int = 0
    cut: str | None = None

    def picture(self, seconds: float, picture: av.VideoFrame) -> None:
        """Counts one decoded picture at a time of the source's clock."""
        gap = seconds - self.due
        if self.frames and gap > self.step / 2:
            self.missing += round(gap / self.step)
        self.even += bool(self.frames) and abs(gap) <= self.step / 2
        steps = gap / self.step
        self.off_beat += bool(self.frames) and abs(steps - round(steps)) > OFF_BEAT
        self.damaged += picture.is_corrupt
        self.frames += 1
        self.due = max(self.due, seconds + self.step)
        shown = float((picture.duration or 0) * (picture.time_base or 0))
        self.until = max(self.until, self.due, seconds + shown)

    def losses(self, declared_frames: int | None) -> str | None:
        """A warning about pictures that are damaged or missing inside the file."""
        parts = []
        if self.damaged:
            parts.append(f"{self.damaged} damaged packets or pictures")
        # Files claim a rate and do not keep to it: a screen is recorded when it changes.
        keeps_rate = self.even >= EVEN_SHARE * (self.frames - 1) and not self.off_beat
        if self.missing and self.constant and keeps_rate:
            of = f" of {declared_frames}" if declared_frames else ""
            parts.append(f"{self.missing}{of} frames missing between its others")
        return ", ".join(parts) or None

    def shortfall(
        self, declared: float | None, container: av.container.InputContainer, path: str | None
    ) -> str | None:
        """What to say of a file that ends before its header says, or in the middle of a packet."""
        read = f"{self.until:.2f} s could be read (these were kept)"
        if declared is not None and declared - self.until > max(
            3 * self.step, 0.2, 0.01 * declared
        ):
            return f"is cut off: it declares {declared:.2f} s, {read}"
        cut = self.cut or _partial_packet(container, path)
        if cut is None:
            return None
        length = f"declares {declared:.2f} s" if declared else "declares no length"
        return f"is cut off ({cut}): it {length}, {read}"


def is_constant(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Whether a stream claims one frame rate throughout.

    An MP4 states how long each picture is shown, so none can be missing between two.
    """
    if container.format.name.startswith("mov"):
        return False
    return bool(stream.average_rate) and stream.average_rate == stream.base_rate


def declared_duration(
    container: av.container.InputContainer, stream: av.VideoStream, path: str | None
) -> float | None:
    """The picture's length in seconds by the header; None where that says nothing reliable."""
    if not container.format.name.startswith(DECLARES_DURATION):
        return None
    if stream.duration and stream.time_base:
        found = float(stream.duration * stream.time_base)
        return max(found, _avi_duration(path) if container.format.name == "avi" and path else 0)
    # Matroska states the instant of the end, not a length.
    is_matroska = container.format.name.startswith("matroska")
    start = float((stream.start_time or 0) * (stream.time_base or 0)) if is_matroska else 0.0
    stated = stream.metadata.get("DURATION", "")
    if stated.count(":") == 2:
        hours, minutes, seconds = stated.split(":")
        try:
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - start
        except ValueError:
            return None
    # Other streams may outlast the picture, so the whole file's length says too little.
    alone = len(container.streams) == 1
    return container.duration / av.time_base - start if alone and container.duration else None


def _avi_duration(path: str) -> float:
    """The main header's own length; FFmpeg corrects the one it gives by the file's size."""
    with open(path, "rb") as file:
        head = file.read(72)
    if head[24:28] != b"avih" or len(head) < 52:
        return 0.0
    microseconds, frames = struct.unpack_from("<I", head, 32)[0], struct.unpack_from("<I", head, 48)
    return float(microseconds * frames[0] / 1e6)


def _partial_packet(container: av.container.InputContainer, path: str | None) -> str | None:
    if container.format.name != "mpegts" or path is None:
        return None
    size = Path(path).stat().st_size
    return "its last packet is incomplete" if size % 188 and size % 192 else None
