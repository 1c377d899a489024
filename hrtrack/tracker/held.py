"""Person boxes that follow the joints from one frame to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..poses import Poses
from .extent import person_boxes

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
COMMON = 3
"""So many joints tell shift and growth; with fewer a box stays where it was put."""
MOST_GROWTH = 2.0
"""A box grows or shrinks by no more than this factor until the detector draws it anew."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """N boxes (N, 4) as the detector drew them last, with the joints (N, K, 2) that lay in them
    then and which of these were certain (N, K)."""

    boxes: Floats
    keypoints: Floats
    certain: Mask

    def renewed(self, poses: Poses, origin: NDArray[np.intp], certain: Mask) -> Drawn:
        """Those of a new frame: the ``origin`` (N,) of a pose among the old ones, -1 for a pose
        whose box the detector has just drawn."""
        boxes, keypoints = poses.boxes.astype(np.float64), poses.keypoints.astype(np.float64)
        old = np.flatnonzero(origin >= 0)
        if len(old):
            certain = certain.copy()
            boxes[old] = self.boxes[origin[old]]
            keypoints[old] = self.keypoints[origin[old]]
            certain[old] = self.certain[origin[old]]
        return Drawn(boxes, keypoints, certain)

    def carried(
        self, keypoints: NDArray[np.floating], certain: Mask, otherwise: NDArray[np.floating]
    ) -> Floats:
        """The boxes, moved and scaled as their certain joints have moved and spread since.

        ``keypoints`` (N, K, 2) and which of them are ``certain`` (N, K) are those of now.

        Of someone cut by the picture's edge, as before a webcam, the certain joints span a part
        only: a box drawn around them would shrink from frame to frame, and its crop with it.
        This one does not. With too few joints in common it is the one of ``otherwise`` (N, 4).
        """
        common = self.certain & certain
        count = common.sum(axis=1)
        weights = common / np.maximum(count, 1)[:, None]
        centre, spread = _spread(self.keypoints, weights)
        centre_now, spread_now = _spread(keypoints.astype(np.float64), weights)
        growth = np.clip(spread_now / np.maximum(spread, 1.0), 1 / MOST_GROWTH, MOST_GROWTH)
        moved = (self.boxes.reshape(-1, 2, 2) - centre[:, None]) * growth[:, None, None]
        moved = (moved + centre_now[:, None]).reshape(-1, 4)
        return np.where((count >= COMMON)[:, None], moved, otherwise)


def body_boxes(
    keypoints: NDArray[np.floating],
    scores: NDArray[np.floating],
    carried: Floats,
    reach: Floats,
    least: float,
) -> Floats:
    """Boxes (N, 4) around poses (N, K, 2) with joint scores (N, K).

    The more joints have a score of ``least``, the more they shape the box, and the less the
    detector's ``carried`` one (N, 4) does.
    """
    body, share = person_boxes(keypoints, scores, reach, least)
    weight = share[:, None] ** 2
    return weight * body + (1.0 - weight) * carried


def _spread(keypoints: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The centre (N, 2) of joints (N, K, 2) and their root mean square distance (N,) from it."""
    centre = (keypoints * weights[:, :, None]).sum(axis=1)
    squared = ((keypoints - centre[:, None]) ** 2).sum(axis=2)
    return centre, np.sqrt((squared * weights).sum(axis=1))
