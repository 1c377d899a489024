"""SimCC to keypoints in numpy: each joint has one row of bins for x and one for y.

Li et al., "SimCC: a Simple Coordinate Classification Perspective for Human Pose Estimation",
ECCV 2022; RTMPose, RTMW and DWPose predict so, with two bins a crop pixel. Bin b stands for
crop pixel b / split, pixel centres at whole numbers, as in OpenMMLab's codec.
"""

from __future__ import annotations

import numpy as np

from ...types import Float32Array
from .decode import STRIDE


def decode_simcc(
    simcc_x: Float32Array, simcc_y: Float32Array, split: float = 2.0, certain: float = 1.0
) -> Float32Array:
    """Keypoints of bins for x (N, K, split W) and y (N, K, split H).

    The rule is the one that the networks' owners publish: the highest bin of each axis divided by
    ``split``, and as score the smaller of the two peaks, for a joint is only known where both of
    its coordinates are.

    Args:
        simcc_x: one row a joint.
        simcc_y: likewise.
        split: bins a crop pixel.
        certain: the peak of a joint that is beyond doubt, see `PoseInfo.certain`.

    Returns:
        (N, K, 3) float32: x and y in crop pixels, and the score, which is not clipped. A joint
        without a positive peak lies at bin -1 of both axes, as published.
    """
    at = np.stack([simcc_x.argmax(axis=2), simcc_y.argmax(axis=2)], axis=2).astype(np.float32)
    peak = np.minimum(simcc_x.max(axis=2), simcc_y.max(axis=2))
    at[peak <= 0] = -1.0
    return np.concatenate([at / split, peak[..., None] / certain], axis=2).astype(np.float32)


def joint_maps(
    simcc_x: Float32Array, simcc_y: Float32Array, split: float = 2.0, certain: float = 1.0
) -> Float32Array:
    """Maps (N, K, H / 4, W / 4) in the place of heatmaps: a cell has the score of its best bins.

    A map's highest value is the joint's score by `decode_simcc`.
    """
    cell = round(STRIDE * split)
    count, joints = simcc_x.shape[:2]
    across = simcc_x.reshape(count, joints, -1, cell).max(axis=3)
    down = simcc_y.reshape(count, joints, -1, cell).max(axis=3)
    return np.minimum(down[..., None], across[..., None, :]) / np.float32(certain)


def mirror_mean(
    simcc_x: Float32Array, simcc_y: Float32Array, mirror: tuple[int, ...], split: float = 2.0
) -> tuple[Float32Array, Float32Array]:
    """The flip test: the mean of crops' bins and those of their mirror images, turned back.

    Args:
        simcc_x: (2 N, K, split W): of N crops and then of the same with all columns reversed.
        simcc_y: (2 N, K, split H), likewise.
        mirror: for each joint the one that takes its place in a mirror image.
        split: bins a crop pixel.

    Returns:
        The bins (N, K, split W) and (N, K, split H). Pixel x of a reversed crop is W - 1 - x of the
        crop, so the bins beyond the last pixel's middle have no partner and stay as they are.
    """
    half = len(simcc_x) // 2
    order = list(mirror)
    turned = simcc_x[half:, order, ::-1]
    x = simcc_x[:half].copy()
    rest = round(split) - 1
    paired = x.shape[2] - rest
    x[..., :paired] = (x[..., :paired] + turned[..., rest:]) / np.float32(2)
    y: Float32Array = (simcc_y[:half] + simcc_y[half:, order]) / np.float32(2)
    return x, y
