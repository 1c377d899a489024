"""Two boxes that converged on one person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..geometry import aligned_oks, area, iou
from ..poses import Poses

Floats = NDArray[np.float64]
MIN_IOU = 0.2
"""Boxes that overlap less cannot hold one person twice; spares the OKS of most frames."""


def unique(
    poses: Poses, sigmas: Floats, threshold: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The people left when those with an OKS over ``threshold`` count as one.

    Of two that are alike the one with the higher person score stays, and of two with the
    same score the one with the better joints. The order of the rest is kept.

    Returns:
        The M poses that stay, and for each of all N poses the place among these of the one
        that stands for it, which is itself where it stays.
    """
    count = len(poses)
    everyone = np.arange(count)
    if count < 2:
        return everyone, everyone
    first, second = np.nonzero(iou(poses.boxes, poses.boxes) >= MIN_IOU)
    later = second > first
    first, second = first[later], second[later]
    if len(first) == 0:
        return everyone, everyone
    areas = area(poses.boxes)
    keypoints = poses.keypoints.astype(np.float64)
    weights = np.minimum(poses.scores[first], poses.scores[second]).astype(np.float64)
    similarity = aligned_oks(
        keypoints[first], keypoints[second], np.maximum(areas[first], areas[second]), sigmas,
        weights,
    )  # fmt: skip
    same = similarity > threshold
    if not same.any():
        return everyone, everyone
    rivals: dict[int, set[int]] = {}
    for one, other in zip(first[same].tolist(), second[same].tolist(), strict=True):
        rivals.setdefault(one, set()).add(other)
        rivals.setdefault(other, set()).add(one)
    order = np.lexsort((-poses.scores.mean(axis=1), -poses.person_scores))
    stand: dict[int, int] = {}  # who stands for those that go
    for person in order.tolist():
        if person not in stand:
            stand.update((rival, person) for rival in rivals.get(person, ()) if rival not in stand)
    kept = np.delete(everyone, sorted(stand))
    return kept, np.searchsorted(kept, [stand.get(person, person) for person in range(count)])
