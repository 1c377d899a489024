"""Opens a pose model on a back end; each back end's library is loaded only when chosen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, get_args

from ...errors import BackendError
from ...models.engine import Identity, Package
from ...models.info import PoseInfo
from ...models.network import Network
from ...models.zoo import resolve
from ...skeleton import Skeleton

Backend = Literal["auto", "openvino", "torch", "tensorrt", "tensorrt-rtx"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
EngineBuilder = Callable[[Path, Path, Identity], None]
"""Builds a TensorRT engine: from a model file, to an engine file, to this identity."""
CHECKPOINTS = (".pth", ".pt", ".safetensors")
"""Suffixes of models that only torch runs."""


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


def open_network(
    model: str | Path,
    *,
    backend: Backend = "auto",
    device: str | None = None,
    threads: int | None = None,
    precision: Precision = "auto",
    batches: tuple[int, ...] | None = None,
    build_engine: EngineBuilder | None = None,
) -> PoseNetwork:
    """Loads a pose model for inference.

    Args:
        model: a name of `hrtrack models`, or a file: our ONNX, a heatmap ONNX of someone else,
            OpenVINO IR (``.xml``), a checkpoint (torch only), a TensorRT engine (``.engine``).
        backend: ``auto`` takes TensorRT if it can run here, else torch on a GPU, else OpenVINO.
        device: the back end's name of the device, ``CPU`` or ``cuda:1``; its own choice if None.
        threads: CPU threads; all cores if None.
        precision: of the trunk; the decoder is always float32. ``auto`` is the fastest the
            device and the file have: 8 bits on x86-64 CPUs where the file holds activation ranges.
        batches: batch sizes to prepare; the back end's own if None.
        build_engine: makes the TensorRT engine if the cache has none; without one a missing
            engine is an error that names the command.

    Raises:
        BackendError: the back end is unknown, or its package or hardware is missing.
        ModelError: the file is missing, damaged or no pose model.
    """
    known = get_args(Backend)
    if backend not in known:
        raise BackendError(f"unknown back end '{backend}'; known are {', '.join(known)}")
    if backend == "openvino" and device is not None and device.lower().startswith("cuda"):
        raise BackendError(f"OpenVINO does not run on {device}; give --backend torch or tensorrt")
    path = resolve(model, task="pose")
    chosen, why = (backend, "") if backend != "auto" else choose_backend(path, device)
    if chosen == "openvino":
        from .openvino import OpenVinoNetwork

        return OpenVinoNetwork(path, device or "CPU", threads, precision, batches, why)
    if chosen == "torch":
        require_torch("the torch back end", "hrtrack[train]")
        from .torch import TorchNetwork

        return TorchNetwork(path, device, threads, precision, batches, why)
    package: Package = "tensorrt-rtx" if chosen == "tensorrt-rtx" else "tensorrt"
    require_torch(f"the {package} back end", f"hrtrack[{package}]")
    from .tensorrt import open_engine

    return open_engine(path, package, device, precision, batches, build_engine, why)


def choose_backend(path: Path, device: str | None) -> tuple[Backend, str]:
    """What ``auto`` takes for a model here, and the reason in a few words."""
    if path.suffix == ".engine":
        return "tensorrt", "the model is a TensorRT engine"
    if path.suffix in CHECKPOINTS:
        return "torch", "the model is a checkpoint"
    if path.suffix == ".xml" or (device is not None and not device.lower().startswith("cuda")):
        return "openvino", "the model or device is OpenVINO's"
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
    from .tensorrt import usable_package

    package = usable_package(device)
    if package is not None:
        return package, f"a GPU and {package} are here"
    return "torch", "a GPU is here but no TensorRT that knows it"


def nvidia_driver_present() -> bool:
    """Whether looking for a GPU is worth the seconds that importing PyTorch takes."""
    return os.name == "nt" or Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def require_torch(what: str, extra: str) -> None:
    """BackendError with the command to run where PyTorch is missing."""
    try:
        import torch  # noqa: F401
    except ImportError:
        raise BackendError(f"{what} needs PyTorch: pip install '{extra}'") from None
