"""1080p pictures of people, made on the spot."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from hrtrack import geometry
from hrtrack.models.agreement import drawn_crops

CROP_HW = (192, 128)


def scene(people: int, lap: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A 1080p picture with so many portraits that move four pixels a lap, and their boxes."""
    image = np.full((1080, 1920, 3), 150, np.uint8)
    columns = min(people, 10)
    rows = -(-people // columns)
    room_x, room_y = 1800 // columns, 1040 // rows
    width = min(round((room_y - 20) * 512 / 600), room_x)
    person = cv2.resize(portrait(), (width, round(width * 600 / 512)))
    boxes = []
    for index in range(people):
        left = 20 + 4 * lap + (index % columns) * room_x
        top = 20 + (index // columns) * room_y
        image[top : top + len(person), left : left + width] = person
        boxes.append([left, top, left + width, top + len(person)])
    return image, np.array(boxes, float)


def crop_maps(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2, 3) from the pixels of crops of `CROP_HW` to the picture's."""
    return geometry.invert(geometry.box_affines(boxes, CROP_HW)).astype(np.float64, copy=False)


def portrait() -> NDArray[np.uint8]:
    """matplotlib's photo of a person (600, 512, 3) RGB; a drawn one where that is missing."""
    try:
        from matplotlib import cbook
    except ImportError:
        return drawn_crops((600, 512), 1)[0]
    path = str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    picture = cv2.imread(path)
    assert picture is not None, path
    return np.ascontiguousarray(picture[..., ::-1])
