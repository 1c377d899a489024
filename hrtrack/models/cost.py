"""What a pose HRNet costs by arithmetic alone: multiplications and memory traffic of one crop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .hrnet import BasicBlock, Bottleneck, HRModule, HRNet


@dataclass(frozen=True, slots=True)
class Cost:
    """``macs`` multiply-accumulates and ``numbers`` read or written per crop; ``weights`` read
    once a batch.

    Traffic counts every convolution's input and output and every residual or exchange term,
    as if activations never stayed in a cache and norms and ReLUs cost nothing.
    """

    macs: int
    numbers: int
    weights: int

    def seconds(self, batch: int, macs_per_second: float, bytes_per_second: float) -> float:
        """The least time for a batch in float16: arithmetic or traffic, whichever is longer."""
        traffic = 2 * (self.numbers * batch + self.weights)
        return max(self.macs * batch / macs_per_second, traffic / bytes_per_second)


@torch.inference_mode()
def cost(network: HRNet, input_hw: tuple[int, int]) -> Cost:
    """Counts by running one blank crop on the meta device; takes no time and no memory."""
    macs = numbers = weights = 0

    def convolution(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal macs, numbers, weights
        assert isinstance(layer, nn.Conv2d)
        macs += output.numel() * layer.weight[0].numel()
        numbers += inputs[0].numel() + output.numel()
        weights += layer.weight.numel()

    def residual(_: nn.Module, __: tuple[Tensor], output: Tensor) -> None:
        nonlocal numbers
        numbers += output.numel()

    def exchange(module: nn.Module, _: object, outputs: list[Tensor]) -> None:
        nonlocal numbers
        assert isinstance(module, HRModule)
        terms = len(module.branches) - 1
        numbers += sum(terms * output.numel() for output in outputs)

    with torch.device("meta"):
        copy = HRNet(network.config).eval()
        image = torch.empty(1, 3, *input_hw)
    for layer in copy.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(convolution)
        elif isinstance(layer, BasicBlock | Bottleneck):
            layer.register_forward_hook(residual)
        elif isinstance(layer, HRModule):
            layer.register_forward_hook(exchange)
    copy(image)
    return Cost(macs, numbers, weights)
