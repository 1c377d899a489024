"""A detector training's networks and optimiser, and the gradients of one step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...configs.detector_schema import DetectorTrainConfig
from ...models.detector.network import (
    STRIDES,
    DetectorConfig,
    PersonDetector,
    config_text,
    load_detector,
)
from ...models.precision import in_bf16
from ...trainer.cuda_graphs import CudaGraphCache
from ...trainer.optim import optimizer_of
from ...writable import atomic_write
from ..distillation import FeatureHeads
from .distillation import CHANNELS, Teacher, answer_loss
from .loss import AssignConfig, cells_on, detector_loss


@dataclass
class Learner:
    """What learns: the detector, and what is thrown away at the end."""

    net: PersonDetector
    heads: FeatureHeads
    optimizer: torch.optim.Optimizer


def _network(config: DetectorTrainConfig) -> DetectorConfig:
    model = config.model
    return DetectorConfig(model.widths, model.blocks, model.pyramid)


def save_weights(mean: PersonDetector, path: Path) -> None:
    """The averaged network alone, as small as travels well: a start for another training."""
    small = {name: v.half() if v.ndim > 1 else v for name, v in mean.state_dict().items()}
    with atomic_write(path) as part:
        torch.save({"ema": small, "config": config_text(mean.config)}, part)


def fresh(config: DetectorTrainConfig, init: Path | None, device: torch.device) -> Learner:
    """A training's beginning; ``init`` is a checkpoint or one of our ONNX files."""
    net = PersonDetector(_network(config))
    if init is not None:
        load_detector(init, net)
    net = net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    heads = FeatureHeads(config.model.pyramid, CHANNELS, len(STRIDES)).to(device)
    learning = {f"net.{name}": p for name, p in net.named_parameters()}
    if config.teacher:
        learning |= {f"heads.{name}": p for name, p in heads.named_parameters()}
    fit = config.fit
    ends = (
        f"net.heads.{level}.{part}." for level in range(len(STRIDES)) for part in ("score", "box")
    )
    edges = ("net.stem.", *ends)
    optimizer = optimizer_of(
        learning,
        fit.optimizer,
        fit.lr,
        fit.weight_decay,
        edges=edges,
        quick=in_bf16(fit.precision, device),
    )
    return Learner(net, heads, optimizer)


class Step:
    """Loss and clipped gradients of a batch, which the parameters then have.

    Args:
        teacher: answers beside the student; where there is none, a batch may bring its answer.
        recorded: every size of canvas is one CUDA graph; where the GPU will not, ``say`` gets a
            line and the training goes on without.
    """

    def __init__(
        self,
        config: DetectorTrainConfig,
        state: Learner,
        device: torch.device,
        teacher: Teacher | None,
        recorded: bool,
        say: Callable[[str], object],
    ) -> None:
        self.config, self.state, self.device, self.teacher = config, state, device, teacher
        self.bf16 = in_bf16(config.fit.precision, device)
        weights = config.loss
        self.assign = AssignConfig(weights.cells, weights.score_power, weights.iou_power)
        self._run = CudaGraphCache([state.net, state.heads], say, wanted=recorded)
        self._still = recorded or device.type == "cuda"

    def __call__(self, batch: Sequence[Tensor], distilled: bool) -> dict[str, Tensor]:
        """Parts of the loss and the gradient's norm, on the device.

        ``batch``: images, boxes, kinds and, maybe, a teacher's answer.

        ``distilled``: the teacher still takes part in the loss.
        """
        return self._run(partial(self.gradients, distilled), batch, distilled)

    def gradients(
        self, distilled: bool, images: Tensor, boxes: Tensor, kinds: Tensor, *answer: Tensor
    ) -> dict[str, Tensor]:
        """Adds one batch's gradients to the networks; the same values as calling the step."""
        if distilled and self.teacher is not None:
            answer = self.teacher(images)
        state, config = self.state, self.config
        amp: AbstractContextManager[Any] = nullcontext()
        if self.bf16:
            amp = torch.autocast(self.device.type, torch.bfloat16)
        centres, _ = cells_on(images.shape[1], images.shape[2], self.device)
        nothing = torch.zeros((), device=self.device)
        mimicry = nothing
        with amp:
            pyramid = state.net.features(images)
            logits, sides = state.net.predict(pyramid)
            if answer:
                cells = [level.shape[2] * level.shape[3] for level in pyramid]
                mimicry = state.heads.loss(state.heads(pyramid), answer[0].split(cells, 1))
        weight = config.loss.box_weight
        loss, parts = detector_loss(
            logits, sides, boxes, kinds, centres, self.assign, weight, dense=self._still
        )
        parts.update(mimicry=mimicry.detach(), teacher_scores=nothing, teacher_boxes=nothing)
        if answer and config.teacher is not None:
            weights = config.teacher
            score_loss, box_loss = answer_loss(
                logits, sides, centres, answer[1], answer[2], weights
            )
            loss = loss + weights.features * mimicry
            loss = loss + weights.scores * score_loss + weights.boxes * box_loss
            parts.update(teacher_scores=score_loss.detach(), teacher_boxes=box_loss.detach())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(state.net.parameters(), config.fit.clip or math.inf)
        parts["gradient"] = norm.detach()
        return parts
