"""Boxes, crops, affine maps, IoU, OKS and orientations, used by tracker and train alike.

Boxes are (N, 4) arrays of x0, y0, x1, y1 in pixels. Affine maps are (2, 3) matrices that
take column vectors (x, y, 1).
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from .types import FloatArray

PADDING = 1.25


def iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of every box in ``a`` (N, 4) with every one in ``b`` (M, 4)."""
    # Coordinate by coordinate: a sum or product over an axis of two costs ten times the addition.
    (left, top, right, bottom), (left_b, top_b, right_b, bottom_b) = a.T[:, :, None], b.T
    wide = np.minimum(right, right_b) - np.maximum(left, left_b)
    tall = np.minimum(bottom, bottom_b) - np.maximum(top, top_b)
    overlap = np.maximum(wide, 0.0) * np.maximum(tall, 0.0)
    union = area(a)[:, None] + area(b) - overlap
    return overlap / np.maximum(union, 1e-9)


def area(boxes: FloatArray) -> FloatArray:
    """The areas (N,) of boxes (N, 4)."""
    left, top, right, bottom = boxes.T
    return np.maximum(right - left, 0.0) * np.maximum(bottom - top, 0.0)


def oks(
    a: FloatArray,
    b: FloatArray,
    areas: FloatArray,
    sigmas: FloatArray,
    valid: FloatArray | None = None,
) -> FloatArray:
    """Object keypoint similarity of every pose in ``a`` with every pose in ``b``.

    COCO's definition: the mean over joints of exp(-d^2 / (2 area (2 sigma)^2)).

    Args:
        a: (N, K, 2) keypoints in pixels.
        b: (M, K, 2) keypoints in pixels.
        areas: (M,) areas of the people in ``b`` in square pixels.
        sigmas: (K,) per-joint constants.
        valid: (N, M, K) or broadcastable weights; joints of weight 0 do not count.

    Returns:
        (N, M) similarities in [0, 1]; 0 where no joint counts.
    """
    return aligned_oks(a[:, None], b[None], areas[None], sigmas, valid)


def aligned_oks(
    a: FloatArray,
    b: FloatArray,
    areas: FloatArray,
    sigmas: FloatArray,
    valid: FloatArray | None = None,
) -> FloatArray:
    """The same of poses that stand side by side: ``a`` and ``b`` (..., K, 2), ``areas`` (...)."""
    similar = joint_similarities(a, b, areas, sigmas)
    if valid is None:
        return similar.mean(axis=-1)
    weights = np.broadcast_to(valid, similar.shape)
    total = weights.sum(axis=-1)
    return np.where(total > 0, (similar * weights).sum(axis=-1) / np.maximum(total, 1e-9), 0.0)


def joint_similarities(
    a: FloatArray, b: FloatArray, areas: FloatArray, sigmas: FloatArray
) -> FloatArray:
    """What each joint adds to the OKS (..., K) of ``a`` and ``b`` (..., K, 2), ``areas`` (...)."""
    squared = (a - b) ** 2
    squared = squared[..., 0] + squared[..., 1]
    variance = (2 * np.asarray(sigmas)) ** 2
    similar: FloatArray = np.exp(-squared / (2 * np.maximum(areas, 1.0)[..., None] * variance))
    return similar


def crop_boxes(boxes: FloatArray, aspect: float, padding: float = PADDING) -> FloatArray:
    """Boxes grown to a width / height of ``aspect`` and then padded, as centre and size.

    The top-down convention since Xiao et al. 2018: the shorter side grows until the aspect
    fits, then both grow by ``padding``. Returns (N, 4): centre x, centre y, width, height.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    height = np.maximum(np.maximum(height, width / aspect), 1e-3)
    size = np.stack([height * aspect, height], axis=1) * padding
    return np.concatenate([centre, size], axis=1)


def crop_affines(windows: FloatArray, input_hw: tuple[int, int]) -> FloatArray:
    """Maps from image pixels to crop pixels for upright windows.

    Args:
        windows: (N, 4) centre x, centre y, width, height from `crop_boxes`.
        input_hw: height and width of the crops.

    Returns:
        (N, 2, 3) matrices. As in the official HRNet code a window's centre falls on
        (W/2, H/2) and its width on W pixels.
    """
    height, width = input_hw
    scale = width / windows[:, 2]
    matrices = np.zeros((len(windows), 2, 3), np.float64)
    matrices[:, 0, 0] = matrices[:, 1, 1] = scale
    matrices[:, 0, 2] = width / 2 - scale * windows[:, 0]
    matrices[:, 1, 2] = height / 2 - scale * windows[:, 1]
    return matrices


def box_affines(
    boxes: FloatArray, input_hw: tuple[int, int], padding: float = PADDING
) -> FloatArray:
    """Maps (N, 2, 3) from image pixels to the upright crops of boxes (N, 4): `crop_boxes` and
    `crop_affines`."""
    height, width = input_hw
    return crop_affines(crop_boxes(boxes, width / height, padding), input_hw)


def rotated_affine(
    centre: FloatArray, size: float, degrees: float, input_hw: tuple[int, int]
) -> FloatArray:
    """The (2, 3) map of a rotated crop: ``size`` image pixels of width fill the crop's width.

    Positive ``degrees`` turn as in the official HRNet code (clockwise on the screen is the
    turn of the window, so the picture turns the other way).
    """
    height, width = input_hw
    scale, angle = width / size, np.deg2rad(degrees)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos, sin], [-sin, cos]])
    shift = np.array([width / 2, height / 2]) - linear @ np.asarray(centre, np.float64)
    return np.concatenate([linear, shift[:, None]], axis=1)


def invert(affines: FloatArray) -> FloatArray:
    """The inverse maps of (N, 2, 3) or (2, 3) matrices."""
    linear = np.linalg.inv(affines[..., :2])
    shift = -(linear @ affines[..., 2:])
    return np.concatenate([linear, shift], axis=-1)


def transform(points: FloatArray, affines: FloatArray) -> FloatArray:
    """Points (N, K, 2) through maps (N, 2, 3), or (K, 2) through one (2, 3)."""
    return points @ np.swapaxes(affines[..., :2], -1, -2) + affines[..., None, :, 2]


def orient(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turns and mirrors a picture (H, W, 3) by its EXIF orientation, 1 to 8 (EXIF 2.32, 4.6.4)."""
    if orientation == 1:
        return image
    import cv2

    if orientation in (2, 3, 4):
        return cast("NDArray[np.uint8]", cv2.flip(image, {2: 1, 3: -1, 4: 0}[orientation]))
    if orientation in (6, 8):
        turn = cv2.ROTATE_90_CLOCKWISE if orientation == 6 else cv2.ROTATE_90_COUNTERCLOCKWISE
        return cast("NDArray[np.uint8]", cv2.rotate(image, turn))
    image = cv2.transpose(image)
    return cast("NDArray[np.uint8]", cv2.flip(image, -1) if orientation == 7 else image)
