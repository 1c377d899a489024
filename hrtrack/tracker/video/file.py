"""Recorded video: its own thread decodes it, and every frame has its true timestamp.

PyAV downloads each picture as NV12, 1.5 bytes a pixel where RGB has 3. FFmpeg could leave it on
the device, but out of a small pool that a queue of frames would drain, so that is left alone.
"""

from __future__ import annotations

import io
import logging
import os
import re
import socket
import stat
import struct
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, cast

import numpy as np

from ...errors import BackendError, HrtrackError, SourceError, TruncatedSourceError
from ...pictures import exif_orientation
from ...pyav import av, open_behind
from ...shown import Deinterlacer, Shown
from ..stopwatch import Stopwatch
from .base import (
    OPEN_TIMEOUT,
    PICTURE_CODECS,
    Decode,
    ReadAhead,
    aspect_of,
    unreadable,
    video_stream,
    why,
)
from .frame import Frame, Nv12

LOG = logging.getLogger(__name__)
READ_RETRIES = 16
"""Read errors in a row after which the rest of a damaged file is given up."""
UNINDEXED = ("mpegts", "mpeg")
NO_CUDA_DECODER = "FFmpeg has no CUDA decoder for it; use --decode cpu"
LONGEST_GAP = 3600
"""Seconds; a timestamp further ahead than this is not a pause without a look at the next one."""
DISCONTINUOUS = 0x0200
"""FFmpeg's AVFMT_TS_DISCONT: a container whose timestamps may begin anew anywhere."""


@dataclass
class _Clock:
    """Timestamps of one stream from 0 on, always rising, gaps filled at the nominal rate."""

    time_base: Fraction
    zero: int
    step: int
    last: int | None = None

    def leaps(self, pts: int | None) -> bool:
        """Whether a timestamp is so far ahead that it may be damage."""
        if pts is None or self.last is None:
            return False
        return pts - self.zero > self.last + int(LONGEST_GAP / self.time_base)

    def stamp(self, pts: int | None, *, trusted: bool = False) -> int:
        """A frame's time; a leap is only followed where it is ``trusted``."""
        leap = self.leaps(pts) and not trusted
        if pts is not None:
            pts -= self.zero
        if self.last is None:
            self.last = max(pts or 0, 0)
        else:
            usable = pts is not None and self.last < pts and not leap
            self.last = pts if usable and pts is not None else self.last + self.step
        return self.last


@dataclass
class FileSource(ReadAhead):
    """The frames of a container."""

    stride: int = 1
    stopwatch: Stopwatch | None = None
    container: av.container.InputContainer = field(kw_only=True)
    stream: av.VideoStream = field(kw_only=True)
    pipe: IO[bytes] | None = None
    decode: Decode = "cpu"

    def __post_init__(self) -> None:
        self._tally = Tally(1 / float(self.fps or 25), is_constant(self.container, self.stream))
        self._index = 0
        self._is_mp4 = self.container.format.name.startswith("mov")
        self._seeked = False
        self._shown = Shown(aspect_of(self.stream))
        # A read from a pipe cannot be interrupted; the thread is left to it.
        self._patience = 0.5 if self.pipe else 10
        super().__post_init__()

    def _let_go(self) -> None:
        self.container.close()

    def _at_end(self) -> HrtrackError | None:
        if lost := self._tally.losses(self.declared_frames):
            LOG.warning("%s: %s", self.name, lost)
        if self.end is None or self._tally.until < self.end - 0.5:
            cut = self._tally.shortfall(self.declared_duration, self.container, self.path)
            return TruncatedSourceError(f"{self.name} {cut}") if cut else None
        return None

    def _frames(self) -> Generator[Frame, None, None]:
        zero = self.stream.start_time or 0
        time_base = self.stream.time_base or Fraction(1, 1000)
        self.time_base, self.clock_zero = time_base, zero * time_base
        step = max(1, round(1 / ((self.fps or 25) * time_base)))
        clock = _Clock(time_base, zero, step)
        self._index = self._seek(zero)
        began = time.perf_counter()
        for picture, pts in self._in_time(clock):
            seconds = float(pts * time_base)
            if self.end is not None and seconds >= self.end:
                return
            self._tally.picture(seconds, picture)
            if self._seeked and self.start is not None and seconds < self.start:
                continue
            index, self._index = self._index, self._index + 1
            if (self.start is not None and seconds < self.start) or index % self.stride:
                continue
            image = self._shown.rgb(picture)
            nv12 = None
            if self.decode == "cuda" and self._shown.is_plain(picture):
                nv12 = nv12_of(picture)
            if self.stopwatch:
                self.stopwatch.add("decode", time.perf_counter() - began)
            yield Frame(index, seconds, image, pts, time_base, nv12=nv12)
            began = time.perf_counter()

    def _in_time(self, clock: _Clock) -> Iterator[tuple[av.VideoFrame, int]]:
        """Whole pictures and their timestamps.

        A picture hours after the last one is held until the next one tells whether that time is
        meant (a camera that takes one picture in two hours) or damaged.
        """
        # Where streams are cut out of and joined to others, a leap tells nothing.
        joined = bool(self.container.format.flags & DISCONTINUOUS)
        held: av.VideoFrame | None = None
        for picture in self._whole_pictures():
            # An AVI has no timestamps; those that FFmpeg makes up for H.264 begin late.
            if clock.last is None and self.container.format.name == "avi" and not self._seeked:
                clock.zero = picture.pts or 0
            if held is not None:
                goes_on = picture.pts is not None and picture.pts > (held.pts or 0)
                yield held, clock.stamp(held.pts, trusted=goes_on)
                held = None
            if clock.leaps(picture.pts) and not joined:
                held = picture
            else:
                yield picture, clock.stamp(picture.pts)
        if held is not None:
            seconds = float(((held.pts or 0) - clock.zero) * clock.time_base)
            declared = self.declared_duration or 0.0
            yield held, clock.stamp(held.pts, trusted=seconds < declared + 1)

    def _whole_pictures(self) -> Iterator[av.VideoFrame]:
        deinterlacer = Deinterlacer()
        for picture in self._pictures():
            yield from deinterlacer.push(picture)
        yield from deinterlacer.flush()

    def _pictures(self) -> Iterator[av.VideoFrame]:
        """Decoded pictures; damaged packets are counted and passed over."""
        failures, first = 0, True
        if not self.stream.codec_context.is_hwaccel:
            open_behind(self.stream.codec_context)
        while failures < READ_RETRIES and not self._stop.is_set():
            try:
                for packet in self.container.demux(self.stream):
                    if packet.size and first and self.stream.codec_context.name in PICTURE_CODECS:
                        self._shown.exif = exif_orientation(bytes(packet))
                    first = False
                    if packet.is_corrupt:
                        self._tally.cut = "a packet is incomplete"
                    elif packet.size:
                        self._tally.cut = None
                    try:
                        yield from packet.decode()
                        failures = 0
                    except av.error.FFmpegError:
                        self._tally.damaged += 1
                return
            except av.error.ExitError:
                raise SourceError(f"{self.name} stopped sending data") from None
            except av.error.FFmpegError as error:
                failures += 1
                self._tally.cut = why(error)
        try:
            yield from self.stream.codec_context.decode(None)
        except av.error.FFmpegError:
            self._tally.damaged += 1

    def _seek(self, zero: int) -> int:
        """Moves to the key frame before ``start``; the index of the first frame from there on.

        Every packet up to ``start`` is read (not decoded) to count the frames before it.
        """
        if not self.start or self.pipe or self.path is None:
            return 0
        time_base = self.stream.time_base or Fraction(1, 1000)
        wanted = zero + int(self.start / time_base)
        before, key = 0, zero
        try:
            for packet in self.container.demux(self.stream):
                if packet.pts is None and packet.size:
                    before = -1
                    break
                if packet.pts is not None:
                    seconds = float((packet.pts - zero) * time_base)
                    before += seconds < self.start
                    if packet.is_keyframe and packet.pts <= wanted:
                        key = packet.pts if packet.dts is None else packet.dts
                if packet.dts is not None and packet.dts > wanted:
                    break
            # A container without an index is searched for a time, not for a key frame.
            goal = key if self.container.format.name in UNINDEXED else wanted
            self.container.seek(goal if before > 0 else zero, stream=self.stream)
            self._seeked = before >= 0
        except av.error.FFmpegError:
            raise SourceError(
                f"{self.name} cannot be read from {self.start:g} s on, "
                "because FFmpeg cannot seek in it"
            ) from None
        return max(before, 0)

    def _nothing_there(self) -> SourceError:
        if self.start and self._tally.until:
            return SourceError(f"{self.name} ends before {self.start:g} s; nothing to track")
        if self.pipe and self._is_mp4:
            return SourceError(
                f"{self.name}: this MP4 has its index at its end, which cannot be reached through "
                "a pipe; name the file, or send MPEG-TS or Matroska"
            )
        where = " by this GPU; use --decode cpu" if self.decode == "cuda" else ""
        return SourceError(f"{self.name} holds no frame that can be decoded{where}")


NO_CUDA_DECODER = "FFmpeg has no CUDA decoder for it; use --decode cpu"


def open_file(
    source: str,
    *,
    start: float | None,
    end: float | None,
    stride: int,
    stopwatch: Stopwatch | None,
    decode: Decode = "cpu",
    pipe: IO[bytes] | None = None,
) -> FileSource:
    """Opens a file, what comes through a pipe, or a URL with a known length."""
    local = pipe is None and "://" not in source
    name = "standard input" if source == "-" else source
    accelerator = cuda_decoder() if decode == "cuda" else None
    if local and os.path.isdir(source):
        raise SourceError(f"{source} is a folder; a video or a picture was expected")
    if local and ":" in source and os.path.exists(source):
        # FFmpeg takes what stands before a colon for a protocol, unless a slash comes first.
        source = os.path.abspath(source)
    try:
        container = av.open(
            pipe or source,
            "r",
            timeout=None if pipe else OPEN_TIMEOUT,
            metadata_errors="replace",
            hwaccel=accelerator,
        )
    except RuntimeError:
        raise SourceError(f"{name}: {NO_CUDA_DECODER}") from None
    except (av.error.FFmpegError, OSError) as error:
        raise unreadable(name, error) from None
    try:
        return from_container(
            container, name, source if local else None, pipe, start, end, stride, stopwatch, decode
        )
    except av.error.FFmpegError as error:
        container.close()
        raise unreadable(name, error) from None
    except HrtrackError:
        container.close()
        raise


def open_pipe(source: str) -> IO[bytes] | None:
    """What can be read once only: ``-``, a FIFO, a socket or a descriptor as /dev/fd/63.

    None for files, which can be opened again. SourceError when it cannot be read.
    """
    descriptor = re.fullmatch(r"/dev/stdin|(?:/dev|/proc/self)/fd/(\d+)", source)
    try:
        if source == "-":
            return open(0, "rb", buffering=0, closefd=False)
        mode = os.stat(source).st_mode
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if source == "-":
            raise SourceError(f"standard input cannot be read: {why(error)}") from None
        return None
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode):
        return None
    try:
        if descriptor:
            return open(os.dup(int(descriptor[1] or 0)), "rb", buffering=0)
        if stat.S_ISSOCK(mode):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(source)
                return cast("IO[bytes]", connection.makefile("rb", buffering=0))
        return open(source, "rb", buffering=0)
    except OSError as error:
        raise SourceError(f"cannot open {source}: {why(error)}") from None


class Peeked(io.RawIOBase):
    """A pipe whose first bytes have been looked at; they are read again."""

    def __init__(self, pipe: IO[bytes], size: int) -> None:
        self.head = b""
        self._pipe = pipe
        while len(self.head) < size and (more := pipe.read(size - len(self.head))):
            self.head += more
        self._left = self.head

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return self._rest() + self._pipe.read()
        if self._left:
            given, self._left = self._left[:size], self._left[size:]
            return given
        return self._pipe.read(size) or b""

    def _rest(self) -> bytes:
        given, self._left = self._left, b""
        return given


def from_container(
    container: av.container.InputContainer,
    name: str,
    path: str | None,
    pipe: IO[bytes] | None,
    start: float | None,
    end: float | None,
    stride: int,
    stopwatch: Stopwatch | None,
    decode: Decode = "cpu",
) -> FileSource:
    """A source over a container that is open already."""
    stream = video_stream(container, name)
    stream.thread_type = "AUTO"
    if decode == "cuda":
        if not stream.codec_context.is_hwaccel:  # PyAV asks it of any stream, cover art included
            raise SourceError(f"{name}: {NO_CUDA_DECODER}")
        # Every thread wants a surface of its own, and NVDEC has 32; it gains nothing by them.
        stream.codec_context.thread_count = 1
    return FileSource(
        name,
        "file",
        fps=_nominal_rate(stream),
        declared_frames=stream.frames or None,
        declared_duration=declared_duration(container, stream, path),
        path=path,
        start=start,
        end=end,
        silent=not container.streams.audio,
        stride=stride,
        stopwatch=stopwatch,
        container=container,
        stream=stream,
        pipe=pipe,
        decode=decode,
    )


def _nominal_rate(stream: av.VideoStream) -> Fraction | None:
    rate = stream.average_rate or stream.base_rate or stream.guessed_rate
    return rate if rate and 0 < rate <= 1000 else None


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


BT709, OTHERS_AS_601, FULL_RANGE = 1, (0, 2, 5, 6), 2
"""FFmpeg's AVColorSpace and AVColorRange; it takes what has no tag for BT.601."""


def cuda_decoder() -> av.codec.hwaccel.HWAccel:
    """What `av.open` needs to decode on the GPU; BackendError where that cannot be."""
    if "cuda" not in av.codec.hwaccel.hwdevices_available():
        raise BackendError(
            "--decode cuda: the installed PyAV was built without CUDA; use --decode cpu"
        )
    accelerator = av.codec.hwaccel.HWAccel("cuda", allow_software_fallback=False)
    try:
        accelerator.create(av.codec.Codec("h264", "r"))
    except av.error.FFmpegError:
        raise BackendError(
            "--decode cuda: FFmpeg finds no NVIDIA GPU with a video decoder here; use --decode cpu"
        ) from None
    return accelerator


def nv12_of(picture: av.VideoFrame) -> Nv12 | None:
    """The planes of a decoded picture; None where only the RGB picture will do.

    That is for 10-bit and turned pictures, odd sides, and colours beyond BT.601 and BT.709.
    """
    known = picture.colorspace in (BT709, *OTHERS_AS_601)
    even = picture.width % 2 == picture.height % 2 == 0
    if picture.format.name != "nv12" or picture.rotation or not known or not even:
        return None
    luma, chroma = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[
            : plane.height, : picture.width
        ]
        for plane in picture.planes
    )
    return Nv12(
        luma,
        chroma.reshape(*chroma.shape[:1], -1, 2),
        "bt709" if picture.colorspace == BT709 else "bt601",
        picture.color_range == FULL_RANGE,
    )
