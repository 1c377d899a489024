"""Pose networks as TensorRT or TensorRT-RTX engines: found, checked, and run on the GPU."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ....errors import BackendError
from ....models import info
from ....models.agreement import TOLERANCES, compare, drawn_crops
from ....models.runtimes import tensorrt as engines
from ....models.runtimes.tensorrt import BatchRange, Identity, Package
from ....models.zoo import cache_folder
from ....writable import atomic_write
from .base import Arrays
from .cuda import cuda_device, in_device_batches, record

if TYPE_CHECKING:
    from ...options import Precision
    from .base import EngineBuilder


BATCHES = (1, 2, 4, 8, 16, 32, 64)
INPUT, OUTPUTS = "crops", ("keypoints", "heatmaps")


def usable_package(device: str | None = None) -> Package | None:
    """The TensorRT package that is installed and knows this GPU, the full one first."""
    capability = engines.this_gpu(cuda_device(device).index)[1]
    for package in engines.MODULES:
        if package == "tensorrt-rtx" and capability.startswith(engines.UNKNOWN_TO_RTX):
            continue
        try:
            engines.load_package(package)
        except BackendError:
            continue
        return package
    return None


def open_engine(
    path: Path,
    package: Package,
    device: str | None,
    precision: Precision,
    batches: tuple[int, ...] | None,
    build_engine: EngineBuilder | None,
    why: str = "",
) -> EngineNetwork:
    """Opens an engine file, or the cached engine of a model, built first if need be.

    Raises:
        BackendError: no package, no GPU, an engine made for something else, or no engine and
            nobody to build one.
    """
    trt = engines.load_package(package)
    place = cuda_device(device)
    gpu, capability = engines.this_gpu(place.index)
    wanted = Identity(
        package=package,
        version=trt.__version__,
        gpu=gpu if package == "tensorrt" else None,
        capability=engines.bound_to(package, capability),
        precision=_precision(precision),
        batches=BatchRange(),
        weights="",
        source=str(path),
    )
    if path.suffix == ".engine":
        found = engines.read_identity(path)
        engines.require_fit(found, wanted, path)
        return compared_once(EngineNetwork(trt, path, found, place, batches, why), path)
    wanted = replace(wanted, weights=engines.weights_hash(path))
    engine = engines.cached_path(cache_folder(), wanted)
    if not engine.is_file():
        if build_engine is None:
            raise BackendError(
                f"no {package} engine of {path.name} for this GPU yet; make one with "
                f"hrtrack export {path} --to {package} and give the .engine file as the model"
            )
        with torch.cuda.device(place):
            build_engine(path, engine, wanted)
    found = engines.read_identity(engine)
    engines.require_fit(found, wanted, engine)
    return compared_once(EngineNetwork(trt, engine, found, place, batches, why), engine)


def compared_once(network: EngineNetwork, path: Path) -> EngineNetwork:
    """Compares an engine that was built without a GPU with PyTorch's answers, once."""
    it = network.identity
    if it.verified or not it.reference:
        return network
    answer = network(drawn_crops(network.input_hw, len(it.reference)))["keypoints"]
    reference = np.array(it.reference, np.float32)
    agreement = compare(reference, answer, network.skeleton, network.input_hw)
    if not agreement.within(TOLERANCES[it.precision]):
        network.close()
        raise BackendError(
            f"{path} differs from PyTorch by {agreement}; rebuild it in another precision: "
            f"{engines.rebuild_command(it, it.package)}"
        )
    network.identity = replace(it, verified=True)
    engines.write_identity(network.identity, path)
    return network


def _precision(precision: Precision) -> engines.EnginePrecision:
    if precision == "auto":
        return "fp16"
    if precision == "bf16":
        raise BackendError("engines are built in fp16, fp32 or int8, not in bf16")
    return precision


class EngineNetwork:
    """An engine with one execution context, buffers and CUDA graph per batch size."""

    def __init__(
        self,
        trt: Any,
        path: Path,
        identity: Identity,
        device: torch.device,
        batches: tuple[int, ...] | None,
        why: str,
    ) -> None:
        self.identity = identity
        described = info.from_metadata(identity.metadata, path)
        if described is None:
            raise BackendError(f"{path}: nothing beside it says what it predicts; rebuild it")
        self.info, self.skeleton, self.input_hw = described, described.skeleton, described.input_hw
        self.device, self._why, self._name = device, why, path.stem
        with torch.cuda.device(self.device):
            self._logger = trt.Logger(trt.Logger.ERROR)
            self._runtime = trt.Runtime(self._logger)
            self._runtime.engine_host_code_allowed = identity.portable
            self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
            if self._engine is None:
                raise BackendError(
                    f"{path} cannot be loaded here; rebuild it: "
                    f"{engines.rebuild_command(identity, identity.package)}"
                )
            kernels = path.with_suffix(".kernels")
            self._contexts: Contexts | None = Contexts(trt, self._engine, self.device, kernels)
        span = identity.batches
        sizes = {size for size in batches or BATCHES if span.least <= size <= span.most}
        self._sizes = tuple(sorted(sizes | {span.most}))
        self._captured: dict[int, CapturedEngine] = {}
        self._one_at_a_time = threading.Lock()

    def on_device(self, crops: Tensor, *, heatmaps: bool = False) -> dict[str, Tensor]:
        """The same as calling it, with tensors that stay on the GPU, on the current stream.

        Any number of threads may call it, as long as all are on the same stream.
        """
        # The contexts share their scratch memory and each has one input and one output: the next
        # may be queued only after the copy of this one's results is.
        with self._one_at_a_time:
            if self._engine is None:
                raise BackendError("this network is closed")
            return in_device_batches(
                crops, self._sizes, self._replay, len(self.skeleton), heatmaps=heatmaps
            )

    def _replay(self, crops: Tensor, size: int) -> tuple[Tensor, Tensor]:
        if size not in self._captured:
            shape = (size, *self.input_hw, 3)
            assert self._contexts is not None
            with torch.cuda.device(self.device):
                self._captured[size] = CapturedEngine(self._contexts.make(), shape, self.device)
                self._contexts.keep()
        return self._captured[size](crops)

    def __call__(self, crops_NHW3: NDArray[np.uint8], *, heatmaps: bool = False) -> Arrays:
        """Crops (N, H, W, 3) -> ``keypoints`` (N, K, 3), on request ``heatmaps``; N may be 0."""
        crops = torch.from_numpy(np.ascontiguousarray(crops_NHW3)).to(self.device)
        found = self.on_device(crops, heatmaps=heatmaps)
        return {name: tensor.cpu().numpy() for name, tensor in found.items()}

    def runs_on(self) -> dict[str, str]:
        """The back end with its version, the device and the precision."""
        return {
            "backend": f"{self.identity.package} {self.identity.version}",
            "device": torch.cuda.get_device_name(self.device),
            "precision": self.identity.precision,
        }

    def describe(self) -> str:
        """One line for the log."""
        height, width = self.input_hw
        why = f" ({self._why})" if self._why else ""
        doubt = "" if self.identity.verified else ", not yet compared with PyTorch"
        return (
            f"{self._name} {height}x{width} {self.skeleton.name} on "
            f"{', '.join(self.runs_on().values())}{doubt}{why}"
        )

    def close(self) -> None:
        """Frees engine, contexts and buffers; safe to call twice."""
        with self._one_at_a_time:
            self._captured.clear()
            self._contexts = self._engine = None


class CapturedEngine:
    """One batch size of an engine, recorded as a CUDA graph and replayed from then on."""

    def __init__(self, context: Any, shape: tuple[int, ...], device: torch.device) -> None:
        self._context = context
        self._crops = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._context.set_input_shape(INPUT, shape)
        missing = self._context.infer_shapes()
        if missing:
            raise BackendError(f"the engine leaves the shapes of {', '.join(missing)} open")
        results = []
        self._context.set_tensor_address(INPUT, self._crops.data_ptr())
        for name in OUTPUTS:
            size = tuple(self._context.get_tensor_shape(name))
            result = torch.empty(size, dtype=torch.float32, device=device)
            self._context.set_tensor_address(name, result.data_ptr())
            results.append(result)
        self._results = (results[0], results[1])
        self._replay = record(self._enqueue, device)

    def _enqueue(self, stream: torch.cuda.Stream) -> None:
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise BackendError("TensorRT could not run the engine")

    def __call__(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Results for up to as many crops as recorded, in memory that the next call reuses."""
        self._crops[: len(crops)].copy_(crops, non_blocking=True)
        self._replay()
        keypoints, heatmaps = self._results
        return keypoints[: len(crops)], heatmaps[: len(crops)]


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
            with atomic_write(self._kernels) as part:
                part.write_bytes(bytes(self._compiled.serialize()))
        except OSError as error:  # costs time at the next start, nothing else
            LOG.debug("cannot write %s: %s", self._kernels, error.strerror)
