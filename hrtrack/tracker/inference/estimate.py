"""Top-down estimation: crop every box, run the pose network once, map back to the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...models.network import Network
from ...poses import Poses
from ..stopwatch import Stopwatch
from ..video.frame import Frame
from .crop import Cropper

SEEN = 0.2
"""Keypoints below this score do not count towards a person's score (HRNet's COCO rule)."""


class Estimator:
    """Poses, still without identities, for the boxes of one frame."""

    def __init__(
        self, network: Network, joints: int, stopwatch: Stopwatch, *, keep_heatmaps: bool = False
    ) -> None:
        self.network = network
        self.joints = joints
        self.heatmaps: NDArray[np.float32] | None = None
        self.affines: NDArray[np.float64] | None = None
        self._keep_heatmaps = keep_heatmaps
        self._crop = Cropper(network.input_hw)
        self._stopwatch = stopwatch

    def __call__(
        self, frame: Frame, boxes: NDArray[np.floating], scores: NDArray[np.floating]
    ) -> Poses:
        """Runs the network on boxes (N, 4) with their person scores (N,).

        The person score of the result is the geometric mean of the box score and the mean
        score of the keypoints above `SEEN`: the order of the official HRNet evaluation,
        which multiplies the two, on the scale of either. With ``keep_heatmaps``
        the maps of the last frame stand in `heatmaps` and their crops' maps to the image
        in `affines`, for drawing.
        """
        self.heatmaps = self.affines = None
        if len(boxes) == 0:
            return Poses.empty(frame.index, frame.time, self.joints)
        with self._stopwatch.stage("crop"):
            crops_NHW3, to_image = self._crop(frame.image, boxes)
        with self._stopwatch.stage("infer"):
            found = self.network(crops_NHW3, heatmaps=self._keep_heatmaps)
        keypoints_NK3 = found["keypoints"]
        if self._keep_heatmaps:
            self.heatmaps, self.affines = found["heatmaps"], to_image
        return to_poses(frame, boxes, scores, keypoints_NK3, to_image)


def to_poses(
    frame: Frame,
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    keypoints_NK3: NDArray[np.floating],
    to_image: NDArray[np.floating],
) -> Poses:
    """Keypoints in crop pixels, carried to the image by maps (N, 2, 3), as a frame's poses."""
    joint_scores = keypoints_NK3[..., 2]
    return Poses(
        frame=frame.index,
        time=frame.time,
        boxes=np.asarray(boxes, np.float32),
        person_scores=np.sqrt(scores * person_confidence(joint_scores)).astype(np.float32),
        keypoints=geometry.transform(keypoints_NK3[..., :2], to_image).astype(np.float32),
        scores=np.clip(joint_scores, 0, 1).astype(np.float32),
        ids=np.full(len(boxes), -1, np.int64),
    )


def person_confidence(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """The mean (N,) of the keypoint scores (N, K) above `SEEN`; 0 where there is none."""
    seen = scores > SEEN
    return np.where(seen, scores, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
