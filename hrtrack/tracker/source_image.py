"""A picture as a source of one frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from .frame import Frame
from .source_base import Source

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".png",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".jp2",
        ".avif",
    ]
)


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """A picture file as (H, W, 3) uint8 RGB, turned as its EXIF data asks."""
    import cv2

    path = Path(path)
    try:
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise SourceError(f"no such file: {path}") from None
    except OSError as error:
        raise SourceError(f"cannot open {path}: {error.strerror}") from None
    if not data.size:
        raise SourceError(f"{path} is empty (0 bytes); a picture was expected")
    # OpenCV writes its own lines about what is reported here in one.
    # OpenCV 4 has the function in the package itself.
    log = getattr(cv2.utils, "logging", cv2)
    level = log.setLogLevel(0)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    finally:
        log.setLogLevel(level)
    if image is None:
        raise SourceError(f"{path} is damaged or not a picture in any known format")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


@dataclass
class ImageSource(Source):
    """One picture, one frame at time 0."""

    image: NDArray[np.uint8] | None = None

    def __iter__(self) -> Iterator[Frame]:
        if self.image is not None:
            yield Frame(0, 0.0, self.image, 0, Fraction(1))

    def close(self) -> None:
        self.image = None


def open_image(path: str) -> ImageSource:
    """Reads a picture; SourceError when it cannot be."""
    image = read_image(path)
    height, width = image.shape[:2]
    return ImageSource(
        path, "image", (width, height), time_base=Fraction(1), declared_frames=1, image=image
    )
