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
from ..backends.base import plan
from ..backends.cuda import Replay, record
from ..gathered import Gathering
from ..upload import Upload
from .base import MOST, distinct

BATCHES = (1, 2, 4, 8)
"""Frames of several streams that go through the network together."""
SIZES_KEPT = 16
"""Sizes of pictures whose scaling is kept: a folder of photos may have any number of them."""


def is_ours(path: Path) -> bool:
    """Whether a file is a detector of hrtrack's own kind; no other runs on torch."""
    return path.suffix == ".onnx" and CONFIG_KEY in read_onnx_metadata(path)


class TorchDetector:
    """Letterbox, network and choice of the best cells on one device; a CUDA graph per input size
    and batch.

    `upload` holds the frame last looked at for the estimator to take over. Float16 on CUDA,
    float32 on the CPU, where it is compared with OpenVINO. Any number of threads may call it, as
    long as all are on the same CUDA stream; frames that wait at a time are one batch.
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
        self._runners: dict[tuple[int, int, int], _Runner] = {}
        self._one_at_a_time = threading.Lock()
        self._gathering = Gathering(self._run)

    def __call__(self, image_rgb: NDArray[np.uint8]) -> Detections:
        """Boxes (N, 4) xyxy in image pixels and scores (N,), best first, of (H, W, 3) uint8."""
        return self.on_device(self.upload.keep(image_rgb))

    def on_device(self, image_HW3: Tensor) -> Detections:
        """The same for a frame that lies on the device."""
        rows, scale = self._gathering(image_HW3)
        boxes, scores = distinct(rows[:, :4], rows[:, 4], self.min_score, OWN_NMS_IOU, OWN_VOTE_IOU)
        height, width = image_HW3.shape[:2]
        return np.clip(boxes / scale, 0, (width, height, width, height), dtype=np.float32), scores

    @torch.inference_mode()
    def _run(self, images: list[Tensor]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """The likeliest cells (M, 5) in input pixels, and the scale to these, of each picture.

        Pictures of different sizes go together where their inputs have the same.
        """
        found: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        of_input: dict[tuple[int, int], list[int]] = {}
        for place, image in enumerate(images):
            hw = input_for((image.shape[0], image.shape[1]), self.input_hw)
            of_input.setdefault(hw, []).append(place)
        pad = self.upload.device.type == "cuda"
        # A recorded graph has one input and one output: its rows are read before the next runs.
        with self._one_at_a_time:
            for hw, places in of_input.items():
                for start, stop, size in plan(len(places), BATCHES, pad=pad):
                    runner = self._runner(hw, size)
                    batch = places[start:stop]
                    scales = [runner.load(row, images[place]) for row, place in enumerate(batch)]
                    rows = runner.run().cpu().numpy().copy()
                    found |= {place: (rows[row], scales[row]) for row, place in enumerate(batch)}
        return [found[place] for place in range(len(images))]

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

    def _runner(self, hw: tuple[int, int], size: int) -> _Runner:
        key = (*hw, size)
        if key not in self._runners:
            self._runners[key] = _Runner(self._detector, hw, size, self.upload.device)
        return self._runners[key]


class _Runner:
    """The graph at one input size and batch, with its input buffer on the device."""

    def __init__(
        self, detector: PersonDetector, hw: tuple[int, int], size: int, device: torch.device
    ) -> None:
        self._graph = DetectorGraph(detector, *hw).to(device)
        self._input = torch.full((size, *hw, 3), FILL, dtype=torch.uint8, device=device)
        self._letterboxes: dict[tuple[int, int], Letterbox] = {}
        self._fitted: list[tuple[int, int]] = [hw] * size
        self._rows = torch.empty(0, device=device)
        self._replay: Replay | None = None

    def load(self, row: int, frame_HW3: Tensor) -> NDArray[np.float32]:
        """Scales a frame into the input buffer's ``row``; returns the scale as x, y, x, y."""
        image_hw = frame_HW3.shape[0], frame_HW3.shape[1]
        letterbox = self._letterboxes.get(image_hw)
        if letterbox is None:
            if len(self._letterboxes) == SIZES_KEPT:
                self._letterboxes.clear()
            hw = (self._input.shape[1], self._input.shape[2])
            letterbox = self._letterboxes[image_hw] = Letterbox(image_hw, hw, frame_HW3.device)
        fitted = letterbox(frame_HW3)
        fit = fitted.shape[0], fitted.shape[1]
        if fit != self._fitted[row]:
            self._input[row].fill_(FILL)
            self._fitted[row] = fit
        self._input[row, : fit[0], : fit[1]] = fitted
        return letterbox.scale

    def run(self) -> Tensor:
        """The likeliest cells (B, M, 5) as box in input pixels and score, best first.

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
        best = scores.topk(min(MOST, scores.shape[1]), dim=1)
        found = boxes.gather(1, best.indices[..., None].expand(-1, -1, 4))
        return torch.cat([found, best.values[..., None]], dim=2)


class Letterbox:
    """Bilinear scaling of frames of one size into the top left of an input, as OpenCV's.

    Only the four pixels around each place are read, so a large frame is never converted whole.
    """

    def __init__(
        self, image_hw: tuple[int, int], input_hw: tuple[int, int], device: torch.device
    ) -> None:
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
