"""Pictures that a program holds itself: arrays, PIL pictures, paths, and clips of them."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError, SourceError, UsageError
from ...types import ByteArray
from ..options import Color
from .frame import Frame
from .image import decoded, rate_of, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

Picture: TypeAlias = "NDArray[Any] | Image | str | Path | bytes"
"""A uint8 array (H, W, 3), (H, W, 4), (H, W) or (H, W, 1), a PIL picture, a path or the bytes of a
file."""
Clip: TypeAlias = "cv2.VideoCapture | Iterable[Picture] | Iterable[tuple[float, Picture]]"
"""Pictures one after the other, each perhaps with its time in seconds."""


def to_rgb(picture: Picture, color: Color) -> ByteArray:
    """A picture as (H, W, 3) uint8 RGB; its first three channels are in the order of ``color``.

    Transparency is left out. PIL pictures and files know their colours themselves; a file is
    turned as viewers show it, a PIL picture stays as it is.

    Raises:
        ImageError: it is nothing of the kind.
        SourceError: a file cannot be read.
    """
    if isinstance(picture, (str, Path)):
        if not str(picture):
            raise _wrong("an empty path")
        return read_image(picture)
    if isinstance(picture, bytes):
        return decoded("the picture", picture)
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(picture, pil.Image):
        if not (picture.width and picture.height):
            raise _wrong("a PIL picture without pixels")
        return np.array(picture.convert("RGB"))
    if not isinstance(picture, np.ndarray):
        raise _wrong(type(picture).__name__)
    channels = picture.shape[2] if picture.ndim == 3 else 1
    if picture.ndim not in (2, 3) or channels not in (1, 3, 4) or not picture.size:
        raise _wrong(f"{picture.shape} {picture.dtype}")
    if picture.dtype != np.uint8:
        raise _wrong(f"{picture.shape} {picture.dtype}")
    if channels == 3 and picture.strides[2] < 0:  # a view as image[..., ::-1]
        picture, color = picture[..., ::-1], "bgr" if color == "rgb" else "rgb"
    image = np.ascontiguousarray(picture)
    if channels == 3:
        return in_color(image, color)
    code = cv2.COLOR_RGBA2RGB if color == "rgb" else cv2.COLOR_BGRA2RGB
    return _converted(image, cv2.COLOR_GRAY2RGB if channels == 1 else code)


def in_color(image_HW3: ByteArray, color: Color) -> ByteArray:
    """An RGB picture (H, W, 3) in the order of ``color``, or one of that order in RGB."""
    return image_HW3 if color == "rgb" else _converted(image_HW3, cv2.COLOR_BGR2RGB)


def _converted(image: ByteArray, code: int) -> ByteArray:
    # Several times as fast as NumPy's indexing is on whole frames.
    return cast("ByteArray", cv2.cvtColor(image, code))


def _wrong(found: str) -> ImageError:
    return ImageError(
        "an image must be a NumPy array (H, W, 3), (H, W, 4) or (H, W) uint8 with pixels, "
        f"a PIL picture, or a file's path or bytes, found {found}"
    )


def own_frames(clip: Clip, color: Color, rate: float | None) -> Iterator[Frame]:
    """The pictures of a clip as RGB frames.

    The times are those that the clip gives, else ``rate`` pictures a second, else the monotonic
    clock's at the moment that a picture comes.

    Raises:
        UsageError: it is no clip, or its times are no numbers or go back.
        SourceError: an OpenCV capture is not open, or a file cannot be read.
        ImageError: one of the pictures is none.
    """
    clock = Clock(None if rate is None else float(rate_of(rate)))
    pictures = _captured(clip) if isinstance(clip, cv2.VideoCapture) else _listed(clip)
    if isinstance(clip, cv2.VideoCapture):
        color = "bgr"
    for index, (moment, picture) in enumerate(pictures):
        image = to_rgb(picture, color)
        yield Frame(index=index, time=clock.next(moment), image=image)


class Clock:
    """The times of one stream's frames, which never go back."""

    def __init__(self, rate: float | None = None) -> None:
        self._rate = rate
        self._count = 0
        self._newest = -math.inf

    def next(self, moment: object = None) -> float:
        """The next frame's time in seconds: ``moment`` where it is given.

        UsageError where that is no finite number or lies before the time of the last frame.
        """
        if moment is None:
            seconds = time.monotonic() if self._rate is None else self._count / self._rate
        elif isinstance(moment, bool) or not isinstance(moment, (int, float, np.number)):
            raise UsageError(f"time is {moment!r:.60}; it must be a number of seconds")
        else:
            seconds = float(moment)
        if not math.isfinite(seconds):
            raise UsageError(f"time is {seconds}; it must be a number of seconds")
        if seconds < self._newest:
            raise UsageError(
                f"time goes back from {self._newest:g} s to {seconds:g} s; "
                "give each frame its own time, and call reset() before another clip"
            )
        self._newest = seconds
        self._count += 1
        return seconds


def _listed(clip: Any) -> Iterator[tuple[object, Picture]]:
    if isinstance(clip, np.ndarray) and clip.ndim != 4:
        raise UsageError(
            f"track() takes a clip, found one array {clip.shape}; one picture is for image(), "
            "the next picture of a stream for update()"
        )
    try:
        pictures = iter(clip)
    except TypeError:
        raise UsageError(
            "track() takes a path, a URL, a camera, a cv2.VideoCapture or an iterable of images, "
            f"found {type(clip).__name__}"
        ) from None
    for item in pictures:
        yield item if isinstance(item, tuple) and len(item) == 2 else (None, item)


def _captured(capture: cv2.VideoCapture) -> Iterator[tuple[float | None, Picture]]:
    """What an OpenCV capture gives, with the times of a recording's frames."""
    if not capture.isOpened():
        raise SourceError("the cv2.VideoCapture is not open: its file or camera cannot be read")
    recorded = capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
    rate = capture.get(cv2.CAP_PROP_FPS)
    before = -1.0
    while True:
        there, image = capture.read()
        if not there:
            return
        moment = None
        if recorded:
            moment = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # Some of OpenCV's readers know no times.
            if moment <= before and rate > 0:
                moment = before + 1 / rate
            before = moment
        yield moment, image
