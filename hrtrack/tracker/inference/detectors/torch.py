"""Our own person detector on torch: on CUDA it looks at the frame that is there already."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ....models.detector.letterbox import FILL, OWN_NMS_IOU, OWN_VOTE_IOU, fitted_hw, input_for
from ....models.detector.network import (
    CONFIG_KEY,
    DetectorGraph,
    PersonDetector,
    load_detector,
    onnx_input_hw,
)
from ....models.info import read_onnx_metadata
from ....types import Detections
from ..backends.cuda import Replay, record
from ..upload import Upload
from .base import MOST, distinct


def is_ours(path: Path) -> bool:
    """Whether a file is a detector of hrtrack's own kind; no other runs on torch."""
    return path.suffix == ".onnx" and CONFIG_KEY in read_onnx_metadata(path)


class TorchDetector:
    """Letterbox, network and choice of the best cells on one device; a CUDA graph per input size.

    `upload` holds the frame last looked at for the estimator to take over. Float16 on CUDA,
    float32 on the CPU, where it is compared with OpenVINO. Any number of threads may call it, as
    long as all are on the same CUDA stream.
    """

    kind = "hrtrack"

    def __init__(self, path: Path, name: str, device: torch.device, min_score: float) -> None:
        self.name = name
        self.min_score = min_score
        self.upload = Upload(device)
        self.input_hw = onnx_input_hw(path)
        network = load_detector(path).eval().requires_grad_(False)
        network = network.half() if device.type == "cuda" else network
        self._detector = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._runners: dict[tuple[int, int], _Runner] = {}
        self._one_at_a_time = threading.Lock()

    def __call__(self, image_rgb: NDArray[np.uint8]) -> Detections:
        """Boxes (N, 4) xyxy in image pixels and scores (N,), best first, of (H, W, 3) uint8."""
        return self.on_device(self.upload.keep(image_rgb))

    @torch.inference_mode()
    def on_device(self, image_HW3: Tensor) -> Detections:
        """The same for a frame that lies on the device."""
        height, width = image_HW3.shape[:2]
        # A recorded graph has one input and one output: its rows are read before the next runs.
        with self._one_at_a_time:
            runner = self._runner((height, width))
            scale = runner.load(image_HW3)
            rows = runner.run().cpu().numpy().copy()
        boxes, scores = distinct(rows[:, :4], rows[:, 4], self.min_score, OWN_NMS_IOU, OWN_VOTE_IOU)
        return np.clip(boxes / scale, 0, (width, height, width, height), dtype=np.float32), scores

    def describe(self) -> str:
        """One line for the log."""
        device = self.upload.device
        where = "CPU, fp32"
        if device.type == "cuda":
            where = f"{torch.cuda.get_device_name(device)}, fp16"
        return f"{self.name} on PyTorch {torch.__version__}, {where}"

    def close(self) -> None:
        """Frees the captured graphs; safe to call twice."""
        with self._one_at_a_time:
            self._runners.clear()

    def _runner(self, image_hw: tuple[int, int]) -> _Runner:
        hw = input_for(image_hw, self.input_hw)
        if hw not in self._runners:
            self._runners[hw] = _Runner(self._detector, hw, self.upload.device)
        return self._runners[hw]


class _Runner:
    """The graph at one input size, with its input buffer on the device."""

    def __init__(self, detector: PersonDetector, hw: tuple[int, int], device: torch.device) -> None:
        self._graph = DetectorGraph(detector, *hw).to(device)
        self._input = torch.full((1, *hw, 3), FILL, dtype=torch.uint8, device=device)
        self._letterbox: Letterbox | None = None
        self._rows = torch.empty(0, device=device)
        self._replay: Replay | None = None

    def load(self, frame_HW3: Tensor) -> NDArray[np.float32]:
        """Scales the frame into the input buffer; returns the scale as x, y, x, y."""
        rows, columns = frame_HW3.shape[:2]
        if self._letterbox is None or self._letterbox.image_hw != (rows, columns):
            hw = (self._input.shape[1], self._input.shape[2])
            self._letterbox = Letterbox((rows, columns), hw, frame_HW3.device)
            self._input.fill_(FILL)
        fitted = self._letterbox(frame_HW3)
        self._input[0, : fitted.shape[0], : fitted.shape[1]] = fitted
        return self._letterbox.scale

    def run(self) -> Tensor:
        """The likeliest cells (M, 5) as box in input pixels and score, best first.

        The memory is the next call's too.
        """
        if self._input.device.type != "cuda":
            return self._cells()
        if self._replay is None:
            self._replay = record(self._step, self._input.device)
        self._replay()
        return self._rows

    def _step(self, _: torch.cuda.Stream) -> None:
        self._rows = self._cells()

    def _cells(self) -> Tensor:
        boxes, scores = self._graph(self._input)
        best = scores[0].topk(min(MOST, scores.shape[1]))
        return torch.cat([boxes[0][best.indices], best.values[:, None]], dim=1)


class Letterbox:
    """Bilinear scaling of frames of one size into the top left of an input, as OpenCV's.

    Only the four pixels around each place are read, so a large frame is never converted whole.
    """

    def __init__(
        self, image_hw: tuple[int, int], input_hw: tuple[int, int], device: torch.device
    ) -> None:
        self.image_hw = image_hw
        rows, columns = image_hw
        height, width = fitted_hw(image_hw, input_hw)
        x, y = width / columns, height / rows
        self.scale = np.array([x, y, x, y], np.float32)
        self._top, self._bottom, self._down = _neighbours(rows, height, device)
        self._left, self._right, self._along = _neighbours(columns, width, device)

    def __call__(self, frame_HW3: Tensor) -> Tensor:
        """A frame (H, W, 3) uint8 as (h, w, 3) uint8, the largest that fits the input."""

        def line(row: Tensor) -> Tensor:
            left = frame_HW3[row[:, None], self._left].float()
            return torch.lerp(left, frame_HW3[row[:, None], self._right].float(), self._along)

        pixels = torch.lerp(line(self._top), line(self._bottom), self._down[:, None])
        return pixels.add_(0.5).to(torch.uint8)


def _neighbours(count: int, fitted: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and after each of ``fitted`` places, and the share (n, 1) of the second."""
    at = (torch.arange(fitted, device=device) + 0.5) * (count / fitted) - 0.5
    at = at.clamp(0, count - 1)
    first = at.floor().long()
    return first, (first + 1).clamp(max=count - 1), (at - first)[:, None]
