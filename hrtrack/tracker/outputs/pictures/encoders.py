"""Which encoder a video is written with, and whether the hardware of one answers.

This file loads no heavy package, because ``hrtrack --help`` reads the names.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from fractions import Fraction

from ....errors import BackendError, one_line

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """How pictures are encoded; ``base`` is the unit of time where a format knows one alone, and
    ``least_step`` the fewest such units between two frames: those that come sooner are left out.

    ``keeps`` tells that the encoder may still read a picture after it has taken it.
    """

    codec: str
    options: dict[str, str]
    pixels: str
    base: Fraction | None = None
    least_step: int = 1
    keeps: bool = True


H264 = Kind(
    "libx264",
    {"preset": "superfast", "x264-params": "aq-mode=0:weightp=0", "crf": "20",
     "tune": "zerolatency"},
    "yuv420p",
    keeps=False,
)  # fmt: skip
"""Fast enough for two cores; no frame is held back, which a viewer of a live source would see."""
FRAME_THREADS = {
    **H264.options, "x264-params": f"{H264.options['x264-params']}:sliced-threads=0",
}  # fmt: skip
"""For files: a thread works on one picture, and the loop waits for none. The threads hold back a
picture each but for one."""
MOST_THREADS = 8
"""At 30 frames a second so many pictures last about as long as a fragment of the file."""
VP9 = Kind(
    "libvpx-vp9",
    {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "lag-in-frames": "0", "crf": "30",
     "b": "0"},
    "yuv420p",
)  # fmt: skip
GIF = Kind("gif", {}, "pal8", Fraction(1, 100), 2)
"""Browsers show frames of less than two hundredths of a second for ten."""

HARDWARE = {
    kind.codec: kind
    for kind in (
        Kind(
            "h264_nvenc",
            {"preset": "p3", "rc": "vbr", "cq": "22", "b": "0", "bf": "0", "delay": "0",
             "zerolatency": "1"},
            "yuv420p",
        ),
        Kind(
            "h264_qsv",
            {"preset": "veryfast", "global_quality": "22", "bf": "0", "async_depth": "1"},
            "nv12",
        ),
        Kind(
            "h264_amf",
            {"usage": "lowlatency", "quality": "speed", "rc": "cqp", "qp_i": "22", "qp_p": "22"},
            "nv12",
        ),
        Kind(
            "h264_videotoolbox",
            {"flags": "+qscale", "global_quality": str(65 * 118), "bf": "0", "realtime": "1"},
            "nv12",
        ),
        Kind("h264_vaapi", {"rc_mode": "CQP", "qp": "22", "bf": "0"}, "nv12"),
    )
}  # fmt: skip
"""Encoders for H.264 that are not the CPU, in the order in which ``auto`` asks for them. Their
options are by FFmpeg's documentation; none was at hand to be tried."""
OWN = {"webm": VP9, "gif": GIF}
"""Formats that hold no H.264."""
NO_H264 = tuple(f".{form}" for form in OWN)
"""The suffixes of their files."""
AUTO = "auto"
ENCODERS = (AUTO, H264.codec, *HARDWARE)
"""What ``--encoder`` takes."""


def kind_of(form: str, encoder: str) -> Kind:
    """How a file of a container's format is encoded; ``encoder`` is what `pick` gave."""
    if form in OWN:
        return OWN[form]
    return HARDWARE.get(encoder, H264)


def pick(encoder: str, size: tuple[int, int]) -> str:
    """The encoder for pictures of ``size`` (width, height) that ``--encoder`` asks for.

    ``auto`` takes the first hardware that encodes such a picture, else the CPU. BackendError when
    one that was named does not.
    """
    if encoder == H264.codec:
        return encoder
    if encoder == AUTO:
        found = (name for name in HARDWARE if fault_of(name, *size) is None)
        return next(found, H264.codec)
    fault = fault_of(encoder, *size)
    if fault is not None:
        raise BackendError(f"--encoder {encoder}: {fault}; use --encoder {H264.codec}")
    return encoder


@functools.cache
def fault_of(encoder: str, width: int, height: int) -> str | None:
    """Why an encoder does not encode a picture of this size here; None where it does."""
    from ....pyav import av

    kind = HARDWARE[encoder]
    if encoder not in av.codec.codecs_available:
        return "the installed PyAV has no such encoder"
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)  # the reason stands in FFmpeg's log alone
    try:
        with av.logging.Capture() as said:
            try:
                context = av.CodecContext.create(encoder, "w")
                assert isinstance(context, av.VideoCodecContext)
                context.width, context.height = width + width % 2, height + height % 2
                context.pix_fmt, context.framerate = kind.pixels, Fraction(30)
                context.time_base, context.options = Fraction(1, 30), dict(kind.options)
                picture = av.VideoFrame(context.width, context.height, kind.pixels)
                picture.pts = 0
                packets = [*context.encode(picture), *context.encode(None)]
            except (av.error.FFmpegError, ValueError) as error:
                reasons = [one_line(Exception(text)) for _, _, text in said if text.strip()]
                reason = reasons[0] if reasons else one_line(error)
                LOG.debug("%s: %s", encoder, "; ".join(reasons) or error)
                return f"its hardware or driver does not answer ({reason.rstrip('.')})"
    finally:
        av.logging.set_level(level)
    return None if any(packet.size for packet in packets) else "it encodes nothing"
