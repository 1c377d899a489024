"""What several streams have ready at a time goes through a GPU's network as one batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...models.network import DeviceNetwork, PoseNetwork

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[T, R]):
    """What one caller brought, and what became of it."""

    given: T
    found: R | None = None
    error: BaseException | None = None
    done: bool = False


class Gathering(Generic[T, R]):
    """Runs together what any number of threads bring at a time.

    Nobody waits for a batch to fill. While a batch is computed the next callers gather, and all of
    them make up the next one, so that no caller waits for more than two batches, however often
    others call.

    Args:
        run: takes what was brought and gives the result for each, in order. It returns when the
            results are there; work that is merely queued would let nobody gather.
    """

    def __init__(self, run: Callable[[list[T]], list[R]]) -> None:
        self._run = run
        self._waiting: list[_Waiting[T, R]] = []
        self._busy = False
        self._changed = threading.Condition()

    def __call__(self, given: T) -> R:
        """The result for what one caller brings; it may raise what any in the batch caused."""
        mine: _Waiting[T, R] = _Waiting(given)
        with self._changed:
            self._waiting.append(mine)
            self._changed.wait_for(lambda: mine.done or not self._busy)
            if mine.done:
                return _result(mine)
            # The first to come after a batch has ended runs the next one, its own in it.
            together, self._waiting = self._waiting, []
            self._busy = True
        try:
            results = self._run([one.given for one in together])
            for one, found in zip(together, results, strict=True):
                one.found = found
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


def _result(one: _Waiting[T, R]) -> R:
    if one.error is not None:
        raise one.error
    assert one.found is not None
    return one.found


class GatheredNetwork:
    """A `hrtrack.models.network.DeviceNetwork` for many threads: one batch of all that wait.

    On a GPU other sizes of a batch take other kernels, which round differently: a stream's
    coordinates may then differ in the last bits from those of a run alone.
    """

    def __init__(self, network: PoseNetwork) -> None:
        assert isinstance(network, DeviceNetwork)
        self._there: DeviceNetwork = network
        self._network = network
        self.device = network.device
        self.info, self.skeleton, self.input_hw = network.info, network.skeleton, network.input_hw
        self._gathering = Gathering(self._run)

    def on_device(self, crops: Tensor, *, heatmaps: bool = False) -> dict[str, Tensor]:
        """Crops (N, H, W, 3) on the device -> ``keypoints`` (N, K, 3), on request ``heatmaps``."""
        return self._gathering((crops, heatmaps))

    def _run(self, given: list[tuple[Tensor, bool]]) -> list[dict[str, Tensor]]:
        crops = torch.cat([some for some, _ in given])
        found = self._there.on_device(crops, heatmaps=any(heatmaps for _, heatmaps in given))
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        results, start = [], 0
        for some, heatmaps in given:
            stop = start + len(some)
            results.append(
                {
                    name: rows[start:stop]
                    for name, rows in found.items()
                    if heatmaps or name == "keypoints"
                }
            )
            start = stop
        return results

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
