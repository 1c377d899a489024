"""Trains the person detector."""

from __future__ import annotations

import copy
import csv
import math
import pickle
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from ...configs.person_fast_schema import (
    DetectorTrainConfig,
    FitSection,
)
from ...errors import ModelError
from ...models.detector import (
    STRIDES,
    DetectorConfig,
    PersonDetector,
    cell_centres,
    config_text,
    load_detector,
)
from ...writable import make_folder, whole
from ..memory import keep_freed_memory
from ..optim import move_average, optimizer_of
from ..parallel import choose_device
from ..precision import in_bf16
from ..workers import worker_context
from .batches import Tensors, batches
from .loss import AssignConfig, detector_loss
from .photos import PhotoStore, build_store
from .teacher import Answer, DeviceTeacher, Pupil, answer_loss, teaches_beside

LAST_LR_SHARE = 0.02
EMA_WARMUP = 20


@dataclass
class _State:
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


def train_detector(
    config: DetectorTrainConfig,
    output: Path,
    *,
    init: Path | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> PersonDetector:
    """Trains into ``output`` (last.pt, log.csv, then final.pt and weights.pt).

    Returns the averaged network, which weights.pt holds alone and in float16.

    A run that finds its ``last.pt`` there goes on from it; a finished one is read back.
    ``init`` is a checkpoint or one of our ONNX files to start from; ``device`` is ``auto`` (CUDA
    where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        BackendError: a device was asked for that is not there.
        DataError: annotations or photos cannot be read.
        ModelError: ``init`` or the checkpoint to resume does not fit.
    """
    fit = config.fit
    make_folder(output)
    torch.manual_seed(fit.seed)
    root, cache = Path(config.data.root), output / config.data.cache
    build_store(config.data.sets, root, cache, quiet=quiet)
    store = PhotoStore(cache, config.data.trust, [part.repeat for part in config.data.sets])

    place = choose_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    state = _fresh(config, init, place)
    last, final = output / "last.pt", output / "final.pt"
    for saved in (last, final):
        if saved.is_file():
            state.load(saved)
            break

    done = worker_context().Value("d", 0.0)
    beside = teaches_beside(place)
    on_gpu = place.type == "cuda"
    loader = batches(store, config, state.step, done, teach=not beside, pin=on_gpu)
    teacher = None
    if config.teacher is not None and beside:
        teacher = DeviceTeacher(Path(config.teacher.model), place)
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    log = _Log(output / "log.csv", fit.log_steps)
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(config.name, total=1.0)
        started, kept, before = time.monotonic(), time.monotonic(), state.seconds
        for batch, answer in loader:
            state.seconds = before + time.monotonic() - started
            done.value = _share_done(fit, state)
            if done.value >= 1:
                break
            images, boxes, kinds = (part.to(place, non_blocking=True) for part in batch)
            if teacher is not None and config.teacher and done.value < config.teacher.until:
                answer = teacher(images)
            parts = _step(config, state, place, (images, boxes, kinds), answer, done.value)
            log.add(state.step, done.value, len(batch[0]), parts)
            shown = f"{config.name} step {state.step} {log.loss}"
            progress.update(task, completed=done.value, description=shown)
            if time.monotonic() - kept > fit.save_minutes * 60:
                state.save(last)
                kept = time.monotonic()
        progress.update(task, completed=1.0)
    state.save(final)
    _save_weights(state.mean, output / "weights.pt")
    last.unlink(missing_ok=True)
    return state.mean


def _save_weights(mean: PersonDetector, path: Path) -> None:
    """The averaged network alone, as small as travels well: a start for another training."""
    small = {name: v.half() if v.ndim > 1 else v for name, v in mean.state_dict().items()}
    with whole(path) as part:
        torch.save({"ema": small, "config": config_text(mean.config)}, part)


def _fresh(config: DetectorTrainConfig, init: Path | None, device: torch.device) -> _State:
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
    return _State(net, mean, pupil, optimizer)


def _share_done(fit: FitSection, state: _State) -> float:
    if fit.steps is not None:
        return min(1.0, state.step / fit.steps)
    assert fit.minutes is not None
    return min(1.0, state.seconds / (fit.minutes * 60))


def learning_rate(fit: FitSection, step: int, done: float) -> float:
    """Linear warm-up over steps, cosine over the share of the training that is done."""
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    warmup = min(1.0, (step + 1) / fit.warmup_steps)
    return fit.lr * warmup * (LAST_LR_SHARE + (1 - LAST_LR_SHARE) * cosine)


def _step(
    config: DetectorTrainConfig,
    state: _State,
    device: torch.device,
    batch: Tensors,
    answer: Answer | None,
    done: float,
) -> dict[str, Tensor]:
    fit, loss_config = config.fit, config.loss
    images, boxes, kinds = batch
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(fit, state.step, done)
    amp: AbstractContextManager[Any] = nullcontext()
    if in_bf16(fit.precision, device):
        amp = torch.autocast(device.type, torch.bfloat16)
    centres, strides = (part.to(device) for part in cell_centres(images.shape[1], images.shape[2]))
    with amp:
        pyramid = state.net.features(images)
        logits, sides = state.net.predict(pyramid)
        mimicry = torch.zeros((), device=device)
        if answer is not None:
            mimicry = state.pupil.loss(pyramid, answer[0].to(device))
    loss, parts = detector_loss(
        logits,
        sides,
        boxes,
        kinds,
        centres,
        strides,
        AssignConfig(loss_config.cells, loss_config.score_power, loss_config.iou_power),
        loss_config.box_weight,
    )
    nothing = torch.zeros((), device=device)
    parts.update(mimicry=mimicry.detach(), teacher_scores=nothing, teacher_boxes=nothing)
    if answer is not None and config.teacher is not None:
        weights = config.teacher
        told = (answer[1].to(device), answer[2].to(device))
        scores, places = answer_loss(logits, sides, centres, *told, weights)
        loss = loss + weights.features * mimicry + weights.scores * scores + weights.boxes * places
        parts.update(teacher_scores=scores.detach(), teacher_boxes=places.detach())
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.net.parameters(), fit.clip, error_if_nonfinite=True)
    state.optimizer.step()
    state.step += 1
    decay = min(fit.ema, (state.step + 1) / (state.step + EMA_WARMUP))
    move_average(state.mean.state_dict(), state.net.state_dict(), decay)
    return parts


class _Log:
    """Means over ``every`` steps as rows of a CSV file that a resumed run continues."""

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self.loss = ""
        self._sums: dict[str, Tensor] = {}
        self._count = self._images = 0
        self._since = time.monotonic()

    def add(self, step: int, done: float, images: int, parts: dict[str, Tensor]) -> None:
        """Takes note of a step, without waiting for the device unless a row is written."""
        for key, value in parts.items():
            self._sums[key] = self._sums[key] + value if key in self._sums else value
        self._count += 1
        self._images += images
        if self._count < self.every:
            return
        now = time.monotonic()
        row = {
            "step": step,
            "done": round(done, 5),
            "images_per_second": round(self._images / (now - self._since), 1),
            **{key: round(float(value) / self._count, 4) for key, value in self._sums.items()},
        }
        self.loss = f"loss {row['loss']:.2f}"
        new = not self.path.is_file()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
        self._sums, self._count, self._images, self._since = {}, 0, 0, now
