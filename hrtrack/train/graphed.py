"""A training step's loss and gradients as one CUDA graph.

A small network is some thousands of launches a step, which can cost the processor more than they
cost the GPU. Recorded once, they are one launch. What a graph may not do is wait for the device or
change its shapes, so batches are all of one size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .loader import TENSORS, Batch

WARM = 3
"""Steps before the recording, in which libraries choose their kernels."""
AGREES, ALIKE = 0.02, 0.1
"""How far the recording's loss may be from the step's, and its gradients from the step's, as a
share; kernels that add in another order each time are allowed for."""


class GraphedStep:
    """Computes ``step`` for batches like the first; the parameters' gradients are then there.

    Gradients stay where they are from step to step: never set them to None.

    Args:
        step: loss and gradients of a batch whose gradients are None before; it may draw no random
            numbers on the host and never wait for the device.
        parameters: whose gradients it sets.
        batch: one of those to come, on a CUDA device.

    Raises:
        ModelError: the recording computes something else than ``step``.
    """

    def __init__(
        self, step: Callable[[Batch], Tensor], parameters: Sequence[nn.Parameter], batch: Batch
    ) -> None:
        self._static = replace(batch, **{name: getattr(batch, name).clone() for name in TENSORS})
        # What autocast keeps would be freed outside of the graph.
        caches = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)
        try:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM):
                    _forget(parameters)
                    expected = step(self._static)
            torch.cuda.current_stream().wait_stream(side)
            wanted = [p.grad for p in parameters if p.grad is not None]
            _forget(parameters)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._loss = step(self._static)
        finally:
            torch.set_autocast_cache_enabled(caches)
        self._graph.replay()
        told, found = float(expected), float(self._loss)
        if not abs(found - told) <= AGREES * abs(told):
            raise ModelError(f"a recorded step gives a loss of {found}, not {told}")
        given = [p.grad for p in parameters if p.grad is not None]
        off = _norm(torch._foreach_sub(given, wanted)) if len(given) == len(wanted) else math.inf
        if not float(off) <= ALIKE * float(_norm(wanted)):
            raise ModelError("a recorded step gives other gradients")

    def __call__(self, batch: Batch) -> Tensor:
        """The loss, which the next call overwrites."""
        for name in TENSORS:
            getattr(self._static, name).copy_(getattr(batch, name), non_blocking=True)
        self._graph.replay()
        return self._loss


def _forget(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.get_total_norm(gradients)
