"""What a detector training leaves to the machine that it begins on."""

from __future__ import annotations

import torch

from ...configs.detector_schema import DetectorTrainConfig
from ...models.precision import Precision, in_bf16, quicker, to_be_tried
from ..room import loaders
from .photos import PhotoStore
from .render import render_batch
from .step import Step, fresh

TRIAL_CANVASES = 6


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
