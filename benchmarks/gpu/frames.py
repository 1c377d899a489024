"""What carrying one 1080p frame to the GPU costs, and decoding it there."""

from __future__ import annotations

import time
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from hrtrack.tracker.inference.estimate_gpu import sample_crops
from hrtrack.tracker.inference.upload import Upload
from hrtrack.tracker.video.frame import Frame, Nv12

from .scenes import CROP_HW, crop_maps, scene
from .session import LEFT_OUT, Session, row

if TYPE_CHECKING:
    from hrtrack.tracker.video.base import Decode

CLIP_FRAMES = 120


def frames(session: Session) -> None:
    """Upload as RGB and as NV12 with its conversion, and all crops of 1, 5 and 20 people."""
    upload = Upload(torch.device(session.device))
    image, _ = scene(5, 0)
    plain = Frame(0, 0.0, image)
    halved = Frame(0, 0.0, image, nv12=nv12(image))
    for name, frame in (("RGB upload", plain), ("NV12 upload and conversion", halved)):
        times = session.timed(partial(upload.take, frame), 1.0)
        session.put("frames_1080p", name, row(times, unit="frames"))
    there = upload(image)
    for count in session.sizes((1, 5, 20), (2,)):
        maps = crop_maps(scene(count, 0)[1])
        times = session.timed(partial(sample_crops, there, maps, CROP_HW), 1.0)
        session.put("frames_1080p", f"{count} crops", row(times, count))


def nv12(image: NDArray[np.uint8]) -> Nv12:
    """A picture as a decoder gives it."""
    height, width = image.shape[:2]
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    return Nv12(planes[:height], np.ascontiguousarray(chroma.transpose(1, 2, 0)), "bt601", False)


def decode(session: Session) -> None:
    """Frames a second out of an H.264 file, on the CPU and by the GPU's decoder."""
    try:
        from hrtrack.tracker.video.open import open_source
    except ImportError as missing:
        session.put("decode_1080p", LEFT_OUT, str(missing))
        return
    clip = session.folder / "clip.mp4"
    write_clip(clip, CLIP_FRAMES if session.cuda else 10)
    first: dict[Decode, NDArray[np.uint8]] = {}
    kinds: tuple[Decode, ...] = ("cpu", "cuda") if session.cuda else ("cpu",)
    for kind in kinds:
        with session.attempt("decode_1080p", kind):
            count = planes = 0
            began = time.perf_counter()
            with open_source(str(clip), decode=kind) as source:
                for frame in source:
                    first.setdefault(kind, frame.image)
                    count += 1
                    planes += frame.nv12 is not None
            fps = round(count / (time.perf_counter() - began), 1)
            session.put("decode_1080p", kind, {"fps": fps, "frames": count, "as_nv12": planes})
    if len(first) == 2:
        apart = np.abs(first["cpu"].astype(int) - first["cuda"]).mean()
        session.put("decode_1080p", "mean difference of the first frame", round(float(apart), 3))


def write_clip(path: Path, count: int) -> None:
    """Portraits that move, at 30 frames a second."""
    from hrtrack.pyav import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        stream.time_base = Fraction(1, 30)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(scene(5, index % 16)[0], format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
