"""The contract that every network meets, whatever runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..skeleton import Skeleton
from .info import PoseInfo

if TYPE_CHECKING:
    import torch

PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


class Network(Protocol):
    """Arrays in, named arrays out; normalisation and decoding are inside the graph.

    A pose network takes uint8 RGB crops (N, H, W, 3) with (H, W) = ``input_hw`` and gives
    ``keypoints`` (N, K, 3), that is x and y in crop pixels (pixel centres at whole numbers)
    and a score in [0, 1], and on request ``heatmaps`` (N, K, H/4, W/4); a SimCC network then
    also gives its bins ``simcc_x`` (N, K, s W) and ``simcc_y`` (N, K, s H), s = ``info.split``.
    """

    input_hw: tuple[int, int]

    def __call__(
        self, crops_NHW3: NDArray[np.uint8], *, heatmaps: bool = False
    ) -> dict[str, NDArray[np.float32]]: ...

    def close(self) -> None: ...


class PoseNetwork(Network, Protocol):
    """A `Network` that also says what it is."""

    info: PoseInfo
    skeleton: Skeleton

    def runs_on(self) -> dict[str, str]:
        """The ``backend`` with its version, the ``device`` and the ``precision``."""
        ...

    def describe(self) -> str:
        """One line for the log: back end, device, precision, and why they were chosen."""
        ...


@runtime_checkable
class DeviceNetwork(Network, Protocol):
    """A `Network` that also takes and gives tensors on its own device."""

    device: torch.device

    def on_device(
        self, crops: torch.Tensor, *, heatmaps: bool = False
    ) -> dict[str, torch.Tensor]: ...


@runtime_checkable
class SharedNetwork(Protocol):
    """A network or detector that can divide the cores among the streams that call it."""

    def share(self, streams: int) -> None:
        """Is told that so many streams will call it from threads of their own.

        From then on calls at the same time run side by side, each on a share of the cores. What
        comes out of a call stays the same to the bit.
        """
        ...

    def make_room(self) -> None:
        """Is told that other work, such as a video's codecs, goes on beside single calls.

        Calls while another caller is counted (`Callers`) then take half of the cores, which costs
        less processor time. What comes out of a call stays the same to the bit.
        """
        ...


def on_gpu(network: object) -> DeviceNetwork | None:
    """The network if its tensors stay on a GPU; None if crops reach it through memory."""
    if isinstance(network, DeviceNetwork) and network.device.type != "cpu":
        return network
    return None
