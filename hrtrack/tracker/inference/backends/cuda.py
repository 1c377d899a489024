"""What the torch and TensorRT back ends share: batches of tensors that stay on their device."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from ....errors import BackendError
from ....models.pose.decode import STRIDE
from ....models.runtimes.tensorrt import NO_GPU
from .base import plan

WARM_UP = 2
RECORDING = threading.Lock()
"""Beginning to record waits for the whole device, which would break another thread's recording."""
Run = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""Runs up to ``size`` crops; the results may lie in memory that the next call reuses."""
Replay = Callable[[], None]


def cuda_device(name: str | None) -> torch.device:
    """The GPU that ``cuda`` (or None) or ``cuda:N`` means, with its number.

    Raises:
        BackendError: it is no GPU, or there is none of that number.
    """
    try:
        chosen = torch.device((name or "cuda").lower())
    except RuntimeError:
        raise BackendError(f"torch has no device '{name}'; try cpu, cuda or cuda:1") from None
    if chosen.type != "cuda":
        raise BackendError(f"'{name}' is no NVIDIA GPU; give cuda or cuda:1, for torch also cpu")
    if not torch.cuda.is_available():
        raise BackendError(NO_GPU)
    index = torch.cuda.current_device() if chosen.index is None else chosen.index
    if index >= torch.cuda.device_count():
        raise BackendError(f"there is no '{name}'; {torch.cuda.device_count()} GPUs are here")
    return torch.device("cuda", index)


def in_device_batches(
    crops: Tensor,
    sizes: tuple[int, ...],
    run: Run,
    joints: int,
    *,
    heatmaps: bool,
) -> dict[str, Tensor]:
    """Cuts crops (N, H, W, 3) into prepared sizes and puts the results together in new memory."""
    parts: list[tuple[Tensor, Tensor | None]] = []
    for start, stop, size in plan(len(crops), sizes, pad=crops.device.type == "cuda"):
        keypoints, maps = run(crops[start:stop], size)
        parts.append((keypoints.clone(), maps.clone() if heatmaps else None))
    if not parts:
        height, width = crops.shape[1:3]
        none = torch.zeros((0, joints, height // STRIDE, width // STRIDE), device=crops.device)
        parts = [(torch.zeros((0, joints, 3), device=crops.device), none)]
    found = {"keypoints": _joined([keypoints for keypoints, _ in parts])}
    if heatmaps:
        found["heatmaps"] = _joined([maps for _, maps in parts if maps is not None])
    return found


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def record(step: Callable[[torch.cuda.Stream], object], device: torch.device) -> Replay:
    """Warms ``step`` up on a stream of its own, then records it as a CUDA graph.

    Returns the function that replays it on the current stream.
    """
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream), torch.inference_mode():
        for _ in range(WARM_UP):
            step(stream)
    stream.synchronize()
    # Other threads of the loop may allocate while this one records.
    with (
        RECORDING,
        torch.inference_mode(),
        torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
    ):
        step(stream)
    return graph.replay
