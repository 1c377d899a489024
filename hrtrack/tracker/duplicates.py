"""Two boxes that converged on one person."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..geometry import area, iou, oks
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
    overlap = iou(poses.boxes, poses.boxes)
    np.fill_diagonal(overlap, 0.0)
    if overlap.max() < MIN_IOU:
        return np.arange(count)
    areas = area(poses.boxes)
    keypoints = poses.keypoints.astype(np.float64)
    weights = np.minimum(poses.scores[:, None], poses.scores[None]).astype(np.float64)
    similarity = oks(keypoints, keypoints, areas, sigmas, weights)
    alike = np.maximum(similarity, similarity.T) > threshold
    np.fill_diagonal(alike, False)
    if not alike.any():
        return np.arange(count)
    order = np.lexsort((-poses.scores.mean(axis=1), -poses.person_scores))
    kept: list[int] = []
    for person in order.tolist():
        if not alike[person, kept].any():
            kept.append(person)
    return np.sort(np.array(kept))
