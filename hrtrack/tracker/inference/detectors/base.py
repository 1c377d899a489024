"""What a person detector is, and how its answer is thinned out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ....models.detector.letterbox import nms, vote
from ....types import Detections

if TYPE_CHECKING:
    from ..upload import Upload

MIN_SCORE = 0.1
"""Low enough for the association's second band of weak boxes."""
MOST = 300


class Detector(Protocol):
    """Finds people in a picture."""

    name: str

    def __call__(self, image_rgb: NDArray[np.uint8]) -> Detections:
        """Boxes (N, 4) xyxy in image pixels and scores (N,) in [0, 1], best first.

        ``image_rgb`` is (H, W, 3).
        """
        ...

    def describe(self) -> str:
        """One line for the log: where it runs."""
        ...

    def close(self) -> None: ...


class WholePicture:
    """The detector ``whole``: takes the picture for the box of one person, or hand, or animal."""

    name = "whole"

    def __call__(self, image_rgb: NDArray[np.uint8]) -> Detections:
        """One box (1, 4), sure (1,)."""
        height, width = image_rgb.shape[:2]
        return np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32)

    def describe(self) -> str:
        """One line for the log."""
        return "the whole picture, without a detector"

    def close(self) -> None:
        """Has nothing to free."""


@runtime_checkable
class DeviceDetector(Detector, Protocol):
    """A `Detector` on a GPU, whose ``upload`` holds the frame it saw for the pose network."""

    upload: Upload


def distinct(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    min_score: float,
    nms_iou: float | None,
    vote_iou: float | None,
) -> Detections:
    """The likely ones of boxes (N, 4) and scores (N,), best first, each person once."""
    keep = scores >= min_score
    boxes, scores = boxes[keep].astype(np.float32), scores[keep].astype(np.float32)
    order = np.argsort(-scores, kind="stable")[:MOST]
    boxes, scores = boxes[order], scores[order]
    if nms_iou is None:
        return boxes, scores
    kept = nms(boxes, scores, nms_iou)
    boxes = boxes[kept] if vote_iou is None else vote(boxes, scores, kept, vote_iou)
    return boxes, scores[kept]
