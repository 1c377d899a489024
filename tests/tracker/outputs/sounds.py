"""Clips with every kind of sound that FFmpeg writes, in every container that takes it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from numpy.typing import NDArray

from ..clips import CONVERTER, stamped

LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")
PICTURES = {
    ".avi": "mpeg4", ".mkv": "mpeg4", ".ts": "libx264", ".mp4": "mpeg4", ".mov": "mpeg4",
    ".wmv": "wmv2", ".flv": "flv1", ".m3u8": "libx264",
}  # fmt: skip
FPS = 10


def beeps(rate: int, seconds: float, begin: float = 0.0) -> NDArray[np.float32]:
    """A tone of 200 Hz in the second half of every second of the clock, silence before it."""
    times = begin + np.arange(round(seconds * rate)) / rate
    return (np.sin(times * 2 * np.pi * 200) * (times % 1 >= 0.5) * 0.5).astype(np.float32)


def sound_clip(
    path: Path,
    codec: str,
    rate: int,
    channels: int,
    *,
    seconds: float = 2.0,
    stretches: Sequence[tuple[float, float]] | None = None,
) -> Path:
    """Writes numbered frames with `beeps`; ``stretches`` are where there is sound at all.

    FFmpeg's errors for what the container does not take.
    """
    with av.open(str(path), "w") as out:
        picture = cast("av.VideoStream", out.add_stream(PICTURES[path.suffix], rate=FPS))
        picture.width, picture.height, picture.pix_fmt = 96, 64, "yuv420p"
        if PICTURES[path.suffix] == "libx264":
            picture.options = {"preset": "ultrafast", "bf": "0", "g": "5"}
        shown = [_picture(picture, index) for index in range(round(seconds * FPS))]
        stretches = stretches or [(0.0, seconds)]
        if codec == "adts":
            sounding = _adts(out, rate, channels, stretches)
        else:
            sound = add_sound(out, codec, rate, channels)
            sounding = sound_packets(sound, stretches)
        # Both in turn, as recordings are: some containers have no other order.
        for index, packets in enumerate([*shown, picture.encode(None)]):
            out.mux(packets)
            for packet in sounding:
                out.mux(packet)
                if seconds_of(packet) > index / FPS:
                    break
        out.mux(list(sounding))
    return path


def seconds_of(packet: av.Packet) -> float:
    """When a packet begins."""
    return float((packet.pts or 0) * (packet.time_base or 0))


def add_sound(
    out: av.container.OutputContainer, codec: str, rate: int, channels: int
) -> av.AudioStream:
    """Adds a sound track, of an experimental encoder where need be."""
    sound = cast("av.AudioStream", out.add_stream(codec, rate=rate, layout=LAYOUTS[channels - 1]))
    sound.codec_context.options = {"strict": "experimental"}
    sound.codec_context.time_base = Fraction(1, rate)
    if codec.startswith("wma"):
        sound.bit_rate = 96_000
    return sound


def sound_packets(
    sound: av.AudioStream, stretches: Sequence[tuple[float, float]]
) -> Iterator[av.Packet]:
    """The packets of `beeps` in these stretches of time."""
    rate, layout = sound.codec_context.sample_rate, sound.codec_context.layout
    for begin, end in stretches:
        tone = beeps(rate, end - begin, begin)
        for at in range(0, len(tone), 960):
            piece = np.repeat(tone[at : at + 960], layout.nb_channels)[None]
            frame = av.AudioFrame.from_ndarray(piece, "flt", layout.name)
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round(begin * rate) + at
            yield from sound.encode(frame)
    yield from sound.encode(None)


def _adts(
    out: av.container.OutputContainer,
    rate: int,
    channels: int,
    stretches: Sequence[tuple[float, float]],
) -> Iterator[av.Packet]:
    """AAC with its header in every packet, as cameras and recorders of broadcasts write it."""
    file = io.BytesIO()
    with av.open(file, "w", format="adts") as whole:
        sound = add_sound(whole, "aac", rate, channels)
        whole.mux(list(sound_packets(sound, stretches)))
    source = av.open(io.BytesIO(file.getvalue()), "r", format="aac")
    track = out.add_stream_from_template(source.streams.audio[0])
    if out.format.name == "avi":
        track.codec_tag = "\x10\x16\0\0"

    def packets() -> Iterator[av.Packet]:
        for index, packet in enumerate(source.demux(audio=0)):
            if packet.size:
                packet.stream, packet.time_base = track, Fraction(1, rate)
                packet.pts = packet.dts = index * 1024
                yield packet

    return packets()


def _picture(stream: av.VideoStream, index: int) -> list[av.Packet]:
    plain = av.VideoFrame.from_ndarray(stamped(index), format="rgb24")
    picture = CONVERTER.reformat(plain, format="yuv420p")
    picture.pts, picture.time_base = index, Fraction(1, FPS)
    return stream.encode(picture)


def decoded(container: av.container.InputContainer, stream: Any) -> Iterator[Any]:
    """A stream's frames, those of damaged packets passed over."""
    for packet in container.demux(stream):
        with suppress(av.error.FFmpegError):
            yield from packet.decode()


def _mono(frame: av.AudioFrame) -> NDArray[np.float64]:
    """The first channel, from -1 to 1."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype == np.uint8:
        return values[0] / 128.0 - 1
    full = 1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    return values[0].astype(np.float64) / full


def heard(path: Path) -> tuple[float, list[tuple[float, float]], str | None]:
    """The seconds of sound, where there are tones (begin, end), and the codec, if there is one."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return 0.0, [], None
        stream = container.streams.audio[0]
        total, at, loud = 0.0, 0.0, list[float]()
        for frame in decoded(container, stream):
            total += frame.samples / frame.sample_rate
            values = np.abs(_mono(frame))
            # The tone crosses 0, so loudness is that of 5 ms.
            step = frame.sample_rate // 200
            starts = np.arange(0, len(values), step)
            found = starts[np.maximum.reduceat(values, starts) > 0.1]
            # What a decoder holds back to the end has no time of its own.
            at = at if frame.time is None else frame.time
            loud.extend(at + found / frame.sample_rate)
            at += frame.samples / frame.sample_rate
        edges: list[tuple[float, float]] = []
        for time in loud:
            if edges and time - edges[-1][1] < 0.1:
                edges[-1] = (edges[-1][0], time)
            else:
                edges.append((time, time))
        return total, edges, stream.codec_context.name
