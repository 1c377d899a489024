"""Trains the person detector, and writes down how it goes."""

from __future__ import annotations

import csv
import logging
import math
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from ...configs.detector_schema import DetectorTrainConfig, FitSection
from ...interrupt import shield
from ...models.detector.network import PersonDetector
from ...models.finite import require_numbers
from ...models.precision import Precision, in_bf16, quicker, to_be_tried
from ...progress import shown
from ...trainer.processes import choose_device, keep_freed_memory, loaders, worker_context
from ...writable import make_folder
from .batches import batches
from .distillation import DeviceTeacher, teaches_beside
from .photos import PhotoStore, build_store
from .render import DeviceRenderer, fits, render_batch
from .step import Saved, State, Step, fresh, save_weights

LOG = logging.getLogger(__name__)
LAST_LR_SHARE = 0.02
TRIAL_CANVASES = 6


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
        ModelError: ``init`` or the checkpoint to resume does not fit, or the training's numbers
            are none any more (`Diverged`).
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
    last, final = output / LAST, output / "final.pt"
    found = next((path for path in (last, final) if path.is_file()), None)
    saved = None if found is None else Saved(found, config)
    config = settle(config, store, place, None if saved is None else saved.precision)
    state = fresh(config, init, place)
    if saved is not None:
        saved.fill(state)

    begun = state.step
    if _share_done(fit, state) < 1:
        try:
            _learn(config, state, store, place, output, quiet=quiet)
        except KeyboardInterrupt:
            if state.step > begun:
                state.save(last, config)
                LOG.warning("stopped at step %d, which is saved: --resume goes on", state.step)
            raise
    state.save(final, config)
    save_weights(state.mean, output / "weights.pt")
    last.unlink(missing_ok=True)
    return state.mean


def settle(
    config: DetectorTrainConfig, store: PhotoStore, device: torch.device, kept: str | None
) -> DetectorTrainConfig:
    """The configuration with ``fit.precision`` and ``fit.workers`` decided.

    ``kept`` is the precision that an earlier part of the training computed in: a resumed one goes
    on in it while the configuration leaves it open.
    """
    fit = config.fit
    precision = kept if kept is not None and fit.precision == "auto" else fit.precision
    if to_be_tried(precision, device):
        with torch.random.fork_rng(devices=[]):
            precision = _tried(config, store, device)
    elif precision == "auto":
        precision = "bf16" if in_bf16(precision, device) else "fp32"
    workers = loaders(fit.workers) if device.type == "cpu" else fit.workers
    settled = fit.model_copy(update={"precision": precision, "workers": workers})
    return config.model_copy(update={"fit": settled})


def _tried(config: DetectorTrainConfig, store: PhotoStore, device: torch.device) -> Precision:
    """What is quicker at the last stage's step, on a batch of real canvases."""
    count = min(config.fit.batch, TRIAL_CANVASES)
    drawn = render_batch(store, config.stages[-1].canvases, count, (config.fit.seed, 0))
    batch = [torch.from_numpy(part) for part in drawn]

    def made(kind: Precision) -> Step:
        fit = config.fit.model_copy(update={"precision": kind})
        alike = config.model_copy(update={"fit": fit, "teacher": None})
        return Step(alike, fresh(alike, None, device), device, None, False, print)

    kinds: tuple[Precision, ...] = ("fp32", "bf16")
    steps = {kind: made(kind) for kind in kinds}
    return quicker(lambda kind: steps[kind](batch, False))


def _learn(
    config: DetectorTrainConfig,
    state: State,
    store: PhotoStore,
    place: torch.device,
    output: Path,
    *,
    quiet: bool,
) -> None:
    """Steps to the end of the training, saved to last.pt on the way."""
    fit, saved = config.fit, output / LAST
    state.require_sound(saved)  # of what it starts from
    done = worker_context().Value("d", 0.0)
    on_gpu = place.type == "cuda"
    renderer = DeviceRenderer(store, place) if _renders_there(fit, store, place) else None
    beside = renderer is not None or teaches_beside(place)
    loader = batches(
        store, config, state.step, done, teach=not beside, render=renderer is None, pin=on_gpu
    )
    teacher = None
    if config.teacher is not None and beside:
        teacher = DeviceTeacher(Path(config.teacher.model), place)
    console = Console(stderr=True, quiet=quiet)
    recorded = on_gpu and renderer is not None and fit.graph
    step = Step(config, state, place, teacher, recorded, console.print)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    log, parts = Log(output / "log.csv", fit.log_steps), {}
    with shown(Progress(*columns, TimeRemainingColumn(), console=console)) as progress:
        task = progress.add_task(config.name, total=1.0)
        started, kept, before = time.monotonic(), time.monotonic(), state.seconds
        for drawn, boxes, kinds, *answer in loader:
            state.seconds = before + time.monotonic() - started
            done.value = _share_done(fit, state)
            if done.value >= 1:
                break
            images = renderer(drawn) if renderer is not None else drawn
            batch = [part.to(place, non_blocking=True) for part in (images, boxes, kinds, *answer)]
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate(fit, state.step, done.value)
            distilled = config.teacher is not None and done.value < config.teacher.until
            with shield():
                parts = step(batch, distilled)
                if not on_gpu:  # which need not be waited for
                    check(parts, state.step + 1, saved)
                state.optimizer.step()
                state.follow(fit.ema)
            log.add(state.step, done.value, len(boxes), parts)
            said = f"{config.name} step {state.step} {log.loss}"
            progress.update(task, completed=done.value, description=said)
            if time.monotonic() - kept > fit.save_minutes * 60:
                check(parts, state.step, saved)
                state.require_sound(saved)
                state.save(saved, config)
                kept = time.monotonic()
        progress.update(task, completed=1.0)
    if parts:
        check(parts, state.step, saved)
    state.require_sound(saved)


def _renders_there(fit: FitSection, store: PhotoStore, device: torch.device) -> bool:
    if fit.canvases == "auto":
        return device.type == "cuda" and fits(store, device)
    return fit.canvases == "device"


def _share_done(fit: FitSection, state: State) -> float:
    if fit.steps is not None:
        return min(1.0, state.step / fit.steps)
    assert fit.minutes is not None
    return min(1.0, state.seconds / (fit.minutes * 60))


def learning_rate(fit: FitSection, step: int, done: float) -> float:
    """Linear warm-up over steps, cosine over the share of the training that is done."""
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    warmup = min(1.0, (step + 1) / fit.warmup_steps)
    return fit.lr * warmup * (LAST_LR_SHARE + (1 - LAST_LR_SHARE) * cosine)


LAST = "last.pt"
"""A training's state, which lies beside its log."""


class Log:
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
        check(parts, step, self.path.with_name(LAST))
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


def check(parts: dict[str, Tensor], step: int, saved: Path) -> None:
    """Waits for a step's loss and gradient; `Diverged` where one is NaN or infinite."""
    require_numbers(step, float(parts["loss"]), float(parts["gradient"]), saved)
