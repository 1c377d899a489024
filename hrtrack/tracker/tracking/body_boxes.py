"""Person boxes from keypoints: how far a body reaches beyond its joints, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...geometry import iou
from ...poses import Poses
from ...skeleton import Skeleton
from ...types import BoolArray, Float64Array

COMMON = 3
"""So many joints in common tell shift and growth; with fewer a box stays where it was put."""
ENOUGH = 0.5
"""With less than this share of the joints in common, one of them may be somebody else's, and
`STAYS` bounds what they do to a box."""
STAYS = 0.5
"""Few joints in common must not carry a box to an overlap (IoU) with its old place of less than
this; it then stays where it was put. A weak model's box would leave its person, who would then be
found a second time."""
MOST_GROWTH = 2.0
"""A box grows or shrinks by no more than this factor until the detector finds it anew."""


@dataclass(frozen=True, slots=True)
class Detected:
    """N boxes (N, 4) as the detector found them last, with the joints (N, K, 2) that lay in them
    then and which of these were certain (N, K)."""

    boxes: Float64Array
    keypoints: Float64Array
    certain: BoolArray

    def renewed(self, poses: Poses, origin: NDArray[np.intp], certain: BoolArray) -> Detected:
        """Those of a new frame: the ``origin`` (N,) of a pose among the old ones, -1 for a pose
        whose box the detector has just found."""
        boxes, keypoints = poses.boxes.astype(np.float64), poses.keypoints.astype(np.float64)
        old = np.flatnonzero(origin >= 0)
        if len(old):
            certain = certain.copy()
            boxes[old] = self.boxes[origin[old]]
            keypoints[old] = self.keypoints[origin[old]]
            certain[old] = self.certain[origin[old]]
        return Detected(boxes, keypoints, certain)

    def carried(
        self, keypoints: NDArray[np.floating], certain: BoolArray, otherwise: NDArray[np.floating]
    ) -> Float64Array:
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
        carried_off = np.diagonal(iou(moved, otherwise.astype(np.float64))) < STAYS
        kept = (count < COMMON) | ((count < ENOUGH * common.shape[1]) & carried_off)
        return np.where(kept[:, None], otherwise, moved)


def body_boxes(
    keypoints: NDArray[np.floating],
    scores: NDArray[np.floating],
    carried: Float64Array,
    reach: Float64Array,
    least: float,
) -> Float64Array:
    """Boxes (N, 4) around poses (N, K, 2) with joint scores (N, K).

    The more joints have a score of ``least``, the more they shape the box, and the less the
    detector's ``carried`` one (N, 4) does.
    """
    body, share = person_boxes(keypoints, scores, reach, least)
    weight = share[:, None] ** 2
    return weight * body + (1.0 - weight) * carried


def _spread(keypoints: Float64Array, weights: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The centre (N, 2) of joints (N, K, 2) and their root mean square distance (N,) from it."""
    centre = (keypoints * weights[:, :, None]).sum(axis=1)
    squared = (keypoints - centre[:, None]) ** 2
    return centre, np.sqrt(((squared[:, :, 0] + squared[:, :, 1]) * weights).sum(axis=1))


REACH = {
    "head": 0.20,
    "nose": 0.05,
    "eye": 0.12,
    "ear": 0.16,
    "neck": 0.12,
    "shoulder": 0.11,
    "elbow": 0.07,
    "wrist": 0.08,
    "hip": 0.15,
    "knee": 0.11,
    "ankle": 0.14,
}
"""Radius of the disc that a body part fills around its joint, as a share of the mean of width
and height of the box around the joints; fitted to person boxes (docs/tracking.md)."""
OTHERS = 0.1


def reaches(skeleton: Skeleton) -> NDArray[np.float64]:
    """The radius (K,) of every joint of a skeleton, by the joint's name."""
    return np.array(
        [next((r for part, r in REACH.items() if part in name), OTHERS) for name in skeleton.joints]
    )


def person_boxes(
    keypoints: NDArray[np.floating],
    scores: NDArray[np.floating],
    reach: NDArray[np.floating],
    min_score: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes around people of whom the joints are known.

    Args:
        keypoints: (N, K, 2) pixels.
        scores: (N, K); joints below ``min_score`` do not count.
        reach: (K,) from `reaches`.
        min_score: see ``scores``.

    Returns:
        Boxes (N, 4), zero where fewer than three joints count, and the share (N,) of the
        joints that count.
    """
    seen = scores >= min_score
    share = seen.mean(axis=1)
    enough = seen.sum(axis=1) >= 3
    if not enough.any():
        return np.zeros((len(keypoints), 4)), np.zeros(len(keypoints))
    points = np.ascontiguousarray(keypoints.transpose(0, 2, 1), np.float64)
    shown = seen[:, None]
    low = np.where(shown, points, np.inf).min(axis=2)
    high = np.where(shown, points, -np.inf).max(axis=2)
    with np.errstate(invalid="ignore"):
        size = (high - low).mean(axis=1)[:, None, None]
        radius = np.where(enough[:, None, None], size, 0.0) * reach
    low = np.where(shown, points - radius, np.inf).min(axis=2)
    high = np.where(shown, points + radius, -np.inf).max(axis=2)
    boxes = np.where(enough[:, None], np.concatenate([low, high], axis=1), 0.0)
    return boxes, np.where(enough, share, 0.0)
