"""A detector training's networks and optimiser, on disk and in memory, and one step of it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...configs.detector_schema import DetectorTrainConfig
from ...errors import ModelError
from ...models.detector.network import (
    STRIDES,
    DetectorConfig,
    PersonDetector,
    config_text,
    load_detector,
)
from ...models.finite import require_sound_state
from ...models.precision import in_bf16
from ...trainer.cuda_graphs import CudaGraphCache
from ...trainer.optim import move_average, optimizer_of
from ...writable import atomic_write
from .distillation import DeviceTeacher, DistillationHeads, answer_loss
from .loss import AssignConfig, cells_on, detector_loss

EMA_WARMUP = 20
SHAPING = ("optimizer", "ema")
"""Settings of the fit that the saved optimiser and average are made for."""


@dataclass
class State:
    """Everything a resumed run needs."""

    net: PersonDetector
    mean: PersonDetector
    heads: DistillationHeads
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path, config: DetectorTrainConfig) -> None:
        """Writes everything, and with which settings it came about."""
        state = {
            "net": self.net.state_dict(),
            "config": config_text(self.net.config),
            "ema": self.mean.state_dict(),
            "pupil": self.heads.state_dict(),
            "opt": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.seconds,
            "settings": _settings(config),
            "precision": config.fit.precision,
        }
        with atomic_write(path) as part:
            torch.save(state, part)

    def require_sound(self, saved: Path) -> None:
        """`Diverged` where weights, norms' statistics or their averages are NaN or infinite."""
        network = self.net.state_dict() | self.heads.state_dict()
        require_sound_state(self.step, network, self.mean.state_dict(), saved)

    def follow(self, decay: float) -> None:
        """Counts a step and moves the average towards the network."""
        self.step += 1
        decay = min(decay, (self.step + 1) / (self.step + EMA_WARMUP))
        move_average(self.mean.state_dict(), self.net.state_dict(), decay)


class Saved:
    """What `State.save` wrote, to go on from with a configuration that fits it.

    Raises:
        ModelError: the file is damaged, no state of a training, or of other settings.
    """

    def __init__(self, path: Path, config: DetectorTrainConfig) -> None:
        self.path = path
        try:
            self._saved = torch.load(path, map_location="cpu", weights_only=True)
            of_model = self._saved["config"]
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"cannot resume from {path}: {reason}") from None
        except (KeyError, TypeError, EOFError, AttributeError, pickle.UnpicklingError):
            raise self._no_state() from None
        old = {"model": of_model, **self._saved.get("settings", {})}
        new = {"model": config_text(_network(config)), **_settings(config)}
        changed = [key for key in old if old[key] != new.get(key)]
        if changed:
            key = changed[0]
            name = key if key == "model" else f"fit.{key}"
            raise ModelError(
                f"{path} was made with other settings: {name} was {old[key]}, is {new.get(key)}; "
                "resume with the same configuration, or start in another folder"
            )

    @property
    def precision(self) -> str | None:
        """What the training computes in; None where older files do not say."""
        found = self._saved.get("precision")
        return None if found is None else str(found)

    def fill(self, state: State) -> None:
        """Puts everything into a training's state."""
        saved = self._saved
        try:
            state.net.load_state_dict(saved["net"])
            state.mean.load_state_dict(saved["ema"])
            state.heads.load_state_dict(saved["pupil"])
            state.optimizer.load_state_dict(saved["opt"])
            state.step, state.seconds = saved["step"], saved["elapsed"]
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"cannot resume from {self.path}: {reason}") from None
        except (KeyError, TypeError, AttributeError):
            raise self._no_state() from None

    def _no_state(self) -> ModelError:
        return ModelError(f"cannot resume from {self.path}: not the state of a training")


def _settings(config: DetectorTrainConfig) -> dict[str, object]:
    return {key: getattr(config.fit, key) for key in SHAPING}


def _network(config: DetectorTrainConfig) -> DetectorConfig:
    model = config.model
    return DetectorConfig(model.widths, model.blocks, model.pyramid)


def save_weights(mean: PersonDetector, path: Path) -> None:
    """The averaged network alone, as small as travels well: a start for another training."""
    small = {name: v.half() if v.ndim > 1 else v for name, v in mean.state_dict().items()}
    with atomic_write(path) as part:
        torch.save({"ema": small, "config": config_text(mean.config)}, part)


def fresh(config: DetectorTrainConfig, init: Path | None, device: torch.device) -> State:
    """A training's beginning; ``init`` is a checkpoint or one of our ONNX files."""
    net = PersonDetector(_network(config))
    if init is not None:
        load_detector(init, net)
    net = net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean = copy.deepcopy(net).eval()
    heads = DistillationHeads(config.model.pyramid).to(device)
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
    return State(net, mean, heads, optimizer)


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
                mimicry = state.heads.loss(pyramid, answer[0])
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
        norm = torch.nn.utils.clip_grad_norm_(state.net.parameters(), config.fit.clip)
        parts["gradient"] = norm.detach()
        return parts
