"""The optimiser, its schedule, and the running average of the weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ..configs.schema import FitSection


State = dict[str, Tensor]


def make_optimizer(network: nn.Module, fit: FitSection) -> torch.optim.Optimizer:
    """Adam or AdamW; weight decay spares biases and norms."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    kind = torch.optim.AdamW if fit.optimizer == "adamw" else torch.optim.Adam
    return kind(
        [
            {"params": matrices, "weight_decay": fit.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=fit.lr,
    )


def learning_rate(fit: FitSection, step: int, share_done: float) -> float:
    """The rate of a step: a linear warm-up times steps at milestones, or half a cosine."""
    warm = min(1.0, (step + 1) / fit.warmup_steps) if fit.warmup_steps else 1.0
    if fit.schedule == "cosine":
        return fit.lr * warm * 0.5 * (1 + math.cos(math.pi * share_done))
    # A share that stands for a whole number of epochs must not miss its milestone by rounding.
    passed = sum(share_done >= milestone - 1e-9 for milestone in fit.milestones)
    return fit.lr * warm * fit.gamma**passed


class Ema:
    """An exponential moving average of a network's parameters and buffers.

    The decay rises from 0 to its value, so that the random start is forgotten; a decay of 0
    follows the network exactly.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: State = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Moves the average towards the network after its ``step``-th step (from 1 on)."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        now = network.state_dict()
        floats = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.state[name] for name in floats], [now[name] for name in floats], 1 - decay
        )
        for name in now.keys() - set(floats):
            self.state[name].copy_(now[name])
