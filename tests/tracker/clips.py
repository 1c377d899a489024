"""Clips made on the spot, whose every frame tells its own number."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

BITS = 12
CONVERTER = VideoReformatter()
"""Of pictures of all clips: a frame's own would be set up anew, with threads, for each frame."""


def rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A decoded frame as (H, W, 3) RGB."""
    return CONVERTER.reformat(frame, format="rgb24").to_ndarray()  # type: ignore[return-value]


def stamped(number: int, size: tuple[int, int] = (96, 64)) -> NDArray[np.uint8]:
    """A picture that carries its number as black and white blocks, over a moving gradient."""
    width, height = size
    ramp = np.linspace(40, 200, width, dtype=np.uint8)
    image = np.repeat(np.roll(ramp, number)[None, :, None], height, axis=0).repeat(3, axis=2)
    block = width // BITS
    for bit in range(BITS):
        image[: height // 2, bit * block : (bit + 1) * block] = 255 * (number >> bit & 1)
    return image


def number_of(image: NDArray[np.uint8]) -> int:
    """The inverse of `stamped`, also after lossy coding."""
    height, width = image.shape[:2]
    block = width // BITS
    total = 0
    for bit in range(BITS):
        inner = image[2 : height // 2 - 2, bit * block + 2 : (bit + 1) * block - 2]
        total |= int(inner.mean() > 127) << bit
    return total


def make_clip(
    path: Path,
    frames: int = 20,
    *,
    fps: int = 20,
    size: tuple[int, int] = (96, 64),
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    audio: str | None = None,
) -> Path:
    """Writes a clip of numbered frames; ``times`` makes its frame rate vary."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        base = Fraction(1, 1000) if times else Fraction(1, fps)
        stream.codec_context.time_base = base
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "g": "10", "bf": "0"}
        sound = out.add_stream(audio, rate=16000, layout="mono") if audio else None
        for i in range(frames):
            picture = av.VideoFrame.from_ndarray(stamped(i, size), format="rgb24")
            picture = CONVERTER.reformat(picture, format=pixels)
            picture.pts = round(times[i] * 1000) if times else i
            picture.time_base = base
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
        if sound is not None:
            _add_tone(out, sound, times[-1] if times else frames / fps)
    return path


def turn(path: Path, degrees: int) -> Path:
    """Writes a display matrix into an MP4's first track header, as phones do."""
    data = bytearray(path.read_bytes())
    cos = {0: 1, 90: 0, 180: -1, 270: 0}[degrees] * 0x10000
    sin = {0: 0, 90: 1, 180: 0, 270: -1}[degrees] * 0x10000
    matrix = [cos, sin, 0, -sin, cos, 0, 0, 0, 0x40000000]
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)
    return path


def _add_tone(out: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    samples = np.arange(int(seconds * 16000))
    tone = (np.sin(samples * 0.1) * 8000).astype(np.int16)
    for begin in range(0, len(tone) - 1023, 1024):
        frame = av.AudioFrame.from_ndarray(tone[None, begin : begin + 1024], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, begin, Fraction(1, 16000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
