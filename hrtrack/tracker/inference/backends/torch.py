"""Pose networks on PyTorch: CUDA with float16 and CUDA graphs, or the CPU for comparisons."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from ....errors import BackendError
from ....models.checkpoints import load_hrnet
from ....models.pose.graph import PoseGraph
from .base import Arrays
from .cuda import cuda_device, in_device_batches, record

if TYPE_CHECKING:
    from ....skeleton import Skeleton
    from ...options import Precision


BATCHES = (1, 2, 4, 8, 16, 32, 64)
CPU_BATCHES = (1, 2, 4, 8)


class TorchNetwork:
    """A pose graph on one device; on CUDA one captured graph per batch size.

    At small batches about a hundred dependent convolutions cost more to launch than to compute,
    which a replayed CUDA graph does away with.
    """

    def __init__(
        self,
        path: Path,
        device: str | None,
        threads: int | None,
        precision: Precision,
        batches: tuple[int, ...] | None,
        why: str = "",
        skeleton: Skeleton | None = None,
    ) -> None:
        self.device = _device(device)
        cuda = self.device.type == "cuda"
        if precision == "auto":
            precision = "fp16" if cuda else "fp32"
        if precision not in (("fp32", "fp16") if cuda else ("fp32",)):
            raise BackendError(
                f"torch on {self.device} does not run {precision} here; use auto or fp32"
            )
        if threads is not None and not cuda:
            torch.set_num_threads(threads)
        network, self.info = load_hrnet(path, wanted=skeleton)
        if cuda:  # each norm would be a launch and a pass over memory of its own
            fold_norms(network)
        self.input_hw, self.skeleton = self.info.input_hw, self.info.skeleton
        self._name, self._precision, self._why = path.stem, precision, why
        graph = PoseGraph(network, self.info, half=precision == "fp16")
        graph.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._graph: nn.Module | None = graph.to(self.device)
        self._sizes = tuple(sorted(batches or (BATCHES if cuda else CPU_BATCHES)))
        self._captured: dict[int, Captured] = {}
        self._one_at_a_time = threading.Lock()

    @torch.inference_mode()
    def on_device(self, crops: Tensor, *, heatmaps: bool = False) -> dict[str, Tensor]:
        """The same as calling it, with tensors that stay on the network's device.

        On CUDA the work is queued on the current stream. Each result is new memory. Any number of
        threads may call it, as long as all are on the same stream.
        """
        # A recorded graph has one input and one output: the next may be queued only after the
        # copy of this one's results is. Threads share the stream, which keeps that order.
        with self._one_at_a_time:
            if self._graph is None:
                raise BackendError("this network is closed")
            return in_device_batches(
                crops, self._sizes, self._run, len(self.skeleton), heatmaps=heatmaps
            )

    def _run(self, crops: Tensor, size: int) -> tuple[Tensor, Tensor]:
        assert self._graph is not None
        if self.device.type == "cpu":
            return self._graph(crops)
        if size not in self._captured:
            shape = (size, *self.input_hw, 3)
            buffer = torch.zeros(shape, dtype=torch.uint8, device=self.device)
            self._captured[size] = Captured(self._graph, buffer)
        return self._captured[size](crops)

    def __call__(self, crops_NHW3: NDArray[np.uint8], *, heatmaps: bool = False) -> Arrays:
        """Crops (N, H, W, 3) -> ``keypoints`` (N, K, 3), on request ``heatmaps``; N may be 0."""
        crops = torch.from_numpy(np.ascontiguousarray(crops_NHW3)).to(self.device)
        found = self.on_device(crops, heatmaps=heatmaps)
        return {name: tensor.cpu().numpy() for name, tensor in found.items()}

    def runs_on(self) -> dict[str, str]:
        """The back end with its version, the device and the precision."""
        where = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return {
            "backend": f"PyTorch {torch.__version__}", "device": where,
            "precision": self._precision,
        }  # fmt: skip

    def describe(self) -> str:
        """One line for the log."""
        height, width = self.input_hw
        why = f" ({self._why})" if self._why else ""
        return (
            f"{self._name} {height}x{width} {self.skeleton.name} on "
            f"{', '.join(self.runs_on().values())}{why}"
        )

    def close(self) -> None:
        """Frees the network and its captured graphs; safe to call twice."""
        with self._one_at_a_time:
            self._captured.clear()
            self._graph = None


class Captured:
    """One batch size of a module, recorded once and replayed from then on."""

    def __init__(self, module: nn.Module, crops: Tensor) -> None:
        self._crops = crops
        self._results: tuple[Tensor, Tensor] = (crops, crops)

        def step(_: torch.cuda.Stream) -> None:
            self._results = module(crops)

        self._replay = record(step, crops.device)

    def __call__(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Results for up to as many crops as recorded, in memory that the next call reuses."""
        self._crops[: len(crops)].copy_(crops, non_blocking=True)
        self._replay()
        keypoints, heatmaps = self._results
        return keypoints[: len(crops)], heatmaps[: len(crops)]


def _device(device: str | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.lower() in ("cpu", "cpu:0"):
        return torch.device("cpu")
    return cuda_device(device)


def fold_norms(network: nn.Module) -> None:
    """Replaces, in place, each convolution and the batch norm that follows it by one convolution.

    For networks whose layers run in the order they were registered in, as `HRNet`'s do; in
    evaluation mode the outputs stay the same but for rounding.
    """
    for module in list(network.modules()):
        last: tuple[str, nn.Conv2d] | None = None
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and last is not None:
                setattr(module, last[0], fuse_conv_bn_eval(last[1].eval(), child.eval()))
                setattr(module, name, nn.Identity())
            last = (name, child) if isinstance(child, nn.Conv2d) else None
