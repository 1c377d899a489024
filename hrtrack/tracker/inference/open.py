"""Opens networks, detectors and estimators by name, back end and device.

A back end's library is loaded only when that back end is chosen.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from ...errors import BackendError
from ...models.info import KEY, read_onnx_metadata, with_skeleton
from ...models.network import Network, PoseNetwork, on_gpu
from ...models.runtimes.tensorrt import Package
from ...models.zoo import converted_path, resolve
from ...skeleton import Skeleton, open_skeleton
from ..options import Backend, Precision, TrackerOptions
from ..stopwatch import Stopwatch
from .backends.base import CHECKPOINTS, Converter, EngineBuilder, require_torch
from .detectors.base import MIN_SCORE, Detector, DeviceDetector, WholePicture
from .detectors.openvino import OpenVinoDetector
from .estimate import Estimator

if TYPE_CHECKING:
    import torch


def open_detector(
    name_or_path: str,
    threads: int | None = None,
    min_score: float = MIN_SCORE,
    device: torch.device | None = None,
    *,
    eight_bits: bool = True,
) -> Detector:
    """Opens a bundled, downloaded or own ONNX person detector, or ``whole``, which is none.

    It runs on OpenVINO's CPU plug-in, or, if it is of our own kind, on the CUDA ``device`` that
    the pose network is on. ``eight_bits``: compute so on a CPU if the file allows it.

    Raises:
        ModelError: unknown name, missing or unreadable file, or a graph of another kind.
        BackendError: OpenVINO is not installed.
    """
    if name_or_path == WholePicture.name:
        return WholePicture()
    path, name, why = resolve(name_or_path, task="detector"), Path(name_or_path).stem, ""
    if device is not None and device.type == "cuda":
        from .detectors.torch import TorchDetector, is_ours

        if is_ours(path):
            return TorchDetector(path, name, device, min_score)
        why = "only hrtrack's own detector runs on the GPU"
    return OpenVinoDetector(path, name, threads, min_score, why, eight_bits)


def open_pose(options: TrackerOptions) -> PoseNetwork:
    """`open_network` for the options of a tracker, which also raises a fault of the skeleton."""
    return open_network(
        options.model,
        backend=options.backend,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        build_engine=options.build_engine,
        skeleton=None if options.skeleton is None else open_skeleton(options.skeleton),
        convert=options.convert,
    )


def open_network(
    model: str | Path,
    *,
    backend: Backend = "auto",
    device: str | None = None,
    threads: int | None = None,
    precision: Precision = "auto",
    batches: tuple[int, ...] | None = None,
    build_engine: EngineBuilder | None = None,
    skeleton: Skeleton | None = None,
    convert: Converter | None = None,
) -> PoseNetwork:
    """Loads a pose model for inference.

    Args:
        model: a name of `hrtrack models`, or a file: our ONNX, a heatmap or SimCC ONNX of
            someone else (on OpenVINO), OpenVINO IR (``.xml``), a checkpoint (torch only), a
            TensorRT engine (``.engine``).
        backend: ``auto`` takes TensorRT if it can run here, else torch on a GPU, else OpenVINO.
        device: the back end's name of the device, ``CPU`` or ``cuda:1``; its own choice if None.
        threads: CPU threads; all cores if None.
        precision: of the trunk; the decoder is always float32. ``auto`` is the fastest the
            device and the file have: 8 bits on x86-64 CPUs where the file holds activation ranges.
        batches: batch sizes to prepare; the back end's own if None.
        build_engine: makes the TensorRT engine if the cache has none; without one a missing
            engine is an error that names the command.
        skeleton: the model's joints, if it does not say them or says them wrongly.
        convert: makes ONNX of a checkpoint at its first use, for later ones and for back ends that
            do not read checkpoints; without one, what was converted before is used, else torch.

    Raises:
        BackendError: the back end is unknown, or its package or hardware is missing.
        ModelError: the file is missing, damaged or no pose model.
    """
    known = get_args(Backend)
    if backend not in known:
        raise BackendError(f"unknown back end '{backend}'; choose one of {', '.join(known)}")
    if backend == "openvino" and device is not None and device.lower().startswith("cuda"):
        raise BackendError(f"OpenVINO does not run on {device}; give --backend torch or tensorrt")
    path = resolve(model, task="pose")
    if path.suffix in CHECKPOINTS and backend in ("auto", "openvino"):
        path = _as_onnx(path, convert, skeleton)
    chosen, why = (backend, "") if backend != "auto" else choose_backend(path, device)
    if chosen == "openvino":
        from .backends.openvino import OpenVinoNetwork

        return OpenVinoNetwork(path, device or "CPU", threads, precision, batches, why, skeleton)
    if chosen == "torch":
        require_torch("the torch back end", "hrtrack[train]")
        from .backends.torch import TorchNetwork

        return TorchNetwork(path, device, threads, precision, batches, why, skeleton)
    package: Package = "tensorrt-rtx" if chosen == "tensorrt-rtx" else "tensorrt"
    require_torch(f"the {package} back end", f"hrtrack[{package}]")
    from .backends.tensorrt import open_engine

    engine = open_engine(path, package, device, precision, batches, build_engine, why)
    engine.info = with_skeleton(engine.info, skeleton, path)
    engine.skeleton = engine.info.skeleton
    return engine


def _as_onnx(checkpoint: Path, convert: Converter | None, skeleton: Skeleton | None) -> Path:
    """The ONNX file that was or is made of a checkpoint; the checkpoint where nobody makes one."""
    converted = converted_path(checkpoint, skeleton)
    if converted.is_file():
        return converted
    if convert is None:
        return checkpoint
    require_torch(
        f"{checkpoint.name} is a checkpoint; its first use, which converts it,", "hrtrack[train]"
    )
    convert(checkpoint, converted, skeleton)
    return converted


def choose_backend(path: Path, device: str | None) -> tuple[Backend, str]:
    """What ``auto`` takes for a model here, and the reason in a few words."""
    if path.suffix == ".engine":
        return "tensorrt", "the model is a TensorRT engine"
    if path.suffix in CHECKPOINTS:
        return "torch", "the model is a checkpoint"
    if path.suffix == ".xml" or (device is not None and not device.lower().startswith("cuda")):
        return "openvino", "the model or device is OpenVINO's"
    if path.suffix == ".onnx" and not is_ours(path):
        if device is not None:
            raise BackendError(
                f"{path.name} is another project's network, which runs on OpenVINO only, not on "
                f"{device}; leave the device out"
            )
        return "openvino", "another project's network runs on OpenVINO only"
    if device is not None:
        require_torch(f"the device {device}", "hrtrack[train]")
    elif not nvidia_driver_present():
        return "openvino", "no NVIDIA GPU here"
    try:
        import torch
    except ImportError:
        return "openvino", "an NVIDIA GPU is here but PyTorch is not installed"
    if not torch.cuda.is_available():
        if device is not None:  # whose back end says what is missing
            return "torch", ""
        return "openvino", "the installed PyTorch cannot use this GPU"
    from .backends.tensorrt import usable_package

    package = usable_package(device)
    if package is not None:
        return package, f"a GPU and {package} are here"
    return "torch", "a GPU is here but no TensorRT that knows it"


def is_ours(path: Path) -> bool:
    """Whether an ONNX file of a pose network is hrtrack's own, which every back end runs."""
    metadata = read_onnx_metadata(path)
    return KEY in metadata or "config" in metadata


def nvidia_driver_present() -> bool:
    """Whether looking for a GPU is worth the seconds that importing PyTorch takes."""
    return os.name == "nt" or Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def open_estimator(
    network: Network,
    joints: int,
    stopwatch: Stopwatch,
    *,
    keep_heatmaps: bool = False,
    detector: Detector | None = None,
) -> Estimator:
    """The estimator that keeps crops where the network is: on its GPU, or in memory.

    A ``detector`` on the same GPU shares the frames that it has uploaded.
    """
    there = on_gpu(network)
    if there is None:
        return Estimator(network, joints, stopwatch, keep_heatmaps=keep_heatmaps)
    from .estimate_gpu import GpuEstimator

    return GpuEstimator(
        there,
        joints,
        stopwatch,
        keep_heatmaps=keep_heatmaps,
        upload=detector.upload if isinstance(detector, DeviceDetector) else None,
    )
