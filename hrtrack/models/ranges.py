"""Measures what the convolutions of a network take in, for 8-bit arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import ModelError
from .eightbit import Ranges
from .graph import PoseGraph
from .hrnet import HRNet
from .info import PoseInfo

FEWEST = 32
"""Fewer crops do not show the range of a network's activations."""
BATCH = 8


@contextmanager
def watched(network: nn.Module, *, floats: Collection[str] = ()) -> Iterator[Ranges]:
    """Gathers the lowest and the highest value that reaches each convolution meanwhile.

    ``floats`` names the modules that are to stay in floats: those whose output is the answer.
    """
    ranges: Ranges = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            low, high = (float(end) for end in torch.aminmax(given[0].detach()))
            before = ranges.get(name, (low, high))
            ranges[name] = (min(low, before[0]), max(high, before[1]))

        return look

    hooks = [
        module.register_forward_pre_hook(watch(f"{name}.weight"))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and name not in floats
    ]
    try:
        yield ranges
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def pose_ranges(network: HRNet, described: PoseInfo, crops: NDArray[np.uint8]) -> Ranges:
    """The ranges of a pose network on crops (N, H, W, 3) uint8 RGB; the last layer has none.

    It runs where its parameters are.

    Raises:
        ModelError: too few crops, or of another size than the network's.
    """
    require_crops(crops, described)
    device = network.final_layer.weight.device
    graph = PoseGraph(network, described).to(device)
    with watched(graph.network, floats={"final_layer"}) as ranges:
        for start in range(0, len(crops), BATCH):
            graph(torch.from_numpy(crops[start : start + BATCH]).to(device))
    return ranges


def require_crops(crops: NDArray[np.uint8], described: PoseInfo) -> None:
    """ModelError unless there are enough calibration crops of the right size."""
    expected = (*described.input_hw, 3)
    if crops.shape[1:] != expected or crops.dtype != np.uint8:
        raise ModelError(
            f"calibration crops are {crops.dtype} {crops.shape[1:]}, expected uint8 {expected}"
        )
    if len(crops) < FEWEST:
        raise ModelError(
            f"{len(crops)} calibration crops are too few; at least {FEWEST} are needed"
        )
