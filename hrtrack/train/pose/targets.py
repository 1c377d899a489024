"""Target heatmaps from joints, and the losses on heatmaps.

Both are given apart so that parts of a batch (accumulation, several processes) can be added up
to exactly the loss of the whole.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

STRIDE = 4
"""Crop pixels per heatmap cell; cell (u, v) stands for crop pixel (4 u, 4 v)."""
Kind = Literal["gaussian", "unbiased", "distribution"]


def heatmap_targets(
    points: Tensor,
    weights: Tensor,
    outside: Tensor,
    map_hw: tuple[int, int],
    sigma: float,
    kind: Kind,
) -> tuple[Tensor, Tensor]:
    """Target maps and the weight of each.

    Args:
        points: (N, K, 2) joints in crop pixels.
        weights: (N, K), 0 where a joint has no label.
        outside: (N, K) joints known to lie outside the crop.
        map_hw: height and width of the maps.
        sigma: spread of the Gaussians in cells.
        kind: ``gaussian`` is the official target: centred on the nearest cell, peak 1, zero
            beyond 3 sigma. ``unbiased`` is centred on the joint itself and not cut, as in UDP
            (Huang et al., CVPR 2020) and DARK. ``distribution`` sums to 1 over the map.

    Returns:
        Maps (N, K, H, W) and weights (N, K). A joint outside the crop has an empty map; its
        weight stays for ``distribution`` ("not in this crop" is an answer there) and is 0
        otherwise.
    """
    height, width = map_hw
    centres = points.float() / STRIDE
    if kind == "gaussian":
        centres = torch.trunc(centres + 0.5)
    offset_x = torch.arange(width, device=points.device) - centres[..., 0:1]
    offset_y = torch.arange(height, device=points.device) - centres[..., 1:2]
    along_x = torch.exp(-(offset_x**2) / (2 * sigma**2))
    along_y = torch.exp(-(offset_y**2) / (2 * sigma**2))
    if kind == "gaussian":
        reach = math.floor(3 * sigma)
        along_x = along_x * (offset_x.abs() <= reach)
        along_y = along_y * (offset_y.abs() <= reach)
        # The official code keeps a joint as long as its cut Gaussian touches the map.
        empty = (along_x.sum(dim=2) == 0) | (along_y.sum(dim=2) == 0)
        weights = weights * ~empty
    elif kind == "unbiased":
        weights = weights * ~outside
    else:
        along_x = along_x / along_x.sum(dim=2, keepdim=True).clamp(min=1e-9)
        along_y = along_y / along_y.sum(dim=2, keepdim=True).clamp(min=1e-9)
        along_x = along_x * ~outside[..., None]
    return along_y[..., :, None] * along_x[..., None, :], weights


def squared_error(maps: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Half the mean squared error over all joints and cells, as the official code weighs it.

    Args:
        maps, targets: (N, K, H, W).
        weights: (N, K); a joint of weight w has both maps multiplied by w.

    Returns:
        Sum and divisor; divisor is N times K, whatever the weights.
    """
    error = ((maps.float() - targets) ** 2).mean(dim=(2, 3)) * weights**2
    return 0.5 * error.sum(), error.new_full((), float(weights.numel()))


def cross_entropy(maps: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of a softmax over all cells and one for "not in this crop" (logit 0).

    Args:
        maps: (N, K, H, W) logits.
        targets: (N, K, H, W) distributions; what a map lacks to 1 goes to the extra cell.
        weights: (N, K).

    Returns:
        Sum and divisor; divisor is the sum of the weights.
    """
    logits = maps.float().flatten(2)
    total = torch.logaddexp(logits.logsumexp(dim=2), logits.new_zeros(()))
    error = total - (logits * targets.flatten(2)).sum(dim=2)
    return (error * weights).sum(), weights.sum()
