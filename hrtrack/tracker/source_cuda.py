"""Files decoded on an NVIDIA GPU by FFmpeg; not yet run on one.

PyAV downloads each picture as NV12, 1.5 bytes a pixel where RGB has 3. FFmpeg could leave it on
the device, but out of a small pool that a queue of frames would drain, so that is left alone.
"""

from __future__ import annotations

import numpy as np

from ..errors import BackendError
from ..pyav import av
from .frame import Nv12

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
