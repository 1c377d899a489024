"""A stick figure that walks, for the tests of everything behind the pose network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17

FIGURE = np.array(
    [
        [0.50, 0.08], [0.53, 0.06], [0.47, 0.06], [0.57, 0.08], [0.43, 0.08],
        [0.65, 0.22], [0.35, 0.22], [0.72, 0.38], [0.28, 0.38], [0.74, 0.52], [0.26, 0.52],
        [0.60, 0.52], [0.40, 0.52], [0.60, 0.74], [0.40, 0.74], [0.60, 0.95], [0.40, 0.95],
    ]
)  # fmt: skip
"""COCO-17 joints of a standing person in a unit box."""


def frame(
    index: int,
    time: float,
    corners: list[tuple[float, float]] | NDArray[np.floating],
    *,
    size: tuple[float, float] = (60.0, 150.0),
    score: float | list[float] = 0.8,
    joint_score: float = 0.9,
) -> Poses:
    """People standing with the upper left corner of their box at ``corners``."""
    places = np.asarray(corners, np.float64).reshape(-1, 2)
    count = len(places)
    keypoints = places[:, None] + FIGURE[None] * np.array(size)
    return Poses(
        index,
        time,
        np.concatenate([places, places + np.array(size)], axis=1).astype(np.float32),
        np.broadcast_to(np.asarray(score, np.float32), (count,)).copy(),
        keypoints.astype(np.float32),
        np.full((count, len(COCO17)), joint_score, np.float32),
        np.full(count, -1, np.int64),
    )
