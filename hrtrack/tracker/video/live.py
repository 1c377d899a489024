"""Live video: a reader thread keeps only the newest frame, and comes back when the source does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from ...errors import HrtrackError, SourceError
from ...pyav import av
from ...shown import Deinterlacer, Shown
from ..stopwatch import Stopwatch
from .base import LiveOptions, Source, aspect_of, video_stream, why
from .frame import Frame

LOG = logging.getLogger(__name__)
TIME_BASE = Fraction(1, 90_000)
CLOCK_SLACK = 0.5
"""Seconds that a source's own timestamps may stray from the arrivals before they are rebased."""
QUEUED = 2.0
"""Seconds after a connection in which frames may come faster than they were taken."""
UNTIMED = ("mpjpeg", "mjpeg", "image2pipe", "jpeg_pipe")
"""Formats without timestamps: FFmpeg makes them up from a guessed frame rate."""


class Opener(Protocol):
    """Opens the connection anew; raises SourceError or one of FFmpeg's errors."""

    def __call__(self) -> av.container.InputContainer: ...


@dataclass(slots=True)
class _Arrival:
    picture: av.VideoFrame
    shown: Shown
    index: int
    seconds: float
    instant: float
    dropped: int = 0


@dataclass
class _Timeline:
    """One rising clock over all connections: the source's own pace, the arrivals' truth."""

    began: float | None = None
    last: float = 0.0
    offset: float | None = None
    connected: float = 0.0

    def reconnect(self) -> None:
        self.offset = None

    def stamp(self, own: float | None, instant: float) -> float:
        if self.began is None:
            self.began, self.offset, self.connected = instant, -(own or 0.0), instant
            return 0.0
        arrived = instant - self.began
        seconds = arrived
        if own is not None:
            if self.offset is None:
                self.offset, self.connected = arrived - own, instant
            ahead = own + self.offset - arrived
            if 0 < ahead < QUEUED and instant - self.connected < QUEUED:
                # It waited with others until the stream was known, and they all come at once.
                self.began -= ahead
            elif abs(ahead) > CLOCK_SLACK:
                self.offset = arrived - own
            seconds = own + self.offset
        self.last = max(seconds, self.last + float(TIME_BASE))
        return self.last


@dataclass
class LiveSource(Source):
    """The newest frame of a camera or a stream; older ones are dropped and counted.

    ``dropped`` counts the frames thrown away, ``reconnects`` the connections made after the
    first. Every frame that arrived was either delivered, dropped, or is the one still waiting.

    Time, and with it ``start`` and ``end``, begins with the first frame that is asked for, not
    when the source opens: loading the networks in between may take longer than the asked range.
    """

    opener: Opener = field(kw_only=True)
    options: LiveOptions = field(default_factory=LiveOptions)
    paced: bool = False
    stride: int = 1
    stopwatch: Stopwatch | None = None
    dropped: int = 0
    received: int = 0
    reconnects: int = 0

    def __post_init__(self) -> None:
        self.time_base = TIME_BASE
        self._news = threading.Condition()
        self._slot: _Arrival | None = None
        self._over = False
        self._error: HrtrackError | None = None
        self._stop = threading.Event()
        self._timeline = _Timeline()
        self._thread = threading.Thread(target=self._work, name="live", daemon=True)
        self._thread.start()
        first = self._wait()
        if first is None:
            raise self._error or SourceError(f"{self.name} ended before its first frame")
        with self._news:
            if self._slot is None:
                self._slot = first
            else:
                self.dropped += 1
        self.size = first.shown.size(first.picture)

    def __iter__(self) -> Iterator[Frame]:
        zero: float | None = None
        while (arrival := self._wait()) is not None:
            zero = arrival.seconds if zero is None else zero
            since = arrival.seconds - zero
            if self.end is not None and since >= self.end:
                return
            if self.start is not None and since < self.start:
                continue
            began = time.perf_counter()
            image = arrival.shown.rgb(arrival.picture)
            if self.stopwatch:
                self.stopwatch.add("decode", time.perf_counter() - began)
            pts = round(since / TIME_BASE)
            seconds = float(pts * TIME_BASE)
            yield Frame(
                arrival.index, seconds, image, pts, TIME_BASE, arrival.dropped, arrival.instant
            )
        if self._error:
            raise self._error

    def halt(self) -> None:
        self._stop.set()

    def close(self) -> None:
        self._stop.set()
        # A blocked read ends by its own timeout; the daemon thread is not waited for that long.
        self._thread.join(timeout=1)

    def _wait(self) -> _Arrival | None:
        with self._news:
            while True:
                arrival, self._slot = self._slot, None
                if arrival is None or self._stop.is_set():
                    if self._over or self._stop.is_set():
                        return None
                    # A bare wait cannot be interrupted by Ctrl-C on Windows.
                    self._news.wait(0.2)
                    continue
                limit = self.options.max_latency
                if limit is None or time.monotonic() - arrival.instant <= limit:
                    # Frames dropped from here on are newer than this one.
                    arrival.dropped = self.dropped
                    return arrival
                self.dropped += 1

    def _work(self) -> None:
        try:
            self._stay_connected()
        except HrtrackError as error:
            self._error = error
        except Exception as error:
            self._error = SourceError(f"reading {self.name} failed: {why(error)}")
        finally:
            with self._news:
                self._over = True
                self._news.notify_all()

    def _stay_connected(self) -> None:
        failed, delay = 0, self.options.first_delay
        while not self._stop.is_set():
            before = self.received
            trouble = self._connection()
            if self._stop.is_set():
                return
            if self.received > before:
                failed, delay = 0, self.options.first_delay
            else:
                failed += 1
            allowed = self.options.reconnect
            if allowed is None:
                if trouble:
                    raise SourceError(trouble)
                return
            trouble = trouble or f"{self.name} ended"
            if allowed != "forever" and failed >= max(allowed, 1):
                raise SourceError(f"{trouble}; given up after {failed} attempts to reconnect")
            LOG.warning("%s; next attempt in %.0f s", trouble, delay)
            if self._stop.wait(delay):
                return
            delay = min(delay * 2, self.options.last_delay)

    def _connection(self) -> str | None:
        """One connection from opening to its end; what went wrong, None for a regular end."""
        try:
            container = self.opener()
        except SourceError as error:
            return str(error)
        except (av.error.FFmpegError, OSError) as error:
            return f"cannot open {self.name}: {why(error)}"
        try:
            stream = video_stream(container, self.name)
            # Frame threads would hold back as many frames as there are threads.
            stream.thread_type = "SLICE"
            stream.codec_context.flags |= av.codec.context.Flags.low_delay
            rate = stream.average_rate
            self.fps = self.fps or (rate if rate and rate <= 1000 else None)
            if self.received:
                self.reconnects += 1
                self._timeline.reconnect()
            self._read(container, stream)
        except SourceError as error:
            return str(error)
        except av.error.ExitError:
            return f"{self.name} sent nothing for {self.options.stall:g} s"
        except av.error.FFmpegError as error:
            return f"{self.name} broke off: {why(error)}"
        finally:
            container.close()
        return None

    def _read(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        timed = container.format.name not in UNTIMED
        began: float | None = None
        shown, deinterlacer = Shown(aspect_of(stream)), Deinterlacer()
        for packet in container.demux(stream):
            instant = time.monotonic()
            if self._stop.is_set():
                return
            try:
                pictures = packet.decode()
            except av.error.InvalidDataError:
                continue
            for picture in (whole for one in pictures for whole in deinterlacer.push(one)):
                own = picture.time if timed else None
                if self.paced and own is not None:
                    began = instant - own if began is None else began
                    if self._stop.wait(max(0.0, began + own - time.monotonic())):
                        return
                    instant = time.monotonic()
                self._arrive(picture, shown, own, instant)

    def _arrive(
        self, picture: av.VideoFrame, shown: Shown, own: float | None, instant: float
    ) -> None:
        seconds = self._timeline.stamp(own, instant)
        index, self.received = self.received, self.received + 1
        if index % self.stride:
            return
        with self._news:
            self.dropped += self._slot is not None
            self._slot = _Arrival(picture, shown, index, seconds, instant)
            self._news.notify()
