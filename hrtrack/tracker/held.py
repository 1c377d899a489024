"""Detected boxes, carried along by the joints that were certain then and are now."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .state import Live

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
COMMON = 3
"""So many joints tell shift and growth; with fewer a box moves with the motion filter alone."""
MOST_GROWTH = 2.0
"""A box grows or shrinks by no more than this factor until the detector draws it anew."""


class HeldBoxes:
    """The box and the joints of each person when the detector last saw the person.

    Of someone cut by the picture's edge, as before a webcam, the certain joints span a part
    only: a box drawn around them would shrink from frame to frame, and its crop with it. A box
    that is moved and scaled as the same joints have moved and spread does not.
    """

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._boxes = np.zeros((0, 4))
        self._keypoints = np.zeros((0, 0, 2))
        self._seen = np.zeros((0, 0), bool)

    def update(self, live: Live, seen: Mask, fresh: Mask) -> Floats:
        """Where the boxes are by now.

        Args:
            live: the people in view.
            seen: (T, K) which of their joints are certain.
            fresh: (T,) whether their newest boxes come from the detector.

        Returns:
            Boxes (T, 4).
        """
        rows = np.array([self._rows.get(key, -1) for key in live.keys.tolist()], np.intp)
        old = (rows >= 0) & ~fresh
        boxes, keypoints, marked = live.boxes.copy(), live.keypoints.copy(), seen.copy()
        if old.any():
            boxes[old] = self._boxes[rows[old]]
            keypoints[old] = self._keypoints[rows[old]]
            marked[old] = self._seen[rows[old]]
        self._rows = {key: row for row, key in enumerate(live.keys.tolist())}
        self._boxes, self._keypoints, self._seen = boxes, keypoints, marked
        common = marked & seen
        enough = common.sum(axis=1) >= COMMON
        weights = common / np.maximum(common.sum(axis=1, keepdims=True), 1)
        centre, spread = _spread(keypoints, weights)
        centre_now, spread_now = _spread(live.keypoints, weights)
        growth = np.clip(spread_now / np.maximum(spread, 1.0), 1 / MOST_GROWTH, MOST_GROWTH)
        moved = (boxes.reshape(-1, 2, 2) - centre[:, None]) * growth[:, None, None]
        moved = (moved + centre_now[:, None]).reshape(-1, 4)
        return np.where(enough[:, None], moved, live.boxes)


def _spread(keypoints: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The centre (T, 2) of joints (T, K, 2) and their root mean square distance (T,) from it."""
    centre = (keypoints * weights[:, :, None]).sum(axis=1)
    squared = ((keypoints - centre[:, None]) ** 2).sum(axis=2)
    return centre, np.sqrt((squared * weights).sum(axis=1))
