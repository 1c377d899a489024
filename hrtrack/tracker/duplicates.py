"""Two boxes that converged on one person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..geometry import aligned_oks, area, iou
from ..poses import Poses

Floats = NDArray[np.float64]
MIN_IOU = 0.2
"""Boxes that overlap less cannot hold one person twice; spares the OKS of most frames."""


def unique(poses: Poses, sigmas: Floats, threshold: float) -> NDArray[np.intp]:
    """The people left when those with an OKS over ``threshold`` count as one.

    Of two that are alike the one with the higher person score stays, and of two with the
    same score the one with the better joints. The order of the rest is kept.
    """
    count = len(poses)
    if count < 2:
        return np.arange(count)
    first, second = np.nonzero(iou(poses.boxes, poses.boxes) >= MIN_IOU)
    later = second > first
    first, second = first[later], second[later]
    if len(first) == 0:
        return np.arange(count)
    areas = area(poses.boxes)
    keypoints = poses.keypoints.astype(np.float64)
    weights = np.minimum(poses.scores[first], poses.scores[second]).astype(np.float64)
    similarity = aligned_oks(
        keypoints[first], keypoints[second], np.maximum(areas[first], areas[second]), sigmas,
        weights,
    )  # fmt: skip
    same = similarity > threshold
    if not same.any():
        return np.arange(count)
    rivals: dict[int, set[int]] = {}
    for one, other in zip(first[same].tolist(), second[same].tolist(), strict=True):
        rivals.setdefault(one, set()).add(other)
        rivals.setdefault(other, set()).add(one)
    order = np.lexsort((-poses.scores.mean(axis=1), -poses.person_scores))
    gone: set[int] = set()
    for person in order.tolist():
        if person in rivals and person not in gone:
            gone |= rivals[person]
    return np.delete(np.arange(count), sorted(gone))
