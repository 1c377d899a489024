"""Learning from a finished detector: its features and its answers on our own canvases.

The teacher is a YOLOX ONNX file (`hrtrack.train.distillation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ...configs.detector_schema import TeacherSection
from ...errors import ModelError
from ...models.detector.network import STRIDES, boxes_from_sides
from ...models.runtimes.onnx_torch import OnnxNetwork
from ...models.runtimes.openvino import openvino_core
from .loss import cells_on, giou

FEATURES = tuple(
    f"/head/{part}/act/Mul_output_0"
    for level in range(len(STRIDES))
    for part in (f"stems.{level}", f"reg_convs.{level}/reg_convs.{level}.1/pconv")
)
"""Two maps a level: what both towers of the head start from, and the last before the boxes."""
CHANNELS = 128


HEADS = tuple(f"/head/Concat{end}_output_0" for end in ("", "_1", "_2"))
"""Box, objectness and class scores of a level."""
Answer = tuple[Tensor, Tensor, Tensor]
"""Of one batch: features (N, P, C) float16, person scores (N, P), boxes (N, P, 4) in pixels."""


def answer_of(raw_NPA: Tensor, maps: Sequence[Tensor], canvas_hw: tuple[int, int]) -> Answer:
    """A YOLOX network's answer from what it gives for every cell and from its `FEATURES`."""
    flat = [m.flatten(2).transpose(1, 2) for m in maps]
    levels = [torch.cat(flat[2 * i : 2 * i + 2], 2) for i in range(len(STRIDES))]
    centres, strides = cells_on(*canvas_hw, raw_NPA.device)
    strides = strides[:, None]
    middle = raw_NPA[..., :2] * strides + centres - strides / 2
    half = raw_NPA[..., 2:4].exp() * strides / 2
    boxes = torch.cat([middle - half, middle + half], 2)
    return torch.cat(levels, 1).half(), raw_NPA[..., 4] * raw_NPA[..., 5], boxes


def teaches_beside(device: torch.device) -> bool:
    """Whether the teacher is quicker beside the student on its device than in a worker."""
    return device.type != "cpu"


class DeviceTeacher:
    """A YOLOX ONNX file computed by PyTorch, beside the student on a GPU."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self._dtype = torch.float32 if device.type == "cpu" else torch.float16
        self.network = OnnxNetwork(path, (*HEADS, *FEATURES)).to(device, self._dtype)

    def __call__(self, images_NHW3: Tensor) -> Answer:
        height, width = images_NHW3.shape[1:3]
        pictures = images_NHW3.flip(-1).permute(0, 3, 1, 2).to(self._dtype).contiguous()
        found = [tensor.float() for tensor in self.network(pictures)]
        heads, maps = found[: len(HEADS)], found[len(HEADS) :]
        raw = torch.cat([head.flatten(2) for head in heads], 2).transpose(1, 2)
        return answer_of(raw, maps, (height, width))


class Teacher:
    """A YOLOX ONNX file on OpenVINO, compiled once for every size of canvas; lives in a worker."""

    def __init__(self, path: Path, *, exact: bool = False) -> None:
        self.path, self._exact = path, exact
        self._requests: dict[tuple[int, ...], Any] = {}

    def __call__(self, images_NHW3: NDArray[np.uint8]) -> Answer:
        request = self._request(images_NHW3.shape)
        pictures = images_NHW3[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)
        request.infer({0: pictures})
        raw, *maps = (
            torch.from_numpy(request.get_output_tensor(i).data) for i in range(1 + len(FEATURES))
        )
        return answer_of(raw, maps, (images_NHW3.shape[1], images_NHW3.shape[2]))

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._requests:
            core = openvino_core()
            try:
                model = core.read_model(self.path)
                model.add_outputs(list(FEATURES))
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[-1]
                raise ModelError(
                    f"{self.path} cannot teach: expected a YOLOX ONNX file with its layers' "
                    f"names: {reason}"
                ) from None
            model.reshape([shape[0], 3, shape[1], shape[2]])
            options: dict[str, Any] = {
                "INFERENCE_NUM_THREADS": 1,
                "PERFORMANCE_HINT": "LATENCY",
            }
            if self._exact:  # where the CPU has bfloat16, that is the default
                options["INFERENCE_PRECISION_HINT"] = "f32"
            self._requests[shape] = core.compile_model(model, "CPU", options).create_infer_request()
        return self._requests[shape]


def answer_loss(
    logits_NP: Tensor,
    sides_NP4: Tensor,
    centres_P2: Tensor,
    scores_NP: Tensor,
    boxes_NP4: Tensor,
    config: TeacherSection,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy with the teacher's scores, and GIoU with its boxes where it is certain."""
    total = scores_NP.sum().clamp(min=1.0)
    score_loss = F.binary_cross_entropy_with_logits(logits_NP, scores_NP, reduction="sum") / total
    sure = scores_NP > config.sure
    weights = torch.where(sure, scores_NP, 0.0)
    predicted = boxes_from_sides(centres_P2, sides_NP4)
    # Whatever a teacher says of a cell that it is not sure of, infinity among it, is left out.
    wanted = torch.where(sure[..., None], boxes_NP4, predicted.detach())
    _, quality = giou(predicted, wanted)
    box_loss = ((1 - quality) * weights).sum() / weights.sum().clamp(min=1.0)
    return score_loss, box_loss
