"""One training step of the detector: loss and gradients, on a GPU as a recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...configs.person_fast_schema import DetectorTrainConfig
from ..graphed import Recordings
from ..precision import in_bf16
from .loss import AssignConfig, cells_on, detector_loss
from .state import State
from .teacher import DeviceTeacher, answer_loss


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
        state: State,
        device: torch.device,
        teacher: DeviceTeacher | None,
        recorded: bool,
        say: Callable[[str], object],
    ) -> None:
        self.config, self.state, self.device, self.teacher = config, state, device, teacher
        self.bf16 = in_bf16(config.fit.precision, device)
        weights = config.loss
        self._assign = AssignConfig(weights.cells, weights.score_power, weights.iou_power)
        self._run = Recordings([state.net, state.pupil], say, wanted=recorded)
        self._still = recorded or device.type == "cuda"

    def __call__(self, batch: Sequence[Tensor], taught: bool) -> dict[str, Tensor]:
        """Parts of the loss and the gradient's norm, on the device.

        ``batch``: images, boxes, kinds and, maybe, a teacher's answer.

        ``taught``: the teacher is still listened to.
        """
        return self._run(partial(self._gradients, taught), batch, taught)

    def _gradients(
        self, taught: bool, images: Tensor, boxes: Tensor, kinds: Tensor, *answer: Tensor
    ) -> dict[str, Tensor]:
        if taught and self.teacher is not None:
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
                mimicry = state.pupil.loss(pyramid, answer[0])
        weight = config.loss.box_weight
        loss, parts = detector_loss(
            logits, sides, boxes, kinds, centres, self._assign, weight, dense=self._still
        )
        parts.update(mimicry=mimicry.detach(), teacher_scores=nothing, teacher_boxes=nothing)
        if answer and config.teacher is not None:
            told = config.teacher
            scores, places = answer_loss(logits, sides, centres, answer[1], answer[2], told)
            loss = loss + told.features * mimicry + told.scores * scores + told.boxes * places
            parts.update(teacher_scores=scores.detach(), teacher_boxes=places.detach())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(state.net.parameters(), config.fit.clip)
        parts["gradient"] = norm.detach()
        return parts
