"""Crops that several streams have ready at a time go through a GPU's network as one batch."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...models.network import DeviceNetwork, PoseNetwork


@dataclass(slots=True, eq=False)
class _Waiting:
    """The crops of one caller, and what became of them."""

    crops: Tensor
    heatmaps: bool
    found: dict[str, Tensor] | None = None
    error: BaseException | None = None
    done: bool = False


class GatheredNetwork:
    """A `hrtrack.models.network.DeviceNetwork` for many threads: one batch of all that wait.

    Nobody waits for a batch to fill. While a batch is computed the next callers' crops gather, and
    all of them make up the next one, so that no caller waits for more than two batches. A batch
    ends when its results are there; work that is merely queued would let none gather.

    On a GPU other sizes of a batch take other kernels, which round differently: a stream's
    coordinates may then differ in the last bits from those of a run alone.
    """

    def __init__(self, network: PoseNetwork) -> None:
        assert isinstance(network, DeviceNetwork)
        self._there: DeviceNetwork = network
        self._network = network
        self.device = network.device
        self.info, self.skeleton, self.input_hw = network.info, network.skeleton, network.input_hw
        self._waiting: list[_Waiting] = []
        self._busy = False
        self._changed = threading.Condition()

    def on_device(self, crops: Tensor, *, heatmaps: bool = False) -> dict[str, Tensor]:
        """Crops (N, H, W, 3) on the device -> ``keypoints`` (N, K, 3), on request ``heatmaps``."""
        mine = _Waiting(crops, heatmaps)
        with self._changed:
            self._waiting.append(mine)
            self._changed.wait_for(lambda: mine.done or not self._busy)
            if mine.done:
                return _result(mine)
            # The first to come after a batch has ended runs the next one, its own crops in it.
            together, self._waiting = self._waiting, []
            self._busy = True
        try:
            self._run(together)
        except BaseException as error:
            for one in together:
                one.error = error
        finally:
            with self._changed:
                self._busy = False
                for one in together:
                    one.done = True
                self._changed.notify_all()
        return _result(mine)

    def _run(self, together: list[_Waiting]) -> None:
        heatmaps = any(one.heatmaps for one in together)
        crops = torch.cat([one.crops for one in together])
        found = self._there.on_device(crops, heatmaps=heatmaps)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        start = 0
        for one in together:
            stop = start + len(one.crops)
            one.found = {
                name: rows[start:stop]
                for name, rows in found.items()
                if one.heatmaps or name == "keypoints"
            }
            start = stop

    def __call__(
        self, crops_NHW3: NDArray[np.uint8], *, heatmaps: bool = False
    ) -> dict[str, NDArray[np.float32]]:
        """The same with arrays in memory; N may be 0."""
        crops = torch.from_numpy(np.ascontiguousarray(crops_NHW3)).to(self.device)
        found = self.on_device(crops, heatmaps=heatmaps)
        return {name: tensor.cpu().numpy() for name, tensor in found.items()}

    def runs_on(self) -> dict[str, str]:
        """The back end with its version, the device and the precision."""
        return self._network.runs_on()

    def describe(self) -> str:
        """One line for the log."""
        return self._network.describe()

    def close(self) -> None:
        """Frees the network."""
        self._network.close()


def _result(one: _Waiting) -> dict[str, Tensor]:
    if one.error is not None:
        raise one.error
    assert one.found is not None
    return one.found
