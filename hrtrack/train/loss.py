"""Losses on maps, as a sum and the number it is to be divided by.

Both are given apart so that parts of a batch (accumulation, several processes) can be added up
to exactly the loss of the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
