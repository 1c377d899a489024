"""Clips that tests make: a real photo of a person, moved about."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
from matplotlib import cbook
from numpy.typing import NDArray


def portrait() -> NDArray[np.uint8]:
    """Grace Hopper, a public-domain photo that matplotlib ships: (600, 512, 3) RGB."""
    return _portrait().copy()


@cache
def _portrait() -> NDArray[np.uint8]:
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        data = np.frombuffer(file.read(), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1])


def canvas(left: int, *, size: tuple[int, int] = (360, 640)) -> NDArray[np.uint8]:
    """The portrait at ``left`` pixels on a plain wall, (H, W, 3)."""
    height, width = size
    person = _portrait_of(height)
    wall = np.full((height, width, 3), 190, np.uint8)
    end = min(width, left + person.shape[1])
    wall[:, left:end] = person[:, : end - left]
    return wall


@cache
def _portrait_of(height: int) -> NDArray[np.uint8]:
    size = (round(height * 512 / 600), height)
    return cv2.resize(_portrait(), size, interpolation=cv2.INTER_AREA)


def moving_portrait(path: Path, frames: int = 20, fps: int = 25) -> Path:
    """Writes a clip in which the portrait slides to the right, four pixels a frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = 360, 640, "yuv420p"
        stream.time_base = Fraction(1, fps)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(canvas(60 + 4 * index), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def count_frames(path: Path) -> int:
    """How many frames a clip really has."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))
