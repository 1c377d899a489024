"""Trains the action network and calibrates its confidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...configs.action_schema import ActionConfig
from ...models.precision import in_bf16
from ...trainer.loop import Found, Task, Trainer
from ...trainer.optim import optimizer_of
from ...trainer.processes import Team
from ...trainer.schedule import Clock
from ...types import Float32Array, IntArray
from ..clips import ActionClip
from ..info import ActionInfo, Window, normalise
from ..network import ActionNet
from .augment import tracker_like
from .batches import batches, in_units
from .evaluate import predict, run, softmax, windows_of

# An action that is not likelier than everything else together is not named.
MAJORITY = 0.5
CPU = torch.device("cpu")
"""A network this small is not worth a GPU's launches."""


@dataclass(frozen=True)
class Fitted:
    """A trained network, what it takes to use it, and its top-1 on the held-out clips."""

    net: ActionNet
    info: ActionInfo
    held_out_accuracy: float


class ActionTask(Task[tuple[Float32Array, IntArray]]):
    """The action network, shown windows of clips."""

    def __init__(
        self, config: ActionConfig, clips: Sequence[ActionClip], labels: tuple[str, ...], seed: int
    ) -> None:
        model, fit = config.model, config.fit
        torch.manual_seed(seed)
        net = ActionNet(
            len(labels) + 1, model.widths, model.strides, model.drop, model.head_drop
        ).train()
        named = dict(net.named_parameters())
        optimizer = optimizer_of(
            named, fit.optimizer, fit.lr, fit.weight_decay,
            edges=("stem.", "head."), quick=in_bf16(fit.precision, CPU),
        )  # fmt: skip
        super().__init__(net, optimizer)
        self.title = f"action, seed {seed}"
        self._fit, self._clips, self._labels, self._seed = fit, clips, labels, seed
        self._window = window_of(config)
        self._loss = nn.CrossEntropyLoss(label_smoothing=fit.smoothing)
        self._bf16 = in_bf16(fit.precision, CPU)

    def source(self, clock: Clock, step: int, seen: int) -> Iterator[tuple[Float32Array, IntArray]]:
        """Batches from the first on; no action training is gone on with."""
        rng = np.random.default_rng(self._seed)
        fit = self._fit
        return batches(rng, self._clips, self._labels, self._window, fit.batch, fit.unknown)

    def gradients(
        self, parts: Sequence[tuple[Float32Array, IntArray]], share: float
    ) -> tuple[Found, int]:
        """Of one batch."""
        ((inputs, targets),) = parts
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            logits = self.network(torch.from_numpy(inputs))
        loss = self._loss(logits.float(), torch.from_numpy(targets))
        self.optimizer.zero_grad()
        loss.backward()
        limit = self._fit.clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        return {"loss": loss.detach(), "gradient": norm.detach()}, len(inputs)


def window_of(config: ActionConfig) -> Window:
    """What the network is to see."""
    return Window(config.window.seconds, config.window.samples, config.window.max_gap)


def fit(
    config: ActionConfig,
    clips: Sequence[ActionClip],
    held_out: Sequence[ActionClip],
    labels: tuple[str, ...],
    seed: int,
    *,
    quiet: bool = True,
) -> Fitted:
    """Trains on ``clips``, calibrates on ``held_out``; a bar unless ``quiet``."""
    settings = config.fit
    if settings.steps is None and settings.minutes is None:
        steps = max(1, math.ceil(settings.epochs * len(clips) / settings.batch))
        settings = settings.model_copy(update={"steps": steps})
    trainer = Trainer(ActionTask(config, clips, labels, seed), settings, Team(0, 1, CPU))
    trainer.go(quiet=quiet)
    mean_net, window = trainer.ema.network, window_of(config)
    assert isinstance(mean_net, ActionNet)
    network = as_function(mean_net)
    held_out = [clip for clip in held_out if clip.label in labels]
    temperature, threshold = calibrate(network, held_out, labels, window, settings.keep, seed)
    accuracy = float(
        (
            known_answer(predict(network, held_out, window), labels)
            == [clip.label for clip in held_out]
        ).mean()
    )
    return Fitted(mean_net, ActionInfo(labels, window, temperature, threshold), accuracy)


def as_function(net: nn.Module) -> Callable[[Float32Array], Float32Array]:
    """The network as arrays in, logits out."""

    @torch.inference_mode()
    def logits(inputs: Float32Array) -> Float32Array:
        out: Tensor = net(torch.from_numpy(inputs))
        return out.float().numpy()

    return logits


def known_answer(probabilities: Float32Array, labels: Sequence[str]) -> NDArray[np.str_]:
    """The likeliest of the known actions, whatever the probability of unknown."""
    return np.asarray(labels)[probabilities[:, : len(labels)].argmax(1)]


def calibrate(
    network: Callable[[Float32Array], Float32Array],
    clips: Sequence[ActionClip],
    labels: Sequence[str],
    window: Window,
    keep: float,
    seed: int,
) -> tuple[float, float]:
    """(temperature, threshold) from held-out clips with a tracker's faults.

    The temperature minimises the negative log-likelihood of their windows (Guo et al., "On
    Calibration of Modern Neural Networks", 2017); above the threshold lies the share
    ``keep`` of the windows that are answered rightly, but it is at least `MAJORITY`.
    """
    rng = np.random.default_rng(seed)
    clips = [clip for clip in clips if clip.label in labels]
    per_clip = [windows_of(clip, window) for clip in clips]
    number = {label: i for i, label in enumerate(labels)}
    targets = np.concatenate(
        [np.full(len(w), number[c.label]) for c, w in zip(clips, per_clip, strict=True)]
    )
    units = in_units(np.concatenate(per_clip))
    logits = run(network, normalise(tracker_like(rng, units, noise=1.0, missing=0.2)))
    temperatures = np.geomspace(0.3, 4.0, 60)
    rows = np.arange(len(targets))
    losses = [
        -np.log(np.maximum(softmax(logits, t)[rows, targets], 1e-9)).mean() for t in temperatures
    ]
    temperature = float(temperatures[int(np.argmin(losses))])
    known = softmax(logits, temperature)[:, : len(labels)]
    right = known.argmax(1) == targets
    confidence = known.max(1)[right] if right.any() else known.max(1)
    return temperature, max(MAJORITY, float(np.quantile(confidence, 1.0 - keep)))
