"""One person to one training crop: geometry in a single warp, then what cameras do to pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ....geometry import crop_boxes, rotated_affine, transform
from ....types import ByteArray, FloatArray

if TYPE_CHECKING:
    from ....configs.pose_schema import AugmentSection

ROTATION_CUT = 2.0
UPPER_SHARE = 0.69
"""The official code prefers the upper body this often (it writes ``randn() < 0.5``)."""
HALF_BODY_PADDING = 1.5 / 1.25
"""The official half body is padded by 1.5 in all."""
CUT_REACH = 0.3
"""A picture's edge cuts away up to this share of the box."""


def training_crop(
    rng: np.random.Generator,
    photo_HW3: ByteArray,
    box: FloatArray,
    points: FloatArray,
    weights: FloatArray,
    *,
    size: tuple[int, int],
    padding: float,
    mirror: NDArray[np.int64],
    upper: NDArray[np.bool_],
    spec: AugmentSection,
) -> tuple[ByteArray, FloatArray, FloatArray, NDArray[np.bool_]]:
    """Cuts one person out, changed at random.

    Args:
        rng: source of all randomness.
        photo_HW3: RGB.
        box: (4,) x0, y0, x1, y1.
        points: (K, 2) joints in photo pixels.
        weights: (K,) 0 where a joint has no label.
        size: height and width of the crop.
        padding: how far the crop reaches past the box.
        mirror: (K,) each joint's partner in a mirror image.
        upper: (K,) joints of the upper half of the body.
        spec: what to change, and how much.

    Returns:
        The crop (H, W, 3), joints (K, 2) in crop pixels, weights (K,), and which joints
        (K,) are known not to be in the crop.
    """
    box, edge = _half_body(rng, box, points, weights, upper, spec)
    height, width = size
    window = crop_boxes(box[None], width / height, padding)[0]
    affine = _random_affine(rng, window, size, spec)
    if rng.random() < spec.flip:
        affine = np.array([[-1, 0, width - 1], [0, 1, 0]]) @ np.vstack([affine, [0, 0, 1]])
        turned = True
    else:
        turned = False
    crop = cv2.warpAffine(photo_HW3, affine, (width, height), flags=cv2.INTER_LINEAR)
    moved = transform(points, affine)
    beyond_edges = (moved < -2) | (moved > np.array([width + 1, height + 1]))
    outside: NDArray[np.bool_] = np.asarray(beyond_edges.any(axis=1))
    if edge is None and rng.random() < spec.truncate:
        edge = _random_edge(rng, box)
    if edge is not None:
        crop = _cut(crop, affine, *edge)
        axis, at, side = edge
        outside |= side * (points[:, axis] - at) > 0
    if turned:
        moved, weights, outside = moved[mirror], weights[mirror], outside[mirror]
    return appearance(rng, crop, spec), moved, weights, outside


def _half_body(
    rng: np.random.Generator,
    box: FloatArray,
    points: FloatArray,
    weights: FloatArray,
    upper: NDArray[np.bool_],
    spec: AugmentSection,
) -> tuple[FloatArray, tuple[int, float, int] | None]:
    """A box around half of the joints, and the picture edge that made it so, if any."""
    known = weights > 0
    if known.sum() <= spec.half_body_joints or rng.random() >= spec.half_body:
        return box, None
    want_upper = rng.random() < UPPER_SHARE
    chosen = known & (upper if want_upper else ~upper)
    if chosen.sum() < 3:
        return box, None
    low, high = points[chosen].min(axis=0), points[chosen].max(axis=0)
    middle, half = (low + high) / 2, np.maximum(high - low, 8) / 2 * HALF_BODY_PADDING
    new = np.concatenate([middle - half, middle + half])
    if want_upper and rng.random() < spec.truncate:
        return new, (1, float(new[3]), 1)
    return new, None


def _random_affine(
    rng: np.random.Generator, window: FloatArray, size: tuple[int, int], spec: AugmentSection
) -> FloatArray:
    """The official random scale and rotation about the window's centre, and a shift."""
    scale = np.clip(1 + rng.normal() * spec.scale, 1 - spec.scale, 1 + spec.scale)
    degrees = 0.0
    if rng.random() < spec.rotation_probability:
        degrees = spec.rotation * np.clip(rng.normal(), -ROTATION_CUT, ROTATION_CUT)
    sides = window[2:] * scale
    centre = window[:2] + rng.normal(size=2) * spec.shift * sides
    return rotated_affine(centre, float(sides[0]), float(degrees), size)


def _random_edge(rng: np.random.Generator, box: FloatArray) -> tuple[int, float, int]:
    """A picture edge through the box: axis, place, and the side (+1 beyond, -1 before) cut off."""
    axis, side = int(rng.integers(2)), int(rng.choice([-1, 1]))
    reach = rng.uniform(0, CUT_REACH) * (box[axis + 2] - box[axis])
    return axis, float(box[axis + 2] - reach if side > 0 else box[axis] + reach), side


def _cut(crop: ByteArray, affine: FloatArray, axis: int, at: float, side: int) -> ByteArray:
    """Blackens what lies beyond an edge of the photo, as the tracker's crops are there."""
    inverse = np.linalg.inv(np.vstack([affine, [0, 0, 1]]))[axis]
    across, down = np.arange(crop.shape[1]), np.arange(crop.shape[0])[:, None]
    place = inverse[0] * across + inverse[1] * down + inverse[2]
    crop[side * (place - at) > 0] = 0
    return crop


def appearance(rng: np.random.Generator, crop: ByteArray, spec: AugmentSection) -> ByteArray:
    """Blur, light and colour, noise, compression, and things in the way; (H, W, 3) as given."""
    if rng.random() < spec.blur:
        crop = _blurred(rng, crop)
    if rng.random() < spec.colour:
        crop = _coloured(rng, crop)
    if rng.random() < spec.grey:
        crop = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < spec.noise:
        noise = rng.normal(0, rng.uniform(3, 15), (*crop.shape[:2], 1))
        crop = np.clip(crop + noise, 0, 255).astype(np.uint8)
    if rng.random() < spec.compression:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))]
        crop = np.asarray(cv2.imdecode(cv2.imencode(".jpg", crop, quality)[1], cv2.IMREAD_COLOR))
    if rng.random() < spec.occlusion:
        crop = _occluded(rng, crop)
    return crop


def _blurred(rng: np.random.Generator, crop: ByteArray) -> ByteArray:
    kind = rng.integers(3)
    if kind == 0:
        height, width = crop.shape[:2]
        share = rng.uniform(1 / 3, 2 / 3)
        small = cv2.resize(crop, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if kind == 1:
        size = int(rng.choice([3, 5]))
        return cv2.GaussianBlur(crop, (size, size), 0)
    length = int(rng.choice([5, 7]))
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length
    return cv2.filter2D(crop, -1, kernel if rng.random() < 0.5 else kernel.T)


def _coloured(rng: np.random.Generator, crop: ByteArray) -> ByteArray:
    """Gamma, contrast, brightness and a tint by table, then saturation."""
    gamma, contrast = np.exp(rng.normal(0, 0.25)), np.exp(rng.normal(0, 0.2))
    light = rng.normal(0, 20) + rng.normal(0, 8, 3)
    ramp = (np.linspace(0, 1, 256) ** gamma - 0.5) * contrast * 255 + 127.5
    table = np.clip(ramp[:, None] + light, 0, 255).astype(np.uint8)
    crop = cv2.LUT(crop, table[None])
    share = rng.uniform(0.4, 1.6)
    grey = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(crop, share, grey, 1 - share, 0)


def _occluded(rng: np.random.Generator, crop: ByteArray) -> ByteArray:
    """Covers one or two rectangles with a plain colour or with another part of the crop."""
    crop = crop.copy()
    sides = np.array(crop.shape[:2])
    for _ in range(rng.integers(1, 3)):
        h, w = np.maximum(sides * rng.uniform(0.08, 0.32, 2), 1).astype(int)
        y, x = rng.integers(0, sides - (h, w))
        if rng.random() < 0.5:
            crop[y : y + h, x : x + w] = rng.integers(0, 256, 3)
        else:
            v, u = rng.integers(0, sides - (h, w))
            crop[y : y + h, x : x + w] = crop[v : v + h, u : u + w].copy()
    return crop
