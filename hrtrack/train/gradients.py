"""A batch's loss and gradients, on one GPU as recordings."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from torch import Tensor, nn

from .graphed import Recordings
from .loader import Batch
from .step import batch_loss

if TYPE_CHECKING:
    from ..configs.schema import TrainConfig

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
        self._recordings = Recordings([network], LOG.warning) if recorded else None

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
