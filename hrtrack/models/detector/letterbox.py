"""Fitting a picture into a detector's input, and taking duplicates out of its answer."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...geometry import iou as overlaps

FILL = 114
"""Grey of the bars; YOLOX's value, and the mean that our own detector subtracts."""
CELL = 32
"""Our own detector's coarsest stride: the sides of its input are multiples."""
OWN_NMS_IOU, OWN_VOTE_IOU = 0.55, 0.6
"""For our own detector: measured best on the validation photos."""


def fitted_hw(image_hw: tuple[int, int], input_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a picture scaled, aspect kept, into an input."""
    ratio = min(input_hw[0] / image_hw[0], input_hw[1] / image_hw[1])
    return max(1, round(image_hw[0] * ratio)), max(1, round(image_hw[1] * ratio))


@lru_cache
def input_for(image_hw: tuple[int, int], input_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width, multiples of 32, of the input that shows a picture largest.

    Of no more pixels than ``input_hw``, so no dearer; of equals the one with the fewest pixels,
    that is with the narrowest bars.
    """
    most = input_hw[0] * input_hw[1]
    sizes = [
        (height, width)
        for height in range(CELL, most // CELL + 1, CELL)
        for width in range(CELL, most // height + 1, CELL)
    ]
    shown = {hw: min(hw[0] / image_hw[0], hw[1] / image_hw[1]) for hw in sizes}
    return max(sizes, key=lambda hw: (shown[hw], -hw[0] * hw[1]))


def fill_input(
    image: NDArray[np.uint8], target: NDArray[np.uint8], fit: tuple[int, int]
) -> NDArray[np.float32]:
    """Scales ``image`` to ``fit`` (height, width) into the top left of ``target`` (H, W, 3).

    The rest of ``target`` is left as it is. Returns the scale as x, y, x, y.
    """
    import cv2

    height, width = fit
    cv2.resize(image, (width, height), dst=target[:height, :width])
    x, y = width / image.shape[1], height / image.shape[0]
    return np.array([x, y, x, y], np.float32)


def nms(boxes: NDArray[np.float32], scores: NDArray[np.float32], iou: float) -> NDArray[np.intp]:
    """Greedy non-maximum suppression; indices of the boxes (N, 4) kept, best first."""
    order = np.argsort(-scores, kind="stable")
    # All overlaps at once: at these numbers one step of arrays a box kept costs ten times as much.
    rivals = overlaps(boxes[order], boxes[order]) > iou
    removed = np.zeros(len(order), bool)
    kept = []
    for place, box in enumerate(order.tolist()):
        if not removed[place]:
            kept.append(box)
            removed |= rivals[place]
    return np.array(kept, np.intp)


def vote(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    kept: NDArray[np.intp],
    iou: float,
) -> NDArray[np.float32]:
    """The ``kept`` boxes (K, 4), each averaged with all that overlap it by more than ``iou``.

    Neighbouring cells see the same person with independent errors, so their mean, weighted by
    score and overlap, lies closer (Gidaris and Komodakis, ICCV 2015).
    """
    shared = overlaps(boxes[kept], boxes)
    weights = np.where(shared > iou, shared * scores, 0).astype(np.float32)
    weights[np.arange(len(kept)), kept] = np.maximum(scores[kept], 1e-6)
    voted: NDArray[np.float32] = weights @ boxes / weights.sum(1, keepdims=True)
    return voted
