"""TensorRT engines as files: which package made them, for what, and whether they fit here.

A plan is tied to the package, its version and (full TensorRT) the GPU. The plan file stays as
TensorRT wrote it; everything else stands in a JSON file beside it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ... import __version__
from ...errors import BackendError, ModelError
from ...writable import atomic_write

Package = Literal["tensorrt", "tensorrt-rtx"]
EnginePrecision = Literal["fp16", "fp32", "int8"]
MODULES: dict[Package, tuple[str, ...]] = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""Module names by package; the second is there when only libraries and bindings are installed."""

UNKNOWN_TO_RTX = ("9.", "10.")
"""Compute capabilities of data centres' GPUs that TensorRT-RTX makes no kernels for."""
TURING = "7.5"
NO_GPU = (
    "no NVIDIA GPU that PyTorch can use; choose --backend openvino, or install PyTorch with CUDA "
    "if a GPU is here"
)


@dataclass(frozen=True, slots=True)
class BatchRange:
    """The batch sizes an engine takes, and the one it is fastest at."""

    least: int = 1
    best: int = 8
    most: int = 64

    def __str__(self) -> str:
        return f"{self.least}:{self.best}:{self.most}"


def parse_batches(text: str) -> BatchRange:
    """``8`` is a fixed batch, ``1:8:64`` least, best and most; ModelError otherwise."""
    try:
        numbers = [int(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3 or not 1 <= numbers[0] <= numbers[1] <= numbers[2]:
        raise ModelError(f"'{text}' is no batch range; write one number or least:best:most, 1:8:64")
    return BatchRange(*numbers)


@dataclass(frozen=True, slots=True)
class Identity:
    """What an engine was made from, with and for.

    ``gpu`` is None for TensorRT-RTX plans, which finish compiling on the GPU they meet, and so
    is ``capability``, but for Turing. ``reference`` are PyTorch's float32 keypoints (N, K, 3) of
    the drawn crops of `hrtrack.models.agreement`; ``verified`` is False until the engine was
    compared with them.
    """

    package: Package
    version: str
    gpu: str | None
    capability: str | None
    precision: EnginePrecision
    batches: BatchRange
    weights: str
    source: str
    metadata: dict[str, str] = field(default_factory=dict)
    reference: list[list[list[float]]] = field(default_factory=list)
    portable: bool = False
    verified: bool = False


def load_package(package: Package) -> Any:
    """The package's Python module, or BackendError with the command that installs it."""
    for name in MODULES[package]:
        if importlib.util.find_spec(name) is None:
            continue
        try:
            return importlib.import_module(name)
        except (ImportError, OSError, RuntimeError):
            continue
    raise BackendError(f"{package} is not installed: pip install 'hrtrack[{package}]'")


def weights_hash(path: Path) -> str:
    """The first 16 hex digits of a model file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def sidecar(engine: Path) -> Path:
    """The JSON file beside an engine."""
    return engine.with_name(engine.name + ".json")


def write_engine(plan: bytes, identity: Identity, path: Path) -> None:
    """Writes plan and sidecar, the plan last, so that no engine is without its identity."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_identity(identity, path)
        with atomic_write(path) as part:
            part.write_bytes(plan)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}") from None


def write_identity(identity: Identity, engine: Path) -> None:
    """Writes the sidecar alone."""
    sidecar(engine).write_text(json.dumps(asdict(identity)) + "\n")


def read_identity(engine: Path) -> Identity:
    """The identity beside an engine; ModelError if it is missing or damaged."""
    if not engine.is_file():
        raise ModelError(f"no such engine: {engine}")
    beside = sidecar(engine)
    try:
        fields = json.loads(beside.read_text())
        fields["batches"] = BatchRange(**fields["batches"])
        return Identity(**fields)
    except OSError:
        raise ModelError(
            f"{engine} has no {beside.name} beside it, so nothing tells what it fits; "
            "build it with hrtrack export"
        ) from None
    except (ValueError, TypeError, KeyError):
        raise ModelError(f"{beside} is damaged; rebuild the engine with hrtrack export") from None


def require_fit(found: Identity, here: Identity, engine: Path) -> None:
    """BackendError naming the first difference between an engine and this machine.

    ``here`` is what this machine would build; an empty ``weights`` there means any weights.
    """
    differences = [
        (name, getattr(found, name), getattr(here, name))
        for name in ("package", "version", "capability", "gpu", "weights")
        if getattr(found, name) != getattr(here, name)
    ]
    for name, theirs, ours in differences:
        if name == "weights" and not ours:
            continue
        if name == "gpu" and found.capability == here.capability:
            continue  # one architecture under two names runs the same plan
        if found.portable and name in ("version", "capability", "gpu"):
            continue
        label = {"capability": "GPU architecture", "gpu": "GPU"}.get(name, name)
        raise BackendError(
            f"{engine} was built for {label} {theirs}, here it is {ours}; rebuild it: "
            f"{rebuild_command(found, here.package)}"
        )


def rebuild_command(found: Identity, package: Package) -> str:
    """The command that makes an engine's successor."""
    return (
        f"hrtrack export {found.source} --to {package} --precision {found.precision} "
        f"--batch {found.batches}"
    )


def cached_path(folder: Path, here: Identity) -> Path:
    """Where the engine of this identity lies below the user's cache folder.

    By the version of hrtrack, too: the decoder is part of the engine and may change with it.
    """
    where = (here.capability or "any").replace(".", "")
    key = "-".join(
        [
            Path(here.source).stem, here.weights, f"hrtrack{__version__}",
            here.package, here.version, f"sm{where}", here.precision,
            str(here.batches).replace(":", "_"),
        ]
    )  # fmt: skip
    return folder / "engines" / f"{key}.engine"


def bound_to(package: Package, capability: str) -> str | None:
    """The compute capability that a plan made for this GPU is tied to, if it is tied to one.

    TensorRT-RTX's plans run on all its GPUs from Ampere on; for Turing they are made apart.
    """
    return capability if package == "tensorrt" or capability == TURING else None


def this_gpu(device: int | None = None) -> tuple[str, str]:
    """Name and compute capability of a GPU; BackendError if PyTorch sees none.

    ``device`` is PyTorch's current one if None.

    Asked first, always: TensorRT itself crashes or says nothing useful without a GPU.
    """
    import torch

    if not torch.cuda.is_available():
        raise BackendError(NO_GPU)
    major, minor = torch.cuda.get_device_capability(device)
    return torch.cuda.get_device_name(device), f"{major}.{minor}"
