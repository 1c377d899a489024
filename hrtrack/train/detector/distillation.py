"""Learning from a finished detector: its features and its answers on our own canvases.

The teacher is a YOLOX ONNX file (`hrtrack.train.distillation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...configs.detector_schema import TeacherSection
from ...models.detector.network import STRIDES, boxes_from_sides
from ..distillation import open_teacher
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


class Teacher:
    """A YOLOX ONNX file: on ``device`` beside the student, or in a loader's process.

    Raises:
        ModelError: the file cannot be read or is of another kind; in a loader's process at the
            first canvases.
    """

    def __init__(
        self, path: Path, device: torch.device | None = None, *, exact: bool = False
    ) -> None:
        self._compute = open_teacher(path, (*HEADS, *FEATURES), device, exact=exact)

    def __call__(self, images_NHW3: Tensor) -> Answer:
        """What it says of uint8 RGB canvases."""
        height, width = images_NHW3.shape[1:3]
        found = self._compute(images_NHW3.flip(-1).permute(0, 3, 1, 2).float())
        heads, maps = found[: len(HEADS)], found[len(HEADS) :]
        raw = torch.cat([head.flatten(2) for head in heads], 2).transpose(1, 2)
        return answer_of(raw, maps, (height, width))


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
