"""A training step's loss and gradients as one CUDA graph.

A small network is some thousands of launches a step, which can cost the processor more than they
cost the GPU. Recorded once, they are one launch. What a graph may not do is wait for the device or
change its shapes, so there is one for every size of batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ModelError

WARM = 3
"""Steps before the recording, in which libraries choose their kernels."""
AGREES, ALIKE = 0.02, 0.1
"""How far the recording's loss may be from the step's, and its gradients from the step's, as a
share; kernels that add in another order each time are allowed for."""


class CapturedStep:
    """Computes ``step`` for inputs like the first; the parameters' gradients are then there.

    Several recordings of the same parameters may take turns: each has gradients of its own, which a
    call gives to the parameters.

    Args:
        step: gradients and, by name, what else is of interest, ``loss`` among it; the gradients
            are None before. It draws no random numbers on the host and never waits for the
            device.
        modules: whose parameters' gradients it sets. Norms are left as they were.
        inputs: tensors of the sizes of those to come, on a CUDA device.
        pool: memory that recordings share (`torch.cuda.graph_pool_handle`).

    Raises:
        ModelError: the recording computes something else than ``step``.
        RuntimeError: CUDA's own words on why ``step`` cannot be recorded.
    """

    def __init__(
        self,
        step: Callable[..., dict[str, Tensor]],
        modules: Sequence[nn.Module],
        inputs: Sequence[Tensor],
        pool: Any = None,
    ) -> None:
        self._parameters = [p for module in modules for p in module.parameters()]
        self._inputs = [tensor.clone() for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        kept = [(buffer, buffer.clone()) for buffer in _statistics(modules)]
        # What autocast keeps would be freed outside of the graph.
        caches = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)
        try:
            with torch.cuda.device(self._inputs[0].device):
                eager, wanted = self._rehearsed(step)
                self._record(step, pool)
                self._compare(eager, wanted)
        finally:
            torch.set_autocast_cache_enabled(caches)
            for buffer, before in kept:
                buffer.copy_(before)

    def _rehearsed(self, step: Callable[..., dict[str, Tensor]]) -> tuple[float, list[Tensor]]:
        """The loss and the gradients that the recording is to give."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM):
                _forget(self._parameters)
                expected = step(*self._inputs)["loss"]
        torch.cuda.current_stream().wait_stream(side)
        return float(expected), [p.grad for p in self._parameters if p.grad is not None]

    def _record(self, step: Callable[..., dict[str, Tensor]], pool: Any) -> None:
        _forget(self._parameters)
        # A recording that CUDA ends would leave its stream behind as the current one.
        with (
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"),
        ):
            self._found = step(*self._inputs)
        self._gradients = [p.grad for p in self._parameters]

    def _compare(self, eager: float, wanted: list[Tensor]) -> None:
        """ModelError unless a replay gives the loss and the gradients of the eager step."""
        # A recording goes wrong without a word: it repeats for ever what Python computed or chose
        # while it was made, and leaves out what other streams did. The training would go on and
        # learn something else.
        given = [gradient for gradient in self._gradients if gradient is not None]
        # So that a recording of nothing gives nothing.
        torch._foreach_zero_(given)
        self._found["loss"].fill_(math.nan)
        self._graph.replay()
        found = float(self._found["loss"])
        if not abs(found - eager) <= AGREES * abs(eager):
            raise ModelError(f"a recorded step gives a loss of {found}, not {eager}")
        off = _norm(torch._foreach_sub(given, wanted)) if len(given) == len(wanted) else math.inf
        if not float(off) <= ALIKE * float(_norm(wanted)):
            raise ModelError("a recorded step gives other gradients")

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """What ``step`` gives, in tensors that the next call overwrites."""
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given, non_blocking=True)
        with torch.cuda.device(self._inputs[0].device):
            self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._found


class CudaGraphCache:
    """Steps of one training, recorded for every size of input when it first comes.

    Where the GPU will not, ``say`` gets a line and steps are computed as they are from then on;
    where recordings are not ``wanted``, from the beginning.
    """

    def __init__(
        self, modules: Sequence[nn.Module], say: Callable[[str], object], *, wanted: bool = True
    ) -> None:
        self.wanted = wanted
        self._modules, self._say = modules, say
        self._parameters = [p for module in modules for p in module.parameters()]
        self._graphs: dict[tuple[Any, ...], CapturedStep] = {}
        self._pool: Any = None

    def __call__(
        self, step: Callable[..., dict[str, Tensor]], inputs: Sequence[Tensor], kind: Any = None
    ) -> dict[str, Tensor]:
        """What ``step``, a `CapturedStep`'s, gives for ``inputs``.

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
            self._graphs[key] = CapturedStep(step, self._modules, inputs, self._pool)
        except (RuntimeError, ModelError) as error:
            # The end of a recording fails, too, where its middle has.
            reason = str(error.__context__ or error).splitlines()[0]
            self._say(f"training without a CUDA graph: {reason}")
            self.wanted = False
            self._graphs.clear()


def _forget(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def _statistics(modules: Sequence[nn.Module]) -> list[Tensor]:
    """What batch norms remember of the batches they saw."""
    return [
        buffer
        for module in modules
        for part in module.modules()
        if isinstance(part, _BatchNorm)
        for buffer in part.buffers()
    ]


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.get_total_norm(gradients)
