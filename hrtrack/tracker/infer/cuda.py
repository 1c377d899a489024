"""What the torch and TensorRT back ends share: batches of tensors that stay on their device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...models.decode import STRIDE
from .batches import plan

WARM_UP = 2
Run = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""Runs up to ``size`` crops; the results may lie in memory that the next call reuses."""
Replay = Callable[[], None]


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
        torch.inference_mode(),
        torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
    ):
        step(stream)
    return graph.replay
