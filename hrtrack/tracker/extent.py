"""How far a person reaches beyond the joints: person boxes from keypoints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..skeleton import Skeleton

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
    points = keypoints.astype(np.float64)
    shown = seen[:, :, None]
    low = np.where(shown, points, np.inf).min(axis=1)
    high = np.where(shown, points, -np.inf).max(axis=1)
    with np.errstate(invalid="ignore"):
        size = (high - low).mean(axis=1)[:, None, None]
        radius = np.where(enough[:, None, None], size, 0.0) * reach[None, :, None]
    low = np.where(shown, points - radius, np.inf).min(axis=1)
    high = np.where(shown, points + radius, -np.inf).max(axis=1)
    boxes = np.where(enough[:, None], np.concatenate([low, high], axis=1), 0.0)
    return boxes, np.where(enough, share, 0.0)
