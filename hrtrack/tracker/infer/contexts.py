"""Execution contexts of one TensorRT engine, one for each batch size."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from ...errors import BackendError
from ...writable import whole

LOG = logging.getLogger(__name__)


class Contexts:
    """Makes contexts that share one scratch memory: their replays run one after another.

    TensorRT would give each context the scratch of the largest batch. TensorRT-RTX finishes its
    kernels on the GPU it meets: at once, for a recorded graph would keep the slow ones that
    stand in meanwhile, and into a file beside the engine, so that the next start finds them.

    Args:
        trt: the package's module.
        engine: an ``ICudaEngine``.
        device: where it runs.
        kernels: TensorRT-RTX's file of finished kernels.
    """

    def __init__(self, trt: Any, engine: Any, device: torch.device, kernels: Path) -> None:
        self._engine, self._kernels = engine, kernels
        size = max(1, engine.device_memory_size_v2)
        self._scratch = torch.empty(size, dtype=torch.uint8, device=device)
        self._how = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._compiled: Any = None
        if hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):  # TensorRT-RTX
            self._how = self._finishing(trt, self._how)

    def _finishing(self, trt: Any, allocation: Any) -> Any:
        runtime_config = self._engine.create_runtime_config()
        runtime_config.set_execution_context_allocation_strategy(allocation)
        runtime_config.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        self._compiled = runtime_config.create_runtime_cache()
        if self._kernels.is_file() and not self._compiled.deserialize(self._kernels.read_bytes()):
            LOG.debug("%s is from another GPU or driver", self._kernels)
        runtime_config.set_runtime_cache(self._compiled)
        return runtime_config

    def make(self) -> Any:
        """A context with scratch memory; BackendError where there is no memory for it."""
        context = self._engine.create_execution_context(self._how)
        if context is None:
            raise BackendError("the GPU has no memory left for one more batch size of this engine")
        context.set_device_memory(self._scratch.data_ptr(), self._scratch.numel())
        return context

    def keep(self) -> None:
        """Writes the kernels that TensorRT-RTX has finished so far, where that is possible."""
        if self._compiled is None:
            return
        try:
            with whole(self._kernels) as part:
                part.write_bytes(bytes(self._compiled.serialize()))
        except OSError as error:  # costs time at the next start, nothing else
            LOG.debug("cannot write %s: %s", self._kernels, error.strerror)
