"""What one batch costs: pixels to normalised images, maps, targets, loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .loader import Batch
from .loss import cross_entropy, squared_error
from .precision import in_bf16
from .targets import heatmap_targets

if TYPE_CHECKING:
    from ..configs.schema import TrainConfig


def miscomputed(config: TrainConfig) -> tuple[int, int] | None:
    """The crops (height, width) of which PyTorch computes wrong maps in bfloat16 on CPUs.

    Its bfloat16 convolutions there of stride 2 are wrong where 2 columns become 1 and several
    rows remain (PyTorch 2.13 with oneDNN on AMX: results that change from call to call, NaN
    among them), as they do in the deepest branch of a crop 32 pixels wide.
    """
    sizes = [config.input.size, *(stage.size for stage in config.fit.stages)]
    return next(((height, width) for height, width in sizes if width == 32 < height), None)


def require_sound(config: TrainConfig, device: torch.device) -> None:
    """ConfigError where PyTorch is known to compute wrong maps (`miscomputed`)."""
    narrow = miscomputed(config)
    if device.type == "cpu" and config.fit.precision == "bf16" and narrow:
        height, width = narrow
        raise ConfigError(
            f"bfloat16 on a CPU miscomputes crops of {height}x{width} in PyTorch: "
            "take crops 64 or more wide, or fit.precision=fp32"
        )


def batch_loss(
    network: nn.Module, batch: Batch, config: TrainConfig, pixels: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The loss of a batch as a sum and its divisor.

    Args:
        network: images to maps, in bfloat16 where the configuration says so; a `Pupil` where it
            names a teacher.
        batch: on the network's device.
        config: says which target and loss.
        pixels: scale and offset (3,) that turn pixels of 0-255 into the network's numbers.
    """
    scale, offset = pixels
    images = (batch.crops.float() * scale + offset).permute(0, 3, 1, 2)
    bf16 = in_bf16(config.fit.precision, images.device)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        maps = network(images)
    if config.teacher is not None:
        maps, guess = maps
    height, width = (int(side) for side in maps.shape[2:])
    kind = config.target.kind
    targets, weights = heatmap_targets(
        batch.points, batch.weights, batch.gone, (height, width), batch.sigma, kind
    )
    measure = cross_entropy if kind == "distribution" else squared_error
    total, divisor = measure(maps, targets, weights)
    if config.teacher is not None:
        pupil: Any = getattr(network, "module", network)
        lesson = pupil.loss(maps, guess, batch.features, batch.told, config.teacher)
        total = total + lesson * divisor
    return total, divisor
