"""Boxes to network crops: aspect-true, padded, one batch a frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import geometry


class Cropper:
    """Cuts people out of a frame into one reused uint8 batch."""

    def __init__(self, input_hw: tuple[int, int], padding: float = geometry.PADDING) -> None:
        self.input_hw = input_hw
        self.padding = padding
        self._batch = np.empty((0, *input_hw, 3), np.uint8)

    def __call__(
        self, image_HW3: NDArray[np.uint8], boxes: NDArray[np.floating]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Cuts one crop a box.

        Args:
            image_HW3: the frame.
            boxes: (N, 4) x0, y0, x1, y1 in image pixels.

        Returns:
            The crops (N, H, W, 3), valid until the next call, and the maps (N, 2, 3) from
            crop pixels back to image pixels. Outside the image a crop is black.
        """
        height, width = self.input_hw
        windows = geometry.crop_boxes(boxes, width / height, self.padding)
        affines = geometry.crop_affines(windows, self.input_hw)
        if len(self._batch) < len(boxes):
            self._batch = np.empty((len(boxes), height, width, 3), np.uint8)
        crops_NHW3 = self._batch[: len(boxes)]
        for crop_HW3, affine in zip(crops_NHW3, affines, strict=True):
            cv2.warpAffine(image_HW3, affine, (width, height), dst=crop_HW3, flags=cv2.INTER_LINEAR)
        return crops_NHW3, geometry.invert(affines).astype(np.float64)
