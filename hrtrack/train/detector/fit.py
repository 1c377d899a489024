"""Trains the person detector, and writes down how it goes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...configs.detector_schema import DetectorTrainConfig, FitSection
from ...models.detector.network import PersonDetector, config_text
from ...models.precision import Precision, in_bf16, quicker, to_be_tried
from ...trainer.loop import Found, Task, Trainer
from ...trainer.processes import Team, choose_device, keep_freed_memory, loaders, worker_context
from ...trainer.schedule import Clock
from ...trainer.state import STATE, kept_choice, load_state, warn_of_changes
from ...writable import make_folder
from ..distillation import FeatureHeads
from .batches import batches
from .distillation import Teacher, teaches_beside
from .photos import PhotoStore, build_store
from .render import DeviceRenderer, fits, render_batch
from .step import Step, fresh, save_weights

LOG = logging.getLogger(__name__)
SHAPING = ("model.widths", "model.blocks", "model.pyramid", "fit.optimizer", "fit.ema")
"""What the saved network, optimiser and average are made of and for."""
TRIAL_CANVASES = 6


def train_detector(
    config: DetectorTrainConfig,
    output: Path,
    *,
    init: Path | None = None,
    device: str = "auto",
    quiet: bool = False,
    until: float = math.inf,
) -> PersonDetector:
    """Trains into ``output`` (state.pt, train.csv, and weights.pt at the end).

    Returns the averaged network, which weights.pt holds alone and in float16.

    A run that finds its ``state.pt`` there goes on from it; a finished one is read back.
    ``init`` is a checkpoint or one of our ONNX files to start from; ``device`` is ``auto`` (CUDA
    where there is one), ``cpu``, ``cuda`` or ``cuda:N``. ``until``: when to stop at the latest, on
    the clock of `time.monotonic`.

    Raises:
        BackendError: a device was asked for that is not there.
        DataError: annotations or photos cannot be read.
        ModelError: ``init`` or the checkpoint to resume does not fit, or the training's numbers
            are none any more (`Diverged`).
    """
    fit, said = config.fit, config.model_dump(mode="json")
    make_folder(output)
    torch.manual_seed(fit.seed)
    root, cache = Path(config.data.root), output / config.data.cache
    build_store(config.data.sets, root, cache, quiet=quiet)
    store = PhotoStore(cache, config.data.trust, [part.repeat for part in config.data.sets])

    place = choose_device(device)
    if place.type == "cpu":
        keep_freed_memory()
    state = load_state(output, said, SHAPING) if (output / STATE).exists() else None
    kept = None
    if state is not None:
        warn_of_changes(state, said, output)
        kept = kept_choice(state, said).get("precision")
    config = settle(config, store, place, None if kept is None else str(kept))
    task = DetectorTask(config, store, place, init)
    choice: dict[str, str | int] = {"precision": config.fit.precision}
    members = Team(0, 1, place)
    trainer = Trainer(
        task, config.fit, members, output, config=said, choice=choice, until=until
    )  # fmt: skip
    if state is not None:
        trainer.restore(state)
    trainer.go(quiet=quiet)
    mean = trainer.ema.network
    assert isinstance(mean, PersonDetector)
    save_weights(mean, output / "weights.pt")
    return mean


class DetectorTask(Task[list[Tensor]]):
    """The person detector, shown canvases of photos."""

    parts = (
        "score_loss", "box_loss", "iou", "mimicry", "teacher_scores", "teacher_boxes",
    )  # fmt: skip

    def __init__(
        self, config: DetectorTrainConfig, store: PhotoStore, place: torch.device, init: Path | None
    ) -> None:
        learner = fresh(config, init, place)
        super().__init__(learner.net, learner.optimizer)
        self.title = config.name
        self._config, self._store, self._place, self._learner = config, store, place, learner

    @property
    def head(self) -> FeatureHeads:
        """Guesses the teacher's features."""
        return self._learner.heads

    def source(self, clock: Clock, step: int, seen: int) -> Iterator[list[Tensor]]:
        """Batches on the training's device."""
        config, place = self._config, self._place
        done = worker_context().Value("d", clock.share(step, seen))
        on_gpu = place.type == "cuda"
        there = _renders_there(config.fit, self._store, place)
        renderer = DeviceRenderer(self._store, place) if there else None
        beside = renderer is not None or teaches_beside(place)
        loader = batches(
            self._store, config, step, done, teach=not beside, render=renderer is None, pin=on_gpu
        )
        teacher = None
        if config.teacher is not None and beside:
            teacher = Teacher(Path(config.teacher.model), place)
        recorded = on_gpu and renderer is not None and config.fit.graph
        self._step = Step(config, self._learner, place, teacher, recorded, LOG.warning)

        def drawn() -> Iterator[list[Tensor]]:
            for number, (canvases, *labels) in enumerate(loader, step):
                # Workers pick the stage of a training by the clock by it.
                done.value = clock.share(number, 0)
                images = renderer(canvases) if renderer is not None else canvases
                yield [part.to(place, non_blocking=True) for part in (images, *labels)]

        return drawn()

    def gradients(self, parts: Sequence[list[Tensor]], share: float) -> tuple[Found, int]:
        """Of one batch."""
        (batch,) = parts
        teacher = self._config.teacher
        distilled = teacher is not None and share < teacher.until
        return self._step(batch, distilled), len(batch[1])

    def facts(self) -> dict[str, Any]:
        """Which network it is, for whoever reads a state as a checkpoint."""
        return {"model": config_text(self._learner.net.config)}


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


def _renders_there(fit: FitSection, store: PhotoStore, device: torch.device) -> bool:
    if fit.canvases == "auto":
        return device.type == "cuda" and fits(store, device)
    return fit.canvases == "device"
