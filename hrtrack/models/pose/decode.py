"""Heatmaps to keypoints in numpy; `hrtrack.models.pose.graph` holds the torch twin.

Coordinates: the official code carries heatmap cells back to the image with the crop's own
affine map at a quarter of the size, so cell (u, v) is crop pixel (4 u, 4 v), without a half-pixel
shift. Everything here follows that, but for networks that were trained with UDP's unbiased ones.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...types import Float32Array

STRIDE = 4
"""Crop pixels per heatmap cell."""
REACH = 2
"""The Taylor step reads the blurred map up to two cells from the peak."""
TINY = 1e-10
"""Below this a blurred map counts as empty; needs float32."""
MAX_STEP = 1.0
"""A refinement of more than a cell is noise, not a better place."""

DERIVATIVES = np.zeros((5, 5, 5), np.float32)
"""d/dx, d/dy, d2/dx2, d2/dxdy, d2/dy2 as weights on a 5x5 patch [y, x] (as in DARK's code)."""
DERIVATIVES[0, 2, [1, 3]] = -0.5, 0.5
DERIVATIVES[1, [1, 3], 2] = -0.5, 0.5
DERIVATIVES[2, 2, [0, 2, 4]] = 0.25, -0.5, 0.25
DERIVATIVES[3, [1, 1, 3, 3], [1, 3, 1, 3]] = 0.25, -0.25, -0.25, 0.25
DERIVATIVES[4, [0, 2, 4], 2] = 0.25, -0.5, 0.25


def blur_rows(sigma: float) -> Float32Array:
    """One axis of DARK's Gaussian modulation, (5, 2 r + 5): a patch to its blurred middle.

    The kernel has the spread of the training targets; its radius r gives the sizes of the
    official configs, 11 for sigma 2 and 17 for sigma 3.
    """
    radius = int(2.5 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    rows = np.zeros((2 * REACH + 1, 2 * (radius + REACH) + 1), np.float32)
    for row in range(len(rows)):
        rows[row, row : row + len(kernel)] = kernel / kernel.sum()
    return rows


def strides(height: int, width: int, unbiased: bool) -> tuple[float, float]:
    """Crop pixels per heatmap cell in x and y, for maps of ``height`` x ``width`` cells.

    ``unbiased``: from the first pixel's middle to the last's there are as many cells less one
    (Huang et al., "The Devil is in the Details", CVPR 2020, UDP).
    """
    if not unbiased:
        return STRIDE, STRIDE
    return (STRIDE * width - 1) / (width - 1), (STRIDE * height - 1) / (height - 1)


def decode(
    heatmaps: Float32Array,
    how: Literal["dark", "argmax"] = "dark",
    sigma: float = 2.0,
    unbiased: bool = False,
) -> Float32Array:
    """Keypoints of heatmaps (N, K, H, W).

    Args:
        heatmaps: one map per joint, peaks near 1.
        how: ``dark`` blurs, takes the logarithm and goes to the maximum of its second-order
            Taylor expansion (Zhang et al., "Distribution-Aware Coordinate Representation",
            CVPR 2020); ``argmax`` moves a quarter cell towards the higher neighbour (the
            official HRNet post-processing).
        sigma: spread of the training targets in cells, for ``dark``.
        unbiased: the network was trained with UDP's coordinates, see `strides`.

    Returns:
        (N, K, 3) float32: x and y in crop pixels, and the map's highest value as it stands.
        A map without a positive value gives x = y = 0, as in the official code.
    """
    count, joints, height, width = heatmaps.shape
    flat = np.ascontiguousarray(heatmaps, np.float32).reshape(count, joints, height * width)
    at = flat.argmax(axis=2)
    peak = np.take_along_axis(flat, at[..., None], axis=2)[..., 0]
    x, y = at % width, at // width
    refine = _dark_step if how == "dark" else _quarter_step
    step = refine(flat.reshape(heatmaps.shape), x, y, sigma)
    points = (np.stack([x, y], axis=2) + step) * (peak > 0)[..., None]
    points *= strides(height, width, unbiased)
    return np.concatenate([points, peak[..., None]], axis=2).astype(np.float32)


def _patches(
    heatmaps: Float32Array, x: NDArray[np.int64], y: NDArray[np.int64], reach: int
) -> Float32Array:
    """Windows (N, K, 2 reach + 1, 2 reach + 1) around (x, y); zeros beyond the border."""
    count, joints = x.shape
    padded = np.pad(heatmaps, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    span = np.arange(2 * reach + 1)
    rows, columns = y[..., None, None] + span[:, None], x[..., None, None] + span
    people = np.arange(count)[:, None, None, None]
    return padded[people, np.arange(joints)[:, None, None], rows, columns]


def _quarter_step(
    heatmaps: Float32Array, x: NDArray[np.int64], y: NDArray[np.int64], sigma: float
) -> Float32Array:
    height, width = heatmaps.shape[2:]
    patch = _patches(heatmaps, x, y, 1)
    step = np.stack(
        [patch[..., 1, 2] - patch[..., 1, 0], patch[..., 2, 1] - patch[..., 0, 1]], axis=2
    )
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    return 0.25 * np.sign(step) * inside[..., None]


def _dark_step(
    heatmaps: Float32Array, x: NDArray[np.int64], y: NDArray[np.int64], sigma: float
) -> Float32Array:
    height, width = heatmaps.shape[2:]
    rows = blur_rows(sigma)
    patch = _patches(heatmaps, x, y, rows.shape[1] // 2)
    logs = np.log(np.maximum(rows @ patch @ rows.T, TINY))
    slopes = np.einsum("dij,nkij->dnk", DERIVATIVES, logs)
    dx, dy, dxx, dxy, dyy = slopes
    determinant = dxx * dyy - dxy * dxy
    usable = (
        (determinant > TINY) & (dxx < 0)
        & (x >= REACH) & (x < width - REACH) & (y >= REACH) & (y < height - REACH)
    )  # fmt: skip
    divisor = np.where(usable, determinant, 1.0)
    step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=2) / divisor[..., None]
    return np.where(usable[..., None], np.clip(step, -MAX_STEP, MAX_STEP), 0.0)


def flip_back(heatmaps: Float32Array, mirror: tuple[int, ...], shift: bool = True) -> Float32Array:
    """Maps of mirrored crops, turned back: columns reversed and left and right joints exchanged.

    ``shift`` moves them one column to the right, which makes up for the misalignment of networks
    trained with the official coordinates; those trained with unbiased ones (Huang et al.,
    "The Devil is in the Details", CVPR 2020: UDP) need none.
    """
    turned = heatmaps[:, list(mirror), :, ::-1].copy()
    if shift:
        turned[..., 1:] = turned[..., :-1].copy()
    return turned


def flip_average(
    heatmaps: Float32Array, of_mirrored: Float32Array, mirror: tuple[int, ...], shift: bool = True
) -> Float32Array:
    """The flip test: the mean of a crop's maps and its mirror image's maps, turned back."""
    return ((heatmaps + flip_back(of_mirrored, mirror, shift)) / 2).astype(np.float32)
