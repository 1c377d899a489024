"""A training step's loss and gradients as one CUDA graph.

A small network is some thousands of launches a step, which can cost the processor more than they
cost the GPU. Recorded once, they are one launch. What a graph may not do is wait for the device or
change its shapes, so batches are all of one size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError

WARM = 3
"""Steps before the recording, in which libraries choose their kernels."""
AGREES, ALIKE = 0.02, 0.1
"""How far the recording's loss may be from the step's, and its gradients from the step's, as a
share; kernels that add in another order each time are allowed for."""


class GraphedStep:
    """Computes ``step`` for inputs like the first; the parameters' gradients are then there.

    Several recordings of the same parameters may take turns: each has gradients of its own, which a
    call gives to the parameters.

    Args:
        step: gradients and, by name, what else is of interest, ``loss`` among it; the gradients
            are None before. It draws no random numbers on the host and never waits for the
            device.
        parameters: whose gradients it sets.
        inputs: tensors of the sizes of those to come, on a CUDA device.
        pool: memory that recordings share (`torch.cuda.graph_pool_handle`).

    Raises:
        ModelError: the recording computes something else than ``step``.
    """

    def __init__(
        self,
        step: Callable[..., dict[str, Tensor]],
        parameters: Sequence[nn.Parameter],
        inputs: Sequence[Tensor],
        pool: Any = None,
    ) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        self._parameters = parameters
        # What autocast keeps would be freed outside of the graph.
        caches = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)
        try:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM):
                    _forget(parameters)
                    expected = step(*self._inputs)["loss"]
            torch.cuda.current_stream().wait_stream(side)
            wanted = [p.grad for p in parameters if p.grad is not None]
            _forget(parameters)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._found = step(*self._inputs)
        finally:
            torch.set_autocast_cache_enabled(caches)
        self._gradients = [p.grad for p in parameters]
        self._graph.replay()
        told, found = float(expected), float(self._found["loss"])
        if not abs(found - told) <= AGREES * abs(told):
            raise ModelError(f"a recorded step gives a loss of {found}, not {told}")
        given = [gradient for gradient in self._gradients if gradient is not None]
        off = _norm(torch._foreach_sub(given, wanted)) if len(given) == len(wanted) else math.inf
        if not float(off) <= ALIKE * float(_norm(wanted)):
            raise ModelError("a recorded step gives other gradients")

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """What ``step`` gives, in tensors that the next call overwrites."""
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given, non_blocking=True)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._found


class Recordings:
    """Steps of one training, recorded for every size of input when it first comes.

    Where the GPU will not, ``say`` gets a line and steps are computed as they are from then on.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], say: Callable[[str], object]) -> None:
        self.wanted = True
        self._parameters, self._say = parameters, say
        self._graphs: dict[tuple[Any, ...], GraphedStep] = {}
        self._pool: Any = None

    def __call__(
        self, step: Callable[..., dict[str, Tensor]], inputs: Sequence[Tensor], kind: Any = None
    ) -> dict[str, Tensor]:
        """What ``step``, a `GraphedStep`'s, gives for ``inputs``.

        ``kind``: what else its computation depends on.
        """
        key = (kind, *(tensor.shape for tensor in inputs))
        if self.wanted and key not in self._graphs:
            self._record(step, inputs, key)
        if not self.wanted:
            _forget(self._parameters)
            return step(*inputs)
        # The next replay overwrites what this one gives.
        return {name: value.clone() for name, value in self._graphs[key](*inputs).items()}

    def _record(
        self, step: Callable[..., dict[str, Tensor]], inputs: Sequence[Tensor], key: tuple[Any, ...]
    ) -> None:
        try:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            self._graphs[key] = GraphedStep(step, self._parameters, inputs, self._pool)
        except (RuntimeError, ModelError) as error:
            self._say(f"training without a CUDA graph: {str(error).splitlines()[0]}")
            self.wanted = False
            self._graphs.clear()


def _forget(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.get_total_norm(gradients)
