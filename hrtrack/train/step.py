"""What one batch costs: pixels to normalised images, maps, targets, loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..configs.schema import TrainConfig
from .loader import Batch
from .loss import cross_entropy, squared_error
from .targets import heatmap_targets


def batch_loss(
    network: nn.Module, batch: Batch, config: TrainConfig, pixels: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The loss of a batch as a sum and its divisor.

    Args:
        network: images to maps, in bfloat16 where the configuration says so.
        batch: on the network's device.
        config: says which target and loss.
        pixels: scale and offset (3,) that turn pixels of 0-255 into the network's numbers.
    """
    scale, offset = pixels
    images = (batch.crops.float() * scale + offset).permute(0, 3, 1, 2)
    bf16 = config.fit.precision == "bf16"
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        maps = network(images)
    height, width = (int(side) for side in maps.shape[2:])
    kind = config.target.kind
    targets, weights = heatmap_targets(
        batch.points, batch.weights, batch.gone, (height, width), batch.sigma, kind
    )
    measure = cross_entropy if kind == "distribution" else squared_error
    return measure(maps, targets, weights)
