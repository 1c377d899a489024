"""Learning from a finished network's features, whatever it sees: people's joints or people.

A student that starts from nothing learns far faster when every cell of its maps is told what a
trained network sees there (Romero et al., "FitNets", ICLR 2015) than from labels alone. Nothing of
the teacher's weights enters the student.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LIMIT = 6.0
"""Standard deviations beyond which a feature is not to be copied."""


class FeatureHeads(nn.Module):
    """Maps a student's features to its teacher's; thrown away after the training.

    Args:
        width: channels of the student's features.
        channels: of the teacher's.
        levels: maps of different resolution, each with its own head.
        silent: begin by guessing nothing, so that a student that has learnt already is not led by
            random predictions.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, channels: int, levels: int = 1, *, silent: bool = False) -> None:
        super().__init__()
        self._scaled = False
        self.levels = nn.ModuleList(nn.Linear(width, channels) for _ in range(levels))
        if silent:
            for level in self.levels:
                nn.init.zeros_(level.weight)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.zeros(levels, channels))
        self.register_buffer("deviation", torch.zeros(levels, channels))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Guesses (N, P, C) for the P cells of each level's map (N, W, h, w)."""
        return [head(cells_of(own)) for head, own in zip(self.levels, maps, strict=True)]

    def loss(self, guesses: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """Mean squared error in the teacher's own standard deviations, a mean over levels.

        Both are (N, P, C) a level. The first batch sets the scale.
        """
        if not self._scaled:  # looking waits for the device, so it is done once
            if not self.deviation.any():
                for i, level in enumerate(wanted):
                    self.mean[i] = level.float().mean((0, 1))
                    self.deviation[i] = level.float().std((0, 1)).clamp(min=1e-3)
            self._scaled = True
        total = torch.zeros(())
        for i, (guess, want) in enumerate(zip(guesses, wanted, strict=True)):
            target = (want.float() - self.mean[i]) / self.deviation[i]
            total = total + F.mse_loss(guess.float(), target.clamp(-LIMIT, LIMIT))
        return total / len(self.levels)


def cells_of(maps_NCHW: Tensor) -> Tensor:
    """Maps as one row a cell: (N, P, C)."""
    return maps_NCHW.flatten(2).transpose(1, 2)
