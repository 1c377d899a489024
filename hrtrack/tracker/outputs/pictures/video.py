"""Video: drawn and encoded on its own thread, playable up to the last instant even when
killed."""

from __future__ import annotations

import logging
import os
import queue
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ....errors import SinkError, one_line, write_error
from ....pyav import av, open_behind
from ....writable import unfinished
from ...stopwatch import Stopwatch
from ...video.base import Source, why
from ..base import STDOUT, Target
from .encoders import FRAME_THREADS, H264, MOST_THREADS, kind_of
from .sound import Sound

if TYPE_CHECKING:
    from ....poses import Poses
    from ...video.frame import Frame
    from ..base import Picture, Run

LOG = logging.getLogger(__name__)
QUEUED = 4
FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mkv": "matroska",
    ".mov": "mov",
    ".webm": "webm",
    ".gif": "gif",
}
WHOLE_AS_IT_GROWS = ("matroska", "webm", "gif")
"""Formats that need no index in front."""
FRAGMENTS = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof",
    "frag_duration": "250000",
    "flush_packets": "1",
}
CLUSTERS = {"cluster_time_limit": "250", "flush_packets": "1"}
"""A quarter of a second a fragment or cluster: what a cut of the power can cost."""
OPTIONS = {"mp4": FRAGMENTS, "mov": FRAGMENTS, "matroska": CLUSTERS, "webm": CLUSTERS}

AS_DECLARED = {"probesize": "32"}
"""Believe the header of a file that we wrote: FFmpeg would decode its first pictures to be sure."""
KEYFRAME_SECONDS = 2
BT601, BT709 = 6, 1
"""Colour tags (ITU-T H.273): the matrix of the conversion, the primaries and curve of sRGB."""


class Encoder:
    """One file, H.264 of ``encoder`` in fragments unless ``part`` ends like a WebM or a GIF.

    ``origin`` is the instant on the source's clock that becomes 0 in the file; the source's
    timestamps and time base are kept. Frames of another size than the source's first are
    fitted into it; odd sizes gain a line or a column.
    """

    def __init__(
        self,
        part: Path,
        source: Source,
        origin: Fraction,
        metadata: Mapping[str, str],
        stopwatch: Stopwatch,
        rate: Fraction | None = None,
        *,
        sound: bool = True,
        encoder: str = "libx264",
    ) -> None:
        self.part = part
        self.pipe_closed = False
        self.seconds = 0.0
        self.frames = 0
        self._stopwatch = stopwatch
        form = FORMATS.get(part.suffix.lower(), "mp4")
        self._kind = kind_of(form, encoder)
        options = OPTIONS.get(form, {})
        self._in_fragments = options is FRAGMENTS
        self._pipe = _standard_output() if str(part) == STDOUT else None
        # FFmpeg takes what stands before a colon for a protocol, unless a slash comes first.
        try:
            self._out = av.open(
                self._pipe or os.path.abspath(part), "w", format=form, container_options=options
            )
        except OSError as error:
            raise write_error(part, error) from None
        width, height = source.size
        self._size = (width + width % 2, height + height % 2)
        self._rate = rate or source.fps or Fraction(30)
        self._base = self._kind.base or source.time_base or 1 / self._rate
        self._origin = round(origin / self._base)
        self._out.metadata.update(metadata)
        stream = self._out.add_stream(self._kind.codec, rate=self._rate, options=self._kind.options)
        self._stream = cast("av.VideoStream", stream)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = self._kind.pixels
        self._palette = palette(self._size, self._base) if form == "gif" else None
        self._stream.time_base = self._stream.codec_context.time_base = self._base
        self._stream.codec_context.gop_size = max(1, round(self._rate * KEYFRAME_SECONDS))
        context = self._stream.codec_context
        if self._palette is None:
            context.colorspace, context.color_range = BT601, av.video.reformatter.ColorRange.MPEG
            context.color_primaries = context.color_trc = BT709
        if not source.is_live:
            if self._kind.codec == H264.codec:
                context.options = FRAME_THREADS
                context.thread_count = min(os.cpu_count() or 1, MOST_THREADS)
            open_behind(context)
        self.sound = Sound(source if sound else None, self._out, form, origin)
        self._queue: queue.Queue[tuple[Picture, int] | None] = queue.Queue(QUEUED)
        self._planes: NDArray[np.uint8] | None = None
        self._error: SinkError | None = None
        self._last: int | None = None
        self._step = max(1, round(1 / (self._rate * self._base)))
        self._limit: float | None = None
        self._thread = threading.Thread(target=self._work, name="encode", daemon=True)
        self._thread.start()

    def write(self, picture: Picture, frame: Frame) -> None:
        """Queues what gives the picture, called on the encoder's thread; the picture must not be
        changed any more. SinkError when encoding failed."""
        if self._error:
            raise self._error
        pts = frame.pts
        if pts is None or frame.time_base != self._base:
            pts = round(Fraction(frame.time) / self._base)
        self._queue.put((picture, pts - self._origin))

    def finish(self, limit: float | None) -> None:
        """Encodes what is queued, adds the sound up to ``limit`` seconds (all: None), closes."""
        self._limit = limit
        self._queue.put(None)
        self._thread.join()
        self.sound.close()
        if self._error:
            raise self._error

    def _work(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                picture, pts = item
                image_HW3 = picture()
                began = time.perf_counter()
                self._encode(image_HW3, pts)
                self._stopwatch.add("encode", time.perf_counter() - began)
            if self._last is not None:
                self._mux(self._stream.encode(None))
                self.sound.until(self.seconds if self._limit is None else self._limit)
            self._out.close()
        except Exception as error:
            self._fail(error)
            # Whoever still writes must not wait for a queue that nobody empties.
            while item is not None and (item := self._queue.get()) is not None:
                continue

    def _encode(self, image_HW3: NDArray[np.uint8], pts: int) -> None:
        if self._last is not None and pts <= self._last and self._kind.least_step > 1:
            return
        pts = max(pts, 0 if self._last is None else self._last + 1)
        self._last = pts + self._kind.least_step - 1
        image_HW3 = _fitted(image_HW3, self._size)
        if self._palette is not None:
            picture = self._palette(image_HW3, pts)
        else:
            # OpenCV's conversion takes a fifth of FFmpeg's time; its matrix is BT.601's.
            planes = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2YUV_I420, dst=self._planes)
            self._planes = None if self._kind.keeps else planes
            # Where chroma ends in the middle of a row, PyAV takes the picture for a lower one.
            whole_rows = self._size[1] % 4 == 0
            wrap = av.VideoFrame.from_numpy_buffer if whole_rows else av.VideoFrame.from_ndarray
            picture = wrap(planes, format="yuv420p")
            if self._kind.pixels != "yuv420p":
                picture = picture.reformat(format=self._kind.pixels)
        picture.pts, picture.time_base = pts, self._base
        picture.duration = self._step
        start = float(pts * self._base)
        self.sound.until(start)
        self._mux(self._stream.encode(picture))

    def _mux(self, packets: list[av.Packet]) -> None:
        """Writes what the encoder is done with, which may be an earlier picture than the last."""
        self._out.mux(packets)
        self.frames += len(packets)
        if packets and packets[-1].pts is not None:
            self.seconds = float((packets[-1].pts + self._step) * packets[-1].time_base)

    def _fail(self, error: Exception) -> None:
        self.pipe_closed = isinstance(error, BrokenPipeError)
        if self._last is not None and not self.pipe_closed:
            # What failed may fail again, and this thread must come to tell of it.
            with suppress(av.error.FFmpegError, OSError, ValueError):
                self._mux(self._stream.encode(None))
        kept = f"{self.part} plays up to {self.seconds:.1f} s"
        reason = why(error) if isinstance(error, OSError) else one_line(error)
        self._error = SinkError(f"writing the video stopped: {reason}; {kept}")
        try:
            self._out.close()
        except OSError as closing:
            LOG.debug("closing %s: %s", self.part, closing)
        if self._pipe is None and self._in_fragments and self.part.exists():
            trim(self.part)


class Video:
    """The annotated video: ``NAME.part.mp4`` while it grows, ``NAME.mp4`` when it is done.

    ``origin`` is the instant on the source's clock at which it begins: the asked start. A video
    to standard output is an MP4 in fragments, which a pipe can carry.
    """

    def __init__(
        self,
        target: Target,
        run: Run,
        stride: int = 1,
        origin: Fraction | None = None,
        *,
        sound: bool = True,
    ) -> None:
        self._path = Path(target.path)
        rate = run.source.fps / stride if run.source.fps else None
        origin = Fraction(run.source.start or 0) if origin is None else origin
        self._to_stdout = target.to_stdout
        self._encoder = Encoder(
            Path(STDOUT) if target.to_stdout else target.part,
            run.source,
            origin,
            _metadata(run),
            run.stopwatch,
            rate,
            sound=sound,
            encoder=run.encoder,
        )
        self._until = None if run.source.end is None else run.source.end - float(origin)

    @property
    def lost_sound(self) -> bool:
        """Whether the source has sound that cannot be carried over."""
        return self._encoder.sound.failed

    def write(self, frame: Frame, poses: Poses, picture: Picture) -> bool:
        """Queues the frame to be drawn; False when nobody reads the pipe any more."""
        try:
            self._encoder.write(picture, frame)
        except SinkError:
            if not self._encoder.pipe_closed:
                raise
            return False
        return True

    def close(self, *, complete: bool) -> None:
        """Ends the file, gives it its index and its name."""
        everything = float("inf") if self._until is None else self._until
        try:
            self._encoder.finish(everything if complete else None)
        except SinkError:
            if not self._encoder.pipe_closed:
                raise
        if self._to_stdout:
            return
        if self._encoder.frames:
            finalise(self._encoder.part, self._path)
        else:
            self._encoder.part.unlink(missing_ok=True)


def finalise(part: Path, path: Path) -> None:
    """Copies a fragmented file into one with its index in front, under its final name.

    A file of another format is whole as it stands. SinkError when it fails; the part is kept, and
    plays.
    """
    form = FORMATS[path.suffix.lower()]
    whole = unfinished(path.with_stem(f"{path.stem}.whole"))
    try:
        if form in WHOLE_AS_IT_GROWS:
            part.replace(path)
            return
        try:
            _rewrite(part, whole, form, ("video", "audio"))
        except ValueError as error:  # what FFmpeg says of packets that it refuses
            _rewrite(part, whole, form, ("video",))
            LOG.warning("the sound of %s is left out: %s", path, one_line(error))
        whole.replace(path)
        part.unlink()
    except (OSError, av.error.FFmpegError) as error:
        whole.unlink(missing_ok=True)
        raise SinkError(
            f"{path} could not be finished: {why(error)}; {part} holds the whole video and plays"
        ) from None


def _rewrite(part: Path, whole: Path, form: str, kinds: tuple[str, ...]) -> None:
    options = {"movflags": "faststart"}
    with (
        av.open(os.path.abspath(part), "r", options=AS_DECLARED) as source,
        av.open(os.path.abspath(whole), "w", format=form, container_options=options) as out,
    ):
        out.metadata.update(source.metadata)
        streams: dict[int, Any] = {
            stream.index: out.add_stream_from_template(stream)
            for stream in source.streams
            if stream.type in kinds
        }
        for packet in source.demux(*(source.streams[index] for index in streams)):
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)


def palette(
    size: tuple[int, int], base: Fraction
) -> Callable[[NDArray[np.uint8], int], av.VideoFrame]:
    """What gives a picture of ``size`` the 256 colours that suit it best."""
    graph = av.filter.Graph()
    given = graph.add_buffer(
        width=size[0], height=size[1], format=av.VideoFormat("rgb24"), time_base=base
    )
    split, found = graph.add("split"), graph.add("palettegen", "stats_mode=single")
    used, wanted = graph.add("paletteuse", "new=1:dither=sierra2_4a"), graph.add("buffersink")
    given.link_to(split)
    split.link_to(used, 0, 0)
    split.link_to(found, 1, 0)
    found.link_to(used, 0, 1)
    used.link_to(wanted)
    graph.configure()

    def convert(image_HW3: NDArray[np.uint8], pts: int) -> av.VideoFrame:
        picture = av.VideoFrame.from_ndarray(image_HW3, format="rgb24")
        picture.pts, picture.time_base = pts, base
        graph.push(picture)
        return cast("av.VideoFrame", graph.pull())

    return convert


def trim(part: Path) -> None:
    """Cuts a fragmented file back to its last whole fragment (ISO/IEC 14496-12, boxes)."""
    size, at, whole = part.stat().st_size, 0, 0
    with part.open("r+b") as file:
        while at + 8 <= size:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length < 8 or at + length > size:
                break
            at += length
            if kind in (b"moov", b"mdat", b"mfra"):
                whole = at
        file.truncate(whole)


def _standard_output() -> IO[bytes]:
    sys.stdout.flush()
    return open(os.dup(sys.stdout.fileno()), "wb", buffering=0)


def _metadata(run: Run) -> dict[str, str]:
    made_by = ", ".join(f"{name}: {value}" for name, value in run.model.items())
    return {"comment": f"hrtrack ({made_by})" if made_by else "hrtrack"}


def _fitted(image_HW3: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = image_HW3.shape[:2]
    if (width, height) == size:
        return image_HW3
    down, right = size[1] - height, size[0] - width
    if not (0 <= down <= 1 and 0 <= right <= 1):
        scale = min(size[0] / width, size[1] / height)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        image_HW3 = cv2.resize(image_HW3, inner, interpolation=cv2.INTER_AREA)
        down, right = size[1] - inner[1], size[0] - inner[0]
        return np.pad(
            image_HW3, ((down // 2, down - down // 2), (right // 2, right - right // 2), (0, 0))
        )
    return np.pad(image_HW3, ((0, down), (0, right), (0, 0)), mode="edge")
