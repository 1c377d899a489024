"""The sound of a file, carried over beside its annotated picture, which it never costs.

Two ways are tried, on the first packets and in memory, until one gives sound that decodes: the
packets as they are, and sound that is decoded and encoded anew. Where neither does, the output has
no sound and a warning says so. What fails later is left out packet by packet.
"""

from __future__ import annotations

import io
import itertools
import logging
import os
import stat
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ....errors import one_line
from ....pyav import av
from ...video.base import Source, why

LOG = logging.getLogger(__name__)
COPIED = {
    "mp4": {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"},
    "mov": {"aac", "mp3", "ac3", "eac3", "alac"},
    "webm": {"opus", "vorbis"},
    "gif": set[str](),
}
"""Codecs that a container's players know; Matroska's know all of them. MOV has no PCM here, since
its samples follow each other without the gaps that the sound may have."""
TRIED, TRIED_SECONDS = 16, 0.3
"""Packets, and seconds of them, that must decode before a way is chosen."""
TRIED_AT_MOST = 400
"""Packets after which a sound that has not decoded so far counts as damaged throughout."""
LONGEST_COPIED = 0.25
"""Seconds; longer packets, as some PCM has, cannot be cut where the output begins or ends."""
PREROLL = 0.5
"""Seconds before the beginning that decoders are given to settle."""
JITTER = 0.05
"""Seconds by which timestamps may differ from the count of samples before silence is put in."""
LONGEST_SILENCE = 60.0
"""Seconds; over longer gaps the timestamps jump, since hours of silence would be encoded."""
LONGEST_GAP = 3600.0
"""Seconds; a timestamp further ahead is damage, for sound as for the picture."""
READ_RETRIES = 16
LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")
"""What 1 to 8 channels are taken for when the file does not say."""
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


@dataclass(frozen=True, slots=True)
class Codec:
    """What sound is encoded with: stereo, at one of ``rates`` (Hz), ``chunk`` samples a packet."""

    name: str
    rates: tuple[int, ...]
    chunk: int
    samples: str

    def rate(self, wanted: int) -> int:
        """The lowest rate that loses nothing, the highest where there is none."""
        return next((rate for rate in self.rates if rate >= wanted), self.rates[-1])


AAC = Codec("aac", (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000), 1024, "fltp")
OPUS = Codec("libopus", (48000,), 960, "flt")


class Sound:
    """Carries a source's sound into an output, a stretch at a time.

    Times are seconds of the output; ``origin`` is the time on the source's clock at which the
    output begins; no ``source`` gives no sound. Nothing that the source's sound does raises an
    error; an output that cannot be written does. ``failed`` says that there is sound in the source
    and none in the output.
    """

    def __init__(
        self, source: Source | None, out: av.container.OutputContainer, form: str, origin: Fraction
    ) -> None:
        self._out = out
        self._next: av.Packet | None = None
        self._tape: _Tape | None = None
        self._done = 0.0
        self.failed = False
        if source is None or source.path is None or source.silent or form == "gif":
            return
        if not _is_seekable(source.path):
            return
        try:
            length = (source.declared_duration or 0) - float(origin)
            self._tape = _Tape(source.path, source.clock_zero + origin, length)
            self._packets = self._chosen(self._tape, form)
            self._next = next(self._packets, None)
        except Exception as error:
            self.failed = True
            LOG.warning("the sound of %s is left out: %s", source.name, _reason(error))

    def until(self, seconds: float) -> None:
        """Writes the packets that begin before this time of the output."""
        while (packet := self._next) is not None:
            self._done = float(_start(packet))
            if self._done >= seconds:
                return
            self._out.mux(packet)
            try:
                self._next = next(self._packets, None)
            except Exception as error:
                self._next = None
                LOG.warning("the sound ends at %.1f s: %s", self._done, _reason(error))

    def close(self) -> None:
        """Lets go of the source."""
        if self._tape is not None:
            self._tape.close()
            if self._tape.damaged and not self.failed:
                LOG.warning("%d damaged packets of sound are left out", self._tape.damaged)
            self._tape = None

    def _chosen(self, tape: _Tape, form: str) -> Iterator[av.Packet]:
        """Adds the output's sound track and gives its packets; none for a source without."""
        head = tape.head()
        if not head or tape.stream is None:
            if tape.fault is not None:
                raise tape.fault
            return iter(())
        frames = [frame for packet, decoded in head if _is_within(packet) for frame in decoded]
        if not frames:
            raise ValueError("it does not decode")
        heard = _seconds(frames)
        timed = _is_timed(head)
        codec = OPUS if form == "webm" else AAC
        ways: list[_Way] = [_Encode(codec, frames[0].sample_rate, timed=timed)]
        if timed and _is_copied(tape.stream, form, [packet for packet, _ in head]):
            ways.insert(0, _Copy(tape.stream))
        fault: Exception | None = None
        for way in ways:
            try:
                _require_audible(way, head, form, heard)
            except Exception as error:
                LOG.debug("%s: %s", type(way).__name__, error)
                fault = error
                continue
            way.begin(self._out)
            packets = way.packets(itertools.chain(head, tape.rest(decode=way.decodes)))
            return _passed(packets, tape, tape.stream, form) if isinstance(way, _Copy) else packets
        assert fault is not None
        raise fault


Piece = tuple[av.Packet, Sequence[av.AudioFrame]]
"""A packet, and what it decodes to."""


class _Tape:
    """The packets of a file's default sound track, in time with the output.

    Timestamps count from ``zero``, a time in seconds of the file. Where they jump back, or ahead
    by more than an hour and beyond the declared ``length`` in seconds, they go on from the packet
    before, as the picture's do.
    """

    def __init__(self, path: str, zero: Fraction, length: float) -> None:
        self.damaged = 0
        self._length = length
        self.fault: Exception | None = None
        self._container = av.open(path, "r", metadata_errors="replace")
        try:
            tracks = self._container.streams.audio
            default = av.stream.Disposition.default
            self.stream = next((one for one in tracks if one.disposition & default), None) or (
                tracks[0] if tracks else None
            )
            if self.stream is not None:
                if self.stream.codec_context is None:
                    raise ValueError("its codec is not known")
                self._base = self.stream.time_base or Fraction(1, 1000)
                self._shift = round(zero / self._base)
                if zero > 2:
                    self._wind(zero - 1)
                self._packets = self._read()
        except BaseException:
            self._container.close()
            raise

    def close(self) -> None:
        self._container.close()

    def head(self) -> list[Piece]:
        """The first packets, until enough of them decode, and what each decodes to."""
        pieces: list[Piece] = []
        good, seconds = 0, 0.0
        if self.stream is None:
            return pieces
        for packet in self._packets:
            frames = self._decoded(packet)
            pieces.append((packet, frames))
            if not good:  # a broadcast begins in the midst of a packet, which is no damage
                self.damaged = 0
            if _is_within(packet):
                good += bool(frames)
                seconds += _seconds(frames)
            if (good >= TRIED and seconds >= TRIED_SECONDS) or len(pieces) >= TRIED_AT_MOST:
                break
        return pieces

    def rest(self, *, decode: bool) -> Iterator[Piece]:
        """The packets after the first, with what they decode to when that is asked."""
        for packet in self._packets:
            yield packet, self._decoded(packet) if decode else []
        if decode and self.stream is not None:
            held = self._decoded(None)
            for frame in held:  # some decoders give these the time of a packet long gone
                frame.pts = None
            yield av.Packet(), held

    def _decoded(self, packet: av.Packet | None) -> list[av.AudioFrame]:
        """What a packet decodes to, what is left in the decoder for None; nothing for a damaged
        packet, which is counted."""
        assert self.stream is not None
        try:
            frames = self.stream.codec_context.decode(packet) if packet is None else packet.decode()
            return [frame for frame in frames if isinstance(frame, av.AudioFrame)]
        except av.error.FFmpegError as error:
            self.damaged += 1
            self.fault = error
            return []

    def _wind(self, seconds: Fraction) -> None:
        try:
            self._container.seek(int(seconds * av.time_base))
        except av.error.FFmpegError as error:
            # The packets before the beginning are then read and passed over.
            LOG.debug("no seeking: %s", error)

    def _read(self) -> Iterator[av.Packet]:
        last, ahead = None, round(LONGEST_GAP / self._base)
        length = round(self._length / self._base)
        preroll, second = round(PREROLL / self._base), round(1 / self._base)
        for packet in self._demuxed():
            pts = packet.dts if packet.pts is None else packet.pts
            if pts is None:
                pts = 0 if last is None else last + self._shift
            pts -= self._shift
            if last is not None and not last - second <= pts <= max(last + ahead, length):
                self._shift += pts - last
                pts = last
            last = pts + (packet.duration or 0)
            if pts >= -preroll:
                packet.pts = packet.dts = pts
                packet.time_base = self._base
                yield packet

    def _demuxed(self) -> Iterator[av.Packet]:
        failures = 0
        while failures < READ_RETRIES:
            try:
                for packet in self._container.demux(self.stream):
                    if packet.size:
                        failures = 0
                        yield packet
                return
            except av.error.FFmpegError as error:
                failures += 1
                self.fault = error


class _Way(Protocol):
    """Makes an output's packets of a source's; can begin again for another output."""

    decodes: bool

    def begin(self, out: av.container.OutputContainer) -> None:
        """Adds the sound track."""

    def packets(self, pieces: Iterable[Piece]) -> Iterator[av.Packet]:
        """The packets for the track of the last `begin`, none of them before 0."""


class _Copy:
    """The packets as they are."""

    decodes = False

    def __init__(self, template: av.AudioStream) -> None:
        self._template = template

    def begin(self, out: av.container.OutputContainer) -> None:
        self._track = out.add_stream_from_template(self._template)

    def packets(self, pieces: Iterable[Piece]) -> Iterator[av.Packet]:
        track, last = self._track, Fraction(-1)
        for packet, _ in pieces:
            if _is_within(packet) and (at := _start(packet)) > last:
                last = at
                packet.stream = track
                yield packet


class _Encode:
    """Sound encoded anew, stereo; its timestamps count its samples, silence fills gaps.

    Unless the source's sound is ``timed``, gaps are not told from wrong timestamps.
    """

    decodes = True

    def __init__(self, codec: Codec, rate: int, *, timed: bool) -> None:
        self._codec, self._rate, self._timed = codec, codec.rate(rate), timed

    def begin(self, out: av.container.OutputContainer) -> None:
        track = out.add_stream(self._codec.name, rate=self._rate, layout="stereo")
        self._track = cast("av.AudioStream", track)
        self._resampler: av.AudioResampler | None = None
        self._kind: tuple[str, str, int] | None = None
        self._waiting = _silence(0)
        self._end = 0

    def packets(self, pieces: Iterable[Piece]) -> Iterator[av.Packet]:
        for packet in self._encoded(pieces):
            # The encoder's run-up; a time before 0 would make the muxer shift the picture, too.
            if _is_within(packet):
                yield packet

    def _encoded(self, pieces: Iterable[Piece]) -> Iterator[av.Packet]:
        for _, frames in pieces:
            for frame in frames:
                yield from self._take(frame)
        if self._resampler is not None:
            for part in self._resampler.resample(None):
                self._append(part.to_ndarray().astype(np.float32, copy=False))
        missing = -self._waiting.shape[1] % self._codec.chunk
        self._append(_silence(missing))
        yield from self._whole_chunks()
        yield from self._track.encode(None)

    def _take(self, frame: av.AudioFrame) -> Iterator[av.Packet]:
        at = self._end
        trusted = self._timed or not self._end
        if trusted and frame.pts is not None and frame.time_base is not None:
            at = round(frame.pts * frame.time_base * self._rate)
        sound_2S = np.concatenate(
            [_silence(0), *(part.to_ndarray() for part in self._stereo(frame))],
            axis=1,
        )
        gap = at - self._end
        jitter = JITTER * self._rate if self._end else 0
        if gap > LONGEST_SILENCE * self._rate:
            missing = -self._waiting.shape[1] % self._codec.chunk
            self._append(_silence(missing))
            yield from self._whole_chunks()
            self._end = at
        elif gap > jitter:
            self._append(_silence(gap))
        elif gap < -jitter:
            sound_2S = sound_2S[:, -gap:]
        self._append(sound_2S)
        yield from self._whole_chunks()

    def _append(self, sound_2S: NDArray[np.float32]) -> None:
        self._waiting = np.concatenate([self._waiting, sound_2S], axis=1)
        self._end += sound_2S.shape[1]

    def _whole_chunks(self) -> Iterator[av.Packet]:
        chunk = self._codec.chunk
        while self._waiting.shape[1] >= chunk:
            sound_2S, rest = self._waiting[:, :chunk], self._waiting[:, chunk:]
            planes = sound_2S if self._codec.samples == "fltp" else sound_2S.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(planes), self._codec.samples, "stereo"
            )
            frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
            frame.pts = self._end - self._waiting.shape[1]
            self._waiting = rest
            yield from self._track.encode(frame)

    def _stereo(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        """The frame at the encoder's rate; a change of the sound's kind in mid-file is followed."""
        frame = _with_layout(frame)
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if kind != self._kind:
            self._resampler = av.AudioResampler(format="fltp", layout="stereo", rate=self._rate)
            self._kind = kind
        assert self._resampler is not None
        # The count of samples is the clock; the frame's own time was read before.
        pts, frame.pts = frame.pts, None
        try:
            return self._resampler.resample(frame)
        finally:
            frame.pts = pts


def _silence(samples: int) -> NDArray[np.float32]:
    return np.zeros((2, samples), np.float32)


class _Nowhere:
    """A file that takes everything and keeps nothing.

    It can be wound, since muxers write other things into files that cannot.
    """

    def __init__(self) -> None:
        self._at = self._size = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:
        count = len(memoryview(data))
        self._at += count
        self._size = max(self._size, self._at)
        return count

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence, self._size)
        return self._at


def _passed(
    packets: Iterator[av.Packet], tape: _Tape, stream: av.AudioStream, form: str
) -> Iterator[av.Packet]:
    """Those packets that a muxer takes; the others never reach the output's own.

    A muxer that refuses one there does so in the midst of the picture's packets.
    """
    with av.open(_Nowhere(), "w", format=form, container_options=_options(form)) as out:
        way = _Copy(stream)
        way.begin(out)
        for packet in packets:
            track = packet.stream
            packet.stream = way._track
            try:
                out.mux(packet)
            except av.error.FFmpegError as error:
                LOG.debug("a packet of sound is left out: %s", error)
                tape.damaged += 1
                continue
            packet.stream = track
            yield packet


def _require_audible(way: _Way, head: Sequence[Piece], form: str, heard: float) -> None:
    """Writes the first packets in a file in memory and reads them again.

    ValueError when less than half of their ``heard`` seconds decodes, FFmpeg's errors as they are.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=form, container_options=_options(form)) as out:
        way.begin(out)
        for packet in way.packets(head):
            out.mux(packet)
    file.seek(0)
    if form in ("mp4", "mov"):
        fragments, file = file, io.BytesIO()
        with av.open(fragments, "r") as source, av.open(file, "w", format=form) as out:
            track = out.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(audio=0):
                if packet.dts is not None:
                    packet.stream = track
                    out.mux(packet)
        file.seek(0)
    with av.open(file, "r") as back:
        found = _seconds(back.decode(audio=0))
    if found < heard / 2 - TRIED_SECONDS / 3:
        raise ValueError("what is written does not decode")


def _start(packet: av.Packet) -> Fraction:
    """When a packet begins, in seconds."""
    return Fraction((packet.pts or 0) * (packet.time_base or 0))


def _is_within(packet: av.Packet) -> bool:
    """Whether a packet begins in the output, not before it."""
    return packet.pts is not None and packet.pts >= 0


def _is_copied(stream: av.AudioStream, form: str, packets: Sequence[av.Packet]) -> bool:
    known, context = COPIED.get(form), stream.codec_context
    if known is not None and context.name not in known:
        return False
    # AAC with its header in every packet (ADTS) is taken apart by muxers while they write, which
    # fails in an MP4 in fragments and crashes in a Matroska file that cannot be wound.
    if context.name == "aac" and any(_has_adts(packet) for packet in packets):
        return False
    longest = max((packet.duration or 0) * (packet.time_base or 0) for packet in packets)
    return longest <= LONGEST_COPIED


def _seconds(frames: Iterable[av.AudioFrame]) -> float:
    return sum(frame.samples / frame.sample_rate for frame in frames)


def _is_timed(head: Sequence[Piece]) -> bool:
    """Whether most packets take the time that their timestamps say.

    In an AVI of variable packets they do not, as its timestamps count bytes or blocks, nor in
    RealMedia, where many packets have one time.
    """
    lengths = [_seconds(frames) for _, frames in head]
    starts = [float(_start(packet)) for packet, _ in head]
    steps = [later - one for one, later in itertools.pairwise(starts)]
    if len(steps) < TRIED // 2 or not any(lengths):
        return True
    taken = statistics.median(length for length in lengths if length)
    return taken / 2 - 0.002 <= statistics.median(steps) < 1.5 * taken + JITTER


def _has_adts(packet: av.Packet) -> bool:
    """Whether AAC begins with the sync word of ADTS (ISO/IEC 14496-3, 1.A.2.2)."""
    head = bytes(memoryview(packet)[:2])
    return len(head) == 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0


def _with_layout(frame: av.AudioFrame) -> av.AudioFrame:
    """The frame with a layout where its file gives a number of channels alone, which FFmpeg's
    mixing refuses."""
    count = frame.layout.nb_channels
    if not frame.layout.name.endswith("channels") or not 1 <= count <= len(LAYOUTS):
        return frame
    named = av.AudioFrame.from_ndarray(frame.to_ndarray(), frame.format.name, LAYOUTS[count - 1])
    named.sample_rate = frame.sample_rate
    return named


def _options(form: str) -> dict[str, str]:
    return FRAGMENTS if form in ("mp4", "mov") else {}


def _is_seekable(path: str) -> bool:
    """Whether a path can be opened a second time; a pipe cannot."""
    try:
        return not stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:  # FFmpeg's pattern for a row of pictures, or a URL
        return True


def _reason(error: Exception) -> str:
    return why(error) if isinstance(error, av.error.FFmpegError) else one_line(error)
