"""A detector training's networks and optimiser, from where it begins or goes on."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch

from ...configs.person_fast_schema import DetectorTrainConfig
from ...errors import ModelError
from ...models.detector import (
    STRIDES,
    DetectorConfig,
    PersonDetector,
    config_text,
    load_detector,
)
from ...writable import whole
from ..optim import move_average, optimizer_of
from ..precision import in_bf16
from .teacher import Pupil

EMA_WARMUP = 20


@dataclass
class State:
    """Everything a resumed run needs."""

    net: PersonDetector
    mean: PersonDetector
    pupil: Pupil
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        state = {
            "net": self.net.state_dict(),
            "config": config_text(self.net.config),
            "ema": self.mean.state_dict(),
            "pupil": self.pupil.state_dict(),
            "opt": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.seconds,
        }
        with whole(path) as part:
            torch.save(state, part)

    def load(self, path: Path) -> None:
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            self.net.load_state_dict(saved["net"])
            self.mean.load_state_dict(saved["ema"])
            self.pupil.load_state_dict(saved["pupil"])
            self.optimizer.load_state_dict(saved["opt"])
            self.step, self.seconds = saved["step"], saved["elapsed"]
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"cannot resume from {path}: {reason}") from None
        except (KeyError, TypeError, EOFError, AttributeError, pickle.UnpicklingError):
            raise ModelError(f"cannot resume from {path}: not the state of a training") from None

    def follow(self, decay: float) -> None:
        """Counts a step and moves the average towards the network."""
        self.step += 1
        decay = min(decay, (self.step + 1) / (self.step + EMA_WARMUP))
        move_average(self.mean.state_dict(), self.net.state_dict(), decay)


def save_weights(mean: PersonDetector, path: Path) -> None:
    """The averaged network alone, as small as travels well: a start for another training."""
    small = {name: v.half() if v.ndim > 1 else v for name, v in mean.state_dict().items()}
    with whole(path) as part:
        torch.save({"ema": small, "config": config_text(mean.config)}, part)


def fresh(config: DetectorTrainConfig, init: Path | None, device: torch.device) -> State:
    """A training's beginning; ``init`` is a checkpoint or one of our ONNX files."""
    model = config.model
    net = PersonDetector(DetectorConfig(model.widths, model.blocks, model.pyramid))
    if init is not None:
        load_detector(init, net)
    net = net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean = copy.deepcopy(net).eval()
    pupil = Pupil(model.pyramid).to(device)
    learning = {f"net.{name}": p for name, p in net.named_parameters()}
    if config.teacher:
        learning |= {f"pupil.{name}": p for name, p in pupil.named_parameters()}
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
    return State(net, mean, pupil, optimizer)
