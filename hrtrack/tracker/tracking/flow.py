"""Joints of people who are not estimated in a frame, found again in its picture.

Lucas and Kanade, "An iterative image registration technique with an application to stereo vision",
IJCAI 1981, in OpenCV's pyramids.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ...types import BoolArray, Float64Array

HEIGHT = 360
"""Pixels to which pictures are made smaller: as good as twice as many, in half the time."""
WINDOW = 9
"""Pixels of the small picture around a joint that are compared."""
LEVELS = 3
ENOUGH = 3
"""So many joints that were found again tell where a person went."""
APART = 0.1
"""A joint that moves further than so many sizes from most others was lost, not swung."""


class Flow:
    """Remembers the picture before, and finds places in it again in the newest one."""

    def __init__(self) -> None:
        self._before: NDArray[np.uint8] | None = None
        self._now: NDArray[np.uint8] | None = None
        self._scale = 1.0

    def update(self, image_HW3: NDArray[np.uint8] | None) -> None:
        """Takes the next picture, (H, W, 3) uint8 RGB; with None nothing is found in the next."""
        if image_HW3 is None:
            self._before = self._now = None
            return
        self._scale = min(1.0, HEIGHT / image_HW3.shape[0])
        if self._scale < 1.0:
            size = round(image_HW3.shape[1] * self._scale), HEIGHT
            image_HW3 = cv2.resize(image_HW3, size, interpolation=cv2.INTER_AREA)
        self._before, self._now = self._now, cv2.cvtColor(image_HW3, cv2.COLOR_RGB2GRAY)

    def __call__(
        self, keypoints: Float64Array, certain: BoolArray, sizes: Float64Array
    ) -> tuple[Float64Array, Float64Array, BoolArray]:
        """Where joints of the picture before are now.

        Args:
            keypoints: (N, K, 2) pixels.
            certain: (N, K) which of them are looked for; the others go with their body.
            sizes: (N,) how large the people are, in pixels.

        Returns:
            The joints (N, K, 2), the shifts (N, 2) of the bodies, and which bodies (N,) were found
            again; the others stay where they were.
        """
        before, now = self._before, self._now
        people = len(keypoints)
        shifts, found = np.zeros((people, 2)), np.zeros(people, bool)
        certain = certain & (before is not None)
        if before is None or now is None or before.shape != now.shape or not certain.any():
            return keypoints, shifts, found
        points = (keypoints[certain] * self._scale).astype(np.float32)[:, None]
        moved, status, _ = cv2.calcOpticalFlowPyrLK(
            before, now, points, None, winSize=(WINDOW, WINDOW), maxLevel=LEVELS
        )  # fmt: skip
        steps = np.full(keypoints.shape, np.nan)
        steps[certain] = np.where(status == 1, (moved - points)[:, 0] / self._scale, np.nan)
        known = ~np.isnan(steps[:, :, 0])
        found = known.sum(axis=1) >= ENOUGH
        if found.any():
            shifts[found] = np.nanmedian(steps[found], axis=1)
        gap = np.hypot(*np.moveaxis(steps - shifts[:, None], 2, 0))
        with np.errstate(invalid="ignore"):
            swung = found[:, None] & known & (gap <= APART * sizes[:, None])
        steps = np.where(swung[..., None], steps, shifts[:, None])
        return keypoints + steps, shifts, found
