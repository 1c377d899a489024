"""Recorded video: decoded on its own thread, every frame delivered with its true timestamp."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import IO

from ..errors import HrtrackError, SourceError, TruncatedSourceError
from .frame import Frame
from .pyav import av
from .source_base import OPEN_TIMEOUT, Decode, Source, unreadable, upright_rgb, video_stream, why
from .source_cuda import cuda_decoder, nv12_of
from .source_length import Tally, declared_duration, is_constant
from .stopwatch import Stopwatch

LOG = logging.getLogger(__name__)
QUEUED = 4
READ_RETRIES = 16
"""Read errors in a row after which the rest of a damaged file is given up."""
NO_CUDA_DECODER = "FFmpeg has no CUDA decoder for it; use --decode cpu"
LONGEST_GAP = 3600
"""Seconds; a timestamp further ahead is damage, not a pause, unless the file declares it."""


@dataclass
class _Clock:
    """Timestamps of one stream from 0 on, always rising, gaps filled at the nominal rate."""

    time_base: Fraction
    zero: int
    step: int
    length: int = 0
    last: int | None = None

    def stamp(self, pts: int | None) -> int:
        if pts is not None:
            pts -= self.zero
        if self.last is None:
            self.last = max(pts or 0, 0)
        else:
            furthest = max(self.last + int(LONGEST_GAP / self.time_base), self.length)
            usable = pts is not None and self.last < pts <= furthest
            self.last = pts if usable and pts is not None else self.last + self.step
        return self.last


@dataclass
class FileSource(Source):
    """Frames decoded ahead on a thread behind a queue of a few frames."""

    stride: int = 1
    stopwatch: Stopwatch | None = None
    container: av.container.InputContainer = field(kw_only=True)
    stream: av.VideoStream = field(kw_only=True)
    pipe: IO[bytes] | None = None
    decode: Decode = "cpu"

    def __post_init__(self) -> None:
        self._tally = Tally(1 / float(self.fps or 25), is_constant(self.stream))
        self._index = 0
        self._is_mp4 = self.container.format.name.startswith("mov")
        self._seeked = False
        self._queue: queue.Queue[Frame | BaseException | None] = queue.Queue(QUEUED)
        self._stop = threading.Event()
        self._decoding = self._frames()
        self._thread: threading.Thread | None = None
        try:
            self._first = next(self._decoding, None)
        except BaseException:
            self.container.close()
            raise
        if self._first is None:
            self.container.close()
            raise self._nothing_there()
        height, width = self._first.image.shape[:2]
        self.size = (width, height)

    def __iter__(self) -> Iterator[Frame]:
        if self._first is None:
            return
        first, self._first = self._first, None
        self._thread = threading.Thread(target=self._work, name="decode", daemon=True)
        self._thread.start()
        yield first
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        self._stop.set()
        if self._thread is None:
            self._decoding.close()
            self.container.close()
        else:
            # A read from a pipe cannot be interrupted; the thread is left to it.
            self._thread.join(timeout=0.5 if self.pipe else 10)

    def _work(self) -> None:
        last: BaseException | None = None
        try:
            for frame in self._decoding:
                if not self._put(frame):
                    return
            if lost := self._tally.losses(self.declared_frames):
                LOG.warning("%s: %s", self.name, lost)
            if self.end is None or self._tally.until < self.end - 0.5:
                cut = self._tally.shortfall(self.declared_duration, self.container, self.path)
                last = TruncatedSourceError(f"{self.name} {cut}") if cut else None
        except HrtrackError as error:
            last = error
        except Exception as error:
            last = SourceError(f"decoding {self.name} failed: {why(error)}")
        finally:
            self.container.close()
            self._put(last)
            self._put(None)

    def _put(self, item: Frame | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def _frames(self) -> Generator[Frame, None, None]:
        zero = self.stream.start_time or 0
        time_base = self.stream.time_base or Fraction(1, 1000)
        self.time_base, self.clock_zero = time_base, zero * time_base
        step = max(1, round(1 / ((self.fps or 25) * time_base)))
        clock = _Clock(time_base, zero, step, int((self.declared_duration or 0) / time_base))
        self._index = self._seek(zero)
        began = time.perf_counter()
        for picture in self._pictures():
            # An AVI has no timestamps; those that FFmpeg makes up for H.264 begin late.
            if clock.last is None and self.container.format.name == "avi" and not self._seeked:
                clock.zero = picture.pts or 0
            pts = clock.stamp(picture.pts)
            seconds = float(pts * time_base)
            if self.end is not None and seconds >= self.end:
                return
            self._tally.picture(seconds, picture)
            if self._seeked and self.start is not None and seconds < self.start:
                continue
            index, self._index = self._index, self._index + 1
            if (self.start is not None and seconds < self.start) or index % self.stride:
                continue
            image = upright_rgb(picture)
            nv12 = nv12_of(picture) if self.decode == "cuda" else None
            if self.stopwatch:
                self.stopwatch.add("decode", time.perf_counter() - began)
            yield Frame(index, seconds, image, pts, time_base, nv12=nv12)
            began = time.perf_counter()

    def _pictures(self) -> Iterator[av.VideoFrame]:
        """Decoded pictures; damaged packets are counted and passed over."""
        failures = 0
        while failures < READ_RETRIES and not self._stop.is_set():
            try:
                for packet in self.container.demux(self.stream):
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
        before = 0
        try:
            for packet in self.container.demux(self.stream):
                if packet.pts is None and packet.size:
                    before = -1
                    break
                if packet.pts is not None:
                    seconds = float((packet.pts - zero) * time_base)
                    before += seconds < self.start
                if packet.dts is not None and packet.dts > wanted:
                    break
            self.container.seek(wanted if before > 0 else zero, stream=self.stream)
            self._seeked = before >= 0
        except av.error.FFmpegError:
            raise SourceError(f"{self.name} cannot be wound to {self.start:g} s") from None
        return max(before, 0)

    def _nothing_there(self) -> SourceError:
        if self.start and self._tally.until:
            return SourceError(f"{self.name} ends before {self.start:g} s; nothing to track")
        if self.pipe and self._is_mp4:
            return SourceError(
                "this MP4 has its index at its end, which cannot be reached through a pipe; "
                "name the file, or send MPEG-TS or Matroska"
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
) -> FileSource:
    """Opens a file, ``-`` for standard input, or a URL with a known length."""
    pipe = _standard_input() if source == "-" else None
    local = pipe is None and "://" not in source
    name = "standard input" if pipe else source
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


def _standard_input() -> IO[bytes]:
    try:
        return open(0, "rb", buffering=0, closefd=False)
    except OSError as error:
        raise SourceError(f"standard input cannot be read: {why(error)}") from None


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
