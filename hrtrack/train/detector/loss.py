"""Which grid cells answer for which person, and the detector's loss.

Task-aligned assignment (Feng et al., "TOOD", ICCV 2021): a person is given to the cells that
already score and localise it best, and each such cell's score target is the quality of its box.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.detector.network import STRIDES, boxes_from_sides, cell_centres

REACH = 0.75 * STRIDES[0]
"""People narrower than a cell would hold no centre: they reach at least so far, in pixels."""


@dataclass(frozen=True, slots=True)
class AssignConfig:
    """Cells per person, and the exponents of score and IoU in the alignment measure."""

    cells: int = 10
    score_power: float = 0.5
    iou_power: float = 6.0


@lru_cache(maxsize=64)
def cells_on(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """`cell_centres` on a device, where they stay."""
    centres, strides = cell_centres(height, width)
    return centres.to(device), strides.to(device)


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and union of broadcastable xyxy boxes."""
    low = torch.maximum(a[..., :2], b[..., :2])
    high = torch.minimum(a[..., 2:], b[..., 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter
    return inter / union.clamp(min=1e-6), union


def giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU (Rezatofighi et al., CVPR 2019) of broadcastable xyxy boxes."""
    iou, union = _overlap(a, b)
    hull_low = torch.minimum(a[..., :2], b[..., :2])
    hull_high = torch.maximum(a[..., 2:], b[..., 2:])
    hull = (hull_high - hull_low).prod(-1).clamp(min=1e-6)
    return iou, iou - (hull - union) / hull


def _within(points_P2: Tensor, low_NG2: Tensor, high_NG2: Tensor) -> Tensor:
    """Which points lie inside which boxes (N, G, P)."""
    x, y = points_P2.unbind(-1)
    (left, top), (right, bottom) = low_NG2[..., None].unbind(-2), high_NG2[..., None].unbind(-2)
    return (x > left) & (x < right) & (y > top) & (y < bottom)


@torch.no_grad()
def assign(
    scores_NP: Tensor,
    boxes_NP4: Tensor,
    people_NG4: Tensor,
    valid_NG: Tensor,
    centres_P2: Tensor,
    config: AssignConfig,
    *,
    dense: bool,
) -> tuple[Tensor, Tensor]:
    """Person index (N, P; -1 = background) and score target (N, P) of every cell.

    ``dense`` measures every cell for every person, without asking the device how many are
    candidates; otherwise only those few are. The result is the same.
    """
    middle = (people_NG4[..., :2] + people_NG4[..., 2:]) / 2
    reach = ((people_NG4[..., 2:] - people_NG4[..., :2]) / 2).clamp(min=REACH)
    candidate_NGP = _within(centres_P2, middle - reach, middle + reach) & valid_NG[..., None]

    def fit(scores: Tensor, iou: Tensor) -> Tensor:
        return scores.pow(config.score_power) * iou.pow(config.iou_power) + 1e-12

    if dense:
        iou, _ = _overlap(boxes_NP4[:, None], people_NG4[:, :, None])
        iou_NGP = torch.where(candidate_NGP, iou.clamp(min=0), 0.0)
        measure = torch.where(candidate_NGP, fit(scores_NP[:, None], iou_NGP), 0.0)
    else:
        picture, person, cell = candidate_NGP.nonzero(as_tuple=True)
        iou, _ = _overlap(boxes_NP4[picture, cell], people_NG4[picture, person])
        iou_NGP = torch.zeros_like(candidate_NGP, dtype=iou.dtype)
        iou_NGP[picture, person, cell] = iou = iou.clamp(min=0)
        measure = torch.zeros_like(iou_NGP)
        measure[picture, person, cell] = fit(scores_NP[picture, cell], iou)

    top = measure.topk(min(config.cells, measure.shape[-1]), dim=-1)
    chosen = torch.zeros_like(candidate_NGP).scatter_(-1, top.indices, top.values > 0)
    # A cell claimed by several people goes to the one its box fits best.
    claimed_iou = torch.where(chosen, iou_NGP, -1.0)
    best_iou, owner = claimed_iou.max(1)
    owner = torch.where(best_iou >= 0, owner, -1)
    mine = chosen & (
        owner[:, None] == torch.arange(people_NG4.shape[1], device=owner.device)[:, None]
    )

    measure = measure * mine
    peak_measure = measure.amax(-1, keepdim=True).clamp(min=1e-12)
    peak_iou = (iou_NGP * mine).amax(-1, keepdim=True)
    target = (measure / peak_measure * peak_iou).amax(1)
    return owner, target


def detector_loss(
    logits_NP: Tensor,
    sides_NP4: Tensor,
    boxes_NG4: Tensor,
    kinds_NG: Tensor,
    centres_P2: Tensor,
    config: AssignConfig,
    box_weight: float = 2.5,
    *,
    dense: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Quality cross-entropy of the scores plus GIoU of the boxes.

    ``kinds_NG``: 1 a person, -1 a region to ignore, 0 padding. Background cells inside an ignored
    region are not punished for firing. ``dense`` is that of `assign`. Returns the loss and its
    parts for the log, which stay on the device: reading them waits for it.
    """
    predicted = boxes_from_sides(centres_P2, sides_NP4)
    people = kinds_NG == 1
    owner, target = assign(
        logits_NP.detach().sigmoid(),
        predicted.detach(),
        boxes_NG4,
        people,
        centres_P2,
        config,
        dense=dense,
    )
    foreground = owner >= 0

    inside_NGP = _within(centres_P2, boxes_NG4[..., :2], boxes_NG4[..., 2:])
    ignored = (inside_NGP & (kinds_NG == -1)[..., None]).any(1)
    counted = foreground | ~ignored

    total = target.sum().clamp(min=1.0)
    score_loss = F.binary_cross_entropy_with_logits(logits_NP, target, reduction="none")
    score_loss = (score_loss * counted).sum() / total

    matched = boxes_NG4.gather(1, owner.clamp(min=0)[..., None].expand(-1, -1, 4))
    iou, quality = giou(predicted, matched)
    box_loss = ((1 - quality) * target).sum() / total  # the background's target is 0
    loss = score_loss + box_weight * box_loss
    parts = {
        "loss": loss.detach(),
        "score_loss": score_loss.detach(),
        "box_loss": box_loss.detach(),
        "iou": (iou.detach() * foreground).sum() / foreground.sum().clamp(min=1),
    }
    return loss, parts
