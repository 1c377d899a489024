"""What all back ends share: what they may ask of the caller, and prepared batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ....errors import BackendError
from ....models.runtimes.tensorrt import Identity
from ....skeleton import Skeleton

EngineBuilder = Callable[[Path, Path, Identity], None]
"""Builds a TensorRT engine: from a model file, to an engine file, to this identity."""
Converter = Callable[[Path, Path, Skeleton | None], None]
"""Makes ONNX of a checkpoint: from a file, to a file, whose folder may not be there yet, with the
joints that the user names."""
CHECKPOINTS = (".pth", ".pt", ".safetensors")
"""Suffixes of models that only torch runs."""


def require_torch(what: str, extra: str) -> None:
    """BackendError with the command to run where PyTorch is missing."""
    try:
        import torch  # noqa: F401
    except ImportError:
        raise BackendError(f"{what} needs PyTorch: pip install '{extra}'") from None


Arrays = dict[str, NDArray[np.float32]]


def plan(count: int, sizes: tuple[int, ...], *, pad: bool) -> Iterator[tuple[int, int, int]]:
    """Yields (start, stop, size): crops start to stop go into a batch of ``size``.

    With ``pad`` a rest goes into the smallest size that holds it (a GPU computes the padding
    for almost nothing); without, it is cut into smaller sizes as far as there are any.
    """
    sizes = tuple(sorted(sizes))
    start = 0
    while start < count:
        left = count - start
        fitting = [size for size in sizes if size <= left]
        holding = [size for size in sizes if size >= left]
        size = holding[0] if holding and (pad or not fitting) else fitting[-1]
        stop = min(start + size, count)
        yield start, stop, size
        start = stop


def in_batches(
    crops: NDArray[np.uint8],
    sizes: tuple[int, ...],
    infer: Callable[[list[NDArray[np.uint8]]], list[Arrays]],
    *,
    pad: bool,
) -> Arrays:
    """Has ``infer`` run all batches of the prepared sizes, and puts the results together."""
    spans = list(plan(len(crops), sizes, pad=pad))
    batches = []
    for start, stop, size in spans:
        batch = crops[start:stop]
        if len(batch) < size:
            filler = np.zeros((size - len(batch), *batch.shape[1:]), np.uint8)
            batch = np.concatenate([batch, filler])
        batches.append(batch)
    parts = [
        {name: array[: stop - start] for name, array in found.items()}
        for (start, stop, _), found in zip(spans, infer(batches), strict=True)
    ]
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
