"""Boxes to network crops: aspect-true, padded, one batch a frame."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from ... import geometry
from ...types import Float64Array, IntArray

FEW = 4
"""Fewer crops are not worth handing half of them to a second thread."""


class Cropper:
    """Cuts people out of a frame into one reused uint8 batch.

    A window is moved to whole pixels, by half a pixel at most, so that it can be resized
    rather than warped, in a third of the time; the maps back to the image are those of the
    moved window, so no joint is off by it.
    """

    def __init__(self, input_hw: tuple[int, int], padding: float = geometry.PADDING) -> None:
        self.input_hw = input_hw
        self.padding = padding
        self._batch = np.empty((0, *input_hw, 3), np.uint8)
        self._helper = ThreadPoolExecutor(1, "crop")

    def __call__(
        self, image_HW3: NDArray[np.uint8], boxes: NDArray[np.floating]
    ) -> tuple[NDArray[np.uint8], Float64Array]:
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
        sources, targets, to_image = cuts(windows, image_HW3.shape[:2], self.input_hw)
        if len(self._batch) < len(boxes):
            self._batch = np.empty((len(boxes), height, width, 3), np.uint8)
        crops_NHW3 = self._batch[: len(boxes)]
        half = len(boxes) // 2 if len(boxes) >= FEW else len(boxes)
        parts = sources.tolist(), targets.tolist()
        rest = None
        if half < len(boxes):  # OpenCV resizes without Python's lock
            rest = self._helper.submit(
                _resize, image_HW3, crops_NHW3[half:], parts[0][half:], parts[1][half:]
            )
        _resize(image_HW3, crops_NHW3[:half], parts[0][:half], parts[1][:half])
        if rest is not None:
            rest.result()
        return crops_NHW3, to_image


def _resize(
    image_HW3: NDArray[np.uint8],
    crops_NHW3: NDArray[np.uint8],
    sources: list[list[int]],
    targets: list[list[int]],
) -> None:
    """Fills crops, each from its part of the image onto its own part; the rest is black."""
    height, width = crops_NHW3.shape[1:3]
    whole = [0, 0, width, height]
    for crop_HW3, source, target in zip(crops_NHW3, sources, targets, strict=True):
        if target != whole:
            crop_HW3[...] = 0
        left, top, right, bottom = target
        if left < right and top < bottom:
            x0, y0, x1, y1 = source
            cv2.resize(
                image_HW3[y0:y1, x0:x1],
                (right - left, bottom - top),
                dst=crop_HW3[top:bottom, left:right],
                interpolation=cv2.INTER_LINEAR,
            )


def cuts(
    windows: NDArray[np.floating], image_hw: tuple[int, int], input_hw: tuple[int, int]
) -> tuple[IntArray, IntArray, Float64Array]:
    """Which part of the image is resized onto which part of each crop.

    Args:
        windows: (N, 4) centre x, centre y, width, height from `geometry.crop_boxes`.
        image_hw: height and width of the image.
        input_hw: height and width of the crops.

    Returns:
        Parts of the image and parts of the crops, both (N, 4) x0, y0, x1, y1 in whole pixels,
        the latter empty where a window lies outside the image; and the maps (N, 2, 3) from
        crop pixels to image pixels, with pixel centres at whole numbers.
    """
    image = np.array(image_hw[::-1], np.float64)
    crop = np.array(input_hw[::-1], np.float64)
    size = windows[:, 2:]
    # Pixel edges, half a pixel before the centres of which the crop's convention speaks.
    low = windows[:, :2] - size / 2 + 0.5 - 0.5 * size / crop
    high = low + size
    first = np.rint(np.clip(low, 0, image))
    last = np.rint(np.clip(high, 0, image))
    last = np.where(last > first, last, np.minimum(first + 1, image))
    first = np.where(last > first, first, last - 1)
    begin = np.where(low < 0, np.clip(np.rint((first - low) / size * crop), 0, crop), 0)
    end = np.where(high > image, np.clip(np.rint((last - low) / size * crop), 0, crop), crop)
    seen = ((begin < end) & (low < image) & (high > 0)).all(axis=1, keepdims=True)
    step = np.where(seen, (last - first) / np.maximum(end - begin, 1), size / crop)
    start = np.where(seen, first - begin * step, low)
    maps = np.zeros((len(windows), 2, 3))
    maps[:, 0, 0], maps[:, 1, 1] = step.T
    maps[:, :, 2] = start + 0.5 * step - 0.5
    targets = np.where(seen, np.concatenate([begin, end], axis=1), 0.0)
    sources = np.concatenate([first, last], axis=1)
    return sources.astype(np.int64), targets.astype(np.int64), maps
