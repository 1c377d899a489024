"""The detector in training as a function from a photo to boxes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ...models.detector.letterbox import (
    FILL,
    OWN_NMS_IOU,
    OWN_VOTE_IOU,
    fill_input,
    fitted_hw,
    input_for,
    nms,
    vote,
)
from ...models.detector.network import DetectorGraph, PersonDetector
from ...types import Detect, Detections


def as_function(
    detector: PersonDetector, input_hw: tuple[int, int], min_score: float = 0.01
) -> Detect:
    """Photo (H, W, 3) uint8 RGB -> boxes (N, 4) in its pixels and scores (N,), best first.

    ``input_hw`` bounds the pixels of the input, whose sides follow the photo's.
    """
    detector.eval()

    @torch.inference_mode()
    def detect(
        image: NDArray[np.uint8],
    ) -> Detections:
        image_hw = image.shape[0], image.shape[1]
        hw = input_for(image_hw, input_hw)
        graph = DetectorGraph(detector, *hw)
        canvas = np.full((*hw, 3), FILL, np.uint8)
        scale = fill_input(image, canvas, fitted_hw(image_hw, hw))
        boxes_1P4, scores_1P = graph(torch.from_numpy(canvas[None]))
        boxes, scores = boxes_1P4[0].numpy(), scores_1P[0].numpy()
        likely = scores >= min_score
        boxes, scores = boxes[likely], scores[likely]
        kept = nms(boxes, scores, OWN_NMS_IOU)
        return vote(boxes, scores, kept, OWN_VOTE_IOU) / scale, scores[kept]

    return detect
