"""What one batch costs: images, targets, loss and gradients, on one GPU as CUDA graphs."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...models.precision import in_bf16
from ...trainer.cuda_graphs import CudaGraphCache
from .data.loader import Batch
from .targets import cross_entropy, heatmap_targets, squared_error

if TYPE_CHECKING:
    from ...configs.pose_schema import TrainConfig


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
        network: images to maps, in bfloat16 where the configuration says so; a `DistilledNetwork`
            where it names a teacher.
        batch: on the network's device; a teacher beside the network looks at it here.
        config: says which target and loss.
        pixels: scale and offset (3,) that turn pixels of 0-255 into the network's numbers.
    """
    scale, offset = pixels
    images = (batch.crops.float() * scale + offset).permute(0, 3, 1, 2)
    bf16 = in_bf16(config.fit.precision, images.device)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        maps = network(images)
    if config.teacher is not None:
        maps, predicted_features = maps
    height, width = (int(side) for side in maps.shape[2:])
    kind = config.target.kind
    targets, weights = heatmap_targets(
        batch.points, batch.weights, batch.outside, (height, width), batch.sigma, kind
    )
    measure = cross_entropy if kind == "distribution" else squared_error
    total, divisor = measure(maps, targets, weights)
    if config.teacher is not None:
        distilled: Any = getattr(network, "module", network)
        if distilled.teacher is not None:
            features, heatmaps = distilled.teacher(batch.crops)
            batch = replace(batch, features=features, teacher_heatmaps=heatmaps)
        distillation = distilled.loss(
            maps, predicted_features, batch.features, batch.teacher_heatmaps, config.teacher
        )
        total = total + distillation * divisor
    return total, divisor


LOG = logging.getLogger(__name__)


class Gradients:
    """Sum and divisor of a batch's loss; the gradients of the sum are the parameters' then.

    Args:
        network: as `batch_loss` takes it, maybe wrapped for several processes.
        config, pixels: as for `batch_loss`.
        world: how many processes train it.

    With ``fit.graph`` every size of batch is one CUDA graph where nothing adds up: on one GPU, with
    ``data.resident`` and without ``accumulate``. Where the GPU will not, a line says so and the
    training goes on without.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainConfig,
        pixels: tuple[Tensor, Tensor],
        world: int = 1,
    ) -> None:
        self.network, self.config, self.pixels = network, config, pixels
        fit, on_gpu = config.fit, pixels[0].is_cuda
        alone = on_gpu and world == 1 and fit.accumulate == 1
        recorded = alone and config.data.resident and fit.graph
        self._recordings = CudaGraphCache([network], LOG.warning) if recorded else None

    def __call__(self, batch: Batch, *, last: bool = True) -> tuple[Tensor, Tensor]:
        """Of a batch on the network's device.

        ``last`` of those whose gradients add up: processes exchange them only then.
        """
        if self._recordings is None:
            with _unsynced(self.network, not last):
                return self._of(batch)

        def step(*tensors: Tensor) -> dict[str, Tensor]:
            total, divisor = self._of(batch.with_tensors(tensors))
            return {"loss": total, "divisor": divisor}

        found = self._recordings(step, batch.tensors(), batch.sigma)
        return found["loss"], found["divisor"]

    def _of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        total, divisor = batch_loss(self.network, batch, self.config, self.pixels)
        total.backward()
        return total.detach(), divisor.detach()


def _unsynced(network: nn.Module, wanted: bool) -> AbstractContextManager[None]:
    """Holds back DDP's exchange of gradients while a batch is not complete."""
    if wanted and isinstance(network, nn.parallel.DistributedDataParallel):
        return network.no_sync()
    return nullcontext()
