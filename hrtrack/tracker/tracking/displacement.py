"""How far what a box holds has moved from one picture to a later one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...types import Float64Array

SPEED = 2.5
"""Sizes a second that a newcomer may move, a runner's pace."""
MOST = 1.0
"""Sizes that a newcomer is looked for at the most."""
LEAST = 0.3
"""Below this reach in sizes a crop's margin is enough, and a search in a crowd does more harm:
with the detector 0.1 s late on street.avi 14.6 people were shown a frame without it, 13.6 with."""
WIDTH = 16
"""Pixels to which the middle of a person is scaled: the search costs less than a millisecond."""
MIDDLE = 0.6
"""Share of a box, in each direction, that is surely the person and not what stands behind."""
ALIKE = 0.5
"""Correlation below which what was found is somebody else, or nothing."""

FAR = 0.3
"""Correlation that a shift as far as a runner gets has to be better by than none: in a crowd
somebody else looks much alike."""


def displaced(
    boxes: Float64Array, before: NDArray[np.uint8], after: NDArray[np.uint8], seconds: float
) -> Float64Array:
    """Boxes (N, 4) of the picture ``before`` where their contents are in the one ``after``.

    The middle of each box is looked for by normalised cross-correlation as far as a runner gets
    in ``seconds``. Both pictures are (H, W, 3) uint8 RGB. A box whose contents are not found
    again stays where it is.
    """
    boxes = boxes.copy()
    for box in boxes:
        box += np.tile(_shift(box, before, after, seconds), 2)
    return boxes


def _shift(
    box: Float64Array, before: NDArray[np.uint8], after: NDArray[np.uint8], seconds: float
) -> Float64Array:
    import cv2

    still = np.zeros(2)
    size = float((box[2:] - box[:2]).mean())
    reach = min(SPEED * seconds, MOST) * size
    if reach < LEAST * size:
        return still
    height, width = before.shape[:2]
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * MIDDLE
    inner = _inside(np.concatenate([centre - half, centre + half]), width, height)
    outer = _inside(inner + reach * np.array([-1, -1, 1, 1]), width, height)
    if min(inner[2] - inner[0], inner[3] - inner[1]) < 4:
        return still
    scale = min(1.0, WIDTH / min(inner[2] - inner[0], inner[3] - inner[1]))
    patch, field = _grey(before, inner, scale), _grey(after, outer, scale)
    if any(a > b for a, b in zip(patch.shape, field.shape, strict=True)) or not patch.std():
        return still
    fit = cv2.matchTemplate(field, patch, cv2.TM_CCOEFF_NORMED)
    rows, columns = np.ogrid[: fit.shape[0], : fit.shape[1]]
    across = (columns / scale + outer[0] - inner[0]) / reach
    down = (rows / scale + outer[1] - inner[1]) / reach
    _, _, _, (x, y) = cv2.minMaxLoc(fit - (FAR * np.hypot(across, down)).astype(fit.dtype))
    if fit[y, x] < ALIKE:
        return still
    return (np.array([x, y]) / scale) + outer[:2] - inner[:2]


def _inside(box: Float64Array, width: int, height: int) -> NDArray[np.int64]:
    """The box in whole pixels of a picture."""
    return np.clip(np.round(box), 0, [width, height, width, height]).astype(np.int64)


def _grey(image: NDArray[np.uint8], box: NDArray[np.int64], scale: float) -> NDArray[np.uint8]:
    import cv2

    left, top, right, bottom = box.tolist()
    grey = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_RGB2GRAY)
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
