"""The sound of a file, carried over beside its annotated picture."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction

from ...pyav import av
from ..source_base import Source, why

LOG = logging.getLogger(__name__)
COPIED = {
    "mp4": {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"},
    "mov": {"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le"},
}
"""Codecs that go into a container as they are; Matroska takes all of them."""


class Sound:
    """Copies a source's first audio stream into an output, a stretch at a time.

    A codec that the output's container (or a browser) does not take is encoded as AAC instead.
    Times are seconds of the output; ``origin`` is the time on the source's clock at which the
    output begins.
    """

    def __init__(
        self, source: Source, out: av.container.OutputContainer, form: str, origin: Fraction
    ) -> None:
        self._out = out
        self._shift = source.clock_zero + origin
        self._container: av.container.InputContainer | None = None
        self._encoder: av.AudioStream | None = None
        self._last: int | None = None
        if source.path is None:
            return
        container = av.open(source.path, "r", metadata_errors="replace")
        if not container.streams.audio:
            container.close()
            return
        self._container = container
        self._stream = container.streams.audio[0]
        context = self._stream.codec_context
        known = COPIED.get(form)
        if known is None or context.name in known:
            self._copy: av.AudioStream | None = out.add_stream_from_template(self._stream)
        else:
            self._copy = None
            self._encoder = out.add_stream("aac", rate=context.sample_rate)
            # Some files give a number of channels and no layout, which the encoder refuses.
            self._encoder.layout = {1: "mono", 2: "stereo"}.get(
                context.layout.nb_channels, context.layout.name
            )
        if self._shift > 1:
            container.seek(int(self._shift * av.time_base))
        self._packets = self._ready()
        self._next = next(self._packets, None)

    def until(self, seconds: float) -> None:
        """Writes the packets that begin before this time of the output."""
        if self._container is None:
            return
        while (packet := self._next) is not None:
            if packet.pts is None or packet.time_base is None:
                raise ValueError("an audio packet without a timestamp")
            if float(packet.pts * packet.time_base) >= seconds:
                return
            self._out.mux(packet)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Lets go of the source."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _ready(self) -> Iterator[av.Packet]:
        """Packets with the output's timestamps, from its beginning on."""
        try:
            if self._copy is not None:
                yield from self._copied(self._copy)
            elif self._encoder is not None:
                yield from self._encoded(self._encoder)
        except av.error.FFmpegError as error:
            LOG.warning("the sound ends early: %s", why(error))

    def _copied(self, stream: av.AudioStream) -> Iterator[av.Packet]:
        for packet in self._demuxed():
            if packet.pts is None or packet.dts is None or packet.time_base is None:
                continue
            shift = round(self._shift / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            if packet.pts < 0 or (self._last is not None and packet.dts <= self._last):
                continue
            self._last = packet.dts
            packet.stream = stream
            yield packet

    def _encoded(self, stream: av.AudioStream) -> Iterator[av.Packet]:
        resampler = av.AudioResampler(format="fltp", layout=stream.layout.name, rate=stream.rate)
        for packet in self._demuxed():
            for frame in packet.decode():
                if not isinstance(frame, av.AudioFrame):
                    continue
                if frame.pts is None or frame.time_base is None:
                    continue
                frame.pts -= round(self._shift / frame.time_base)
                if frame.pts >= 0:
                    for part in resampler.resample(frame):
                        yield from stream.encode(part)
        yield from stream.encode(None)

    def _demuxed(self) -> Iterator[av.Packet]:
        if self._container is not None:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet
