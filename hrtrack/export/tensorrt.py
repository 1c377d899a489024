"""TensorRT and TensorRT-RTX engines from our ONNX, by one path for versions 10.13 to 11.

Precision lives in the ONNX graph and the network is strongly typed: the flags that used to
choose it are gone from TensorRT 11. torch2trt is an optional second route for TensorRT 10.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BackendError, ModelError
from ..models.info import PoseInfo
from ..models.pose.graph import PoseGraph
from ..models.pose.hrnet import HRNet
from ..models.runtimes.tensorrt import BatchRange, Package, load_package, this_gpu
from .onnx import INPUT, OPSET, OUTPUTS

OLDEST = (10, 13)
Step = Callable[[str, int, int], None]
"""Called as a build goes on: phase, step, steps of the phase."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How an engine is built.

    ``portable`` makes a plan that later TensorRT versions and other GPUs (Ampere or newer) of
    the kind take too, at some cost in speed; TensorRT-RTX plans are portable over GPUs anyway,
    but for Turing's: ``turing`` makes one for those.
    """

    batches: BatchRange = field(default_factory=BatchRange)
    timing_cache: Path | None = None
    portable: bool = False
    turing: bool = False
    optimisation_level: int = 3


def build_plan(
    model: bytes,
    input_hw: tuple[int, int],
    package: Package,
    options: BuildOptions,
    progress: Step | None = None,
) -> bytes:
    """Compiles an ONNX model of ours to a plan.

    Raises:
        BackendError: the package is missing or too old, or full TensorRT has no GPU.
        ModelError: TensorRT does not take the graph; the message has its first reason.
    """
    trt = load_package(package)
    if package == "tensorrt":
        this_gpu()
        require_version(trt)
    messages: list[str] = []
    logger = _logger(trt, messages)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise ModelError(f"{package} does not take this graph: {'; '.join(errors)}")
    _require_bindings(trt, network)
    config = builder.create_builder_config()
    config.builder_optimization_level = options.optimisation_level
    batches = options.batches
    profile = builder.create_optimization_profile()
    shapes = ((n, *input_hw, 3) for n in (batches.least, batches.best, batches.most))
    profile.set_shape(INPUT, *shapes)
    config.add_optimization_profile(profile)
    if options.portable and package == "tensorrt":
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if package == "tensorrt-rtx":
        # Recording a CUDA graph needs a runtime that allocates nothing of its own.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        if options.turing:
            config.num_compute_capabilities = 1
            config.set_compute_capability(trt.ComputeCapability.SM75, 0)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    timing_cache = options.timing_cache if package == "tensorrt" else None  # RTX measures nothing
    cache = _read_timing_cache(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        reason = messages[0] if messages else "it gave no reason"
        raise ModelError(f"{package} could not build the engine: {reason}")
    if cache is not None and timing_cache is not None:
        timing_cache.parent.mkdir(parents=True, exist_ok=True)
        timing_cache.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def _require_bindings(trt: Any, network: Any) -> None:
    """ModelError unless a graph takes uint8 crops and gives float32 keypoints and heatmaps."""
    inputs = {network.get_input(i).name: network.get_input(i) for i in range(network.num_inputs)}
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    expected = inputs.keys() == {INPUT} and tuple(o.name for o in outputs) == OUTPUTS
    if not (
        expected
        and inputs[INPUT].dtype == trt.DataType.UINT8
        and all(output.dtype == trt.DataType.FLOAT for output in outputs)
    ):
        found = ", ".join([*inputs, *(output.name for output in outputs)])
        raise ModelError(f"the graph has {found}; expected uint8 crops to keypoints and heatmaps")


def require_version(trt: Any) -> None:
    """BackendError if TensorRT is older than its strongly typed networks can be relied on."""
    version = tuple(int(part) for part in trt.__version__.split(".")[:2])
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise BackendError(f"TensorRT {trt.__version__} is too old; {oldest} or newer is needed")


def _read_timing_cache(config: Any, path: Path | None) -> Any:
    """Measured kernel times of earlier builds, which make this one shorter."""
    if path is None:
        return None
    known = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(known)
    if config.set_timing_cache(cache, ignore_mismatch=False):
        return cache
    fresh = config.create_timing_cache(b"")  # the file is from another GPU or version
    return fresh if config.set_timing_cache(fresh, ignore_mismatch=False) else None


def _logger(trt: Any, messages: list[str]) -> Any:
    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                messages.append(text.strip().splitlines()[0])

    return Logger()


def _monitor(trt: Any, report: Step) -> Any:
    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.sizes: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.sizes[phase] = steps
            report(phase, 0, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            report(phase, step + 1, self.sizes.get(phase, 0))
            return True

        def phase_finish(self, phase: str) -> None:
            report(phase, self.sizes.get(phase, 0), self.sizes.get(phase, 0))

    return Monitor()


NEWEST_MAJOR = 10
"""torch2trt's last release is of 2024 and does not import under TensorRT 11."""


def convert_by_torch2trt(network: HRNet, described: PoseInfo, batches: BatchRange) -> bytes:
    """A float16-trunk plan made by torch2trt 0.5, for those who have it.

    Written against its published signature and not yet run against the real thing.

    Raises:
        BackendError: torch2trt, TensorRT 10 or a GPU is missing; says which and what to do.
    """
    converter = require_torch2trt()
    graph = PoseGraph(network, described, half=True).cuda()
    crops = torch.zeros((batches.best, *described.input_hw, 3), dtype=torch.uint8, device="cuda")
    return convert_graph(converter, graph, crops, batches)


def convert_graph(converter: Any, graph: nn.Module, crops: Tensor, batches: BatchRange) -> bytes:
    """Calls torch2trt (0.5's signature) and returns the serialised plan."""
    shape = crops.shape[1:]
    module = converter.torch2trt(
        graph,
        [crops],
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        fp16_mode=True,
        min_shapes=[(batches.least, *shape)],
        opt_shapes=[(batches.best, *shape)],
        max_shapes=[(batches.most, *shape)],
        use_onnx=True,
        onnx_opset=OPSET,
    )
    return bytes(module.engine.serialize())


def require_torch2trt() -> Any:
    """The torch2trt module, or BackendError naming what is missing."""
    trt = load_package("tensorrt")
    if int(trt.__version__.split(".")[0]) > NEWEST_MAJOR:
        raise BackendError(
            f"torch2trt does not run with TensorRT {trt.__version__}; "
            "install tensorrt<11 or leave --via torch2trt out"
        )
    this_gpu()
    try:
        return importlib.import_module("torch2trt")
    except ImportError:
        raise BackendError(
            "torch2trt is not installed; it is on no registry: clone NVIDIA-AI-IOT/torch2trt and "
            "pip install --no-build-isolation it, or leave --via torch2trt out"
        ) from None
