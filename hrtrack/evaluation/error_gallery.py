"""A picture of the people a network got most wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..crops import cut
from ..errors import SinkError
from ..skeleton import Skeleton
from ..types import FloatArray
from ..writable import require_picture
from .labels import Labels

COUNT, COLUMNS = 16, 4
TILE = 320
CAPTION = 20
PADDING = 1.5
FAR = 0.1
"""A joint further off than this share of the diagonal is marked."""
LABEL_COLOUR = (255, 255, 255)
MISSED = (230, 40, 40)


def draw_error_gallery(poses: FloatArray, labels: Labels, path: Path) -> None:
    """Draws the 16 worst poses (N, K, 3) against their labels into one picture.

    Labels are thin and white; predictions are coloured by body side, with a red ring on each
    joint off by more than a tenth of the box's diagonal. Worst is the largest mean distance
    over the labelled joints, in diagonals; people nobody found come first.
    """
    import cv2

    people = labels.people
    off, badness = distances(poses, labels)
    order = np.argsort(-badness, kind="stable")[:COUNT]
    rows = -(-len(order) // COLUMNS)
    sheet = np.zeros((rows * TILE, COLUMNS * TILE, 3), np.uint8)
    for place, person in enumerate(order):
        tile = _tile(poses[person], labels, int(person), off[person] > FAR)
        caption = f"off by {badness[person]:.2f}" if np.isfinite(badness[person]) else "not found"
        text = f"{Path(people.files[person]).name}  {caption}"
        tile[-CAPTION:] = 0
        cv2.putText(tile, text, (6, TILE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, LABEL_COLOUR, 1)
        row, column = divmod(place, COLUMNS)
        sheet[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE] = tile
    save_sheet(sheet, path)


def distances(poses: FloatArray, labels: Labels) -> tuple[FloatArray, FloatArray]:
    """How far each joint (N, K) and, in the mean over labelled joints, each person (N,) is off.

    In diagonals of the person's box; 0 for unlabelled joints, infinite for people nobody found.
    """
    boxes, count = labels.people.boxes, labels.labelled.sum(axis=1)
    diagonals = np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=1)
    distance = np.linalg.norm(poses[..., :2] - labels.people.keypoints, axis=2)
    off = np.where(labels.labelled, distance / diagonals[:, None], 0.0)
    off = np.where(np.isnan(off), np.inf, off)
    return off, off.sum(axis=1) / np.maximum(count, 1)


def save_sheet(sheet: NDArray[np.uint8], path: Path) -> None:
    """Writes an RGB picture; SinkError when it cannot be written."""
    import cv2

    require_picture(path)
    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    except cv2.error:
        written = False
    if not written:
        raise SinkError(f"cannot write the picture {path}; give a name ending in .png or .jpg")


def _tile(
    pose: FloatArray, labels: Labels, person: int, off: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    import cv2

    people = labels.people
    photo = people.photo(person)
    affine = geometry.box_affines(people.boxes[person][None], (TILE, TILE), PADDING)[0]
    tile = cut(photo, affine, (TILE, TILE))
    skeleton, labelled = people.skeleton, labels.labelled[person]
    wanted: FloatArray = geometry.transform(people.keypoints[person], affine)
    if not np.isnan(pose).any():
        points = geometry.transform(pose[:, :2], affine)
        _limbs(tile, points, np.ones(len(skeleton), bool), skeleton, width=3)
        for point in points[off]:
            cv2.circle(tile, _pixel(point), 6, MISSED, 2, cv2.LINE_AA)
    _limbs(tile, wanted, labelled, skeleton, width=1, colour=LABEL_COLOUR)
    return tile


def _limbs(
    tile: NDArray[np.uint8],
    points: FloatArray,
    known: NDArray[np.bool_],
    skeleton: Skeleton,
    width: int,
    colour: tuple[int, int, int] | None = None,
) -> None:
    import cv2

    for a, b in skeleton.limbs:
        if known[a] and known[b]:
            shade = colour or skeleton.limb_colour((a, b))
            cv2.line(tile, _pixel(points[a]), _pixel(points[b]), shade, width, cv2.LINE_AA)


def _pixel(point: FloatArray) -> tuple[int, int]:
    # OpenCV overflows on coordinates far outside the picture.
    x, y = np.clip(np.round(point), -10 * TILE, 10 * TILE)
    return int(x), int(y)
