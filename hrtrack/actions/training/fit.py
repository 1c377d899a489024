"""Trains the action network and calibrates its confidence."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...configs.action_schema import ActionConfig
from ...models.finite import require_numbers, require_sound_state
from ...models.precision import in_bf16
from ...types import Float32Array
from ..clips import ActionClip
from ..info import ActionInfo, Window, normalise
from ..network import ActionNet
from .augment import tracker_like
from .batches import batches, in_units
from .evaluate import predict, run, softmax, windows_of

# An action that is not likelier than everything else together is not named.
MAJORITY = 0.5


@dataclass(frozen=True)
class Fitted:
    """A trained network, what it takes to use it, and its top-1 on the held-out clips."""

    net: ActionNet
    info: ActionInfo
    held_out_accuracy: float


def fit(
    config: ActionConfig,
    clips: Sequence[ActionClip],
    held_out: Sequence[ActionClip],
    labels: tuple[str, ...],
    seed: int,
    step_done: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> Fitted:
    """Trains on ``clips``, calibrates on ``held_out``; ``step_done`` gets (step, steps, loss)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    window = Window(config.window.seconds, config.window.samples, config.window.max_gap)
    net = ActionNet(
        len(labels) + 1,
        config.model.widths,
        config.model.strides,
        config.model.drop,
        config.model.head_drop,
    )
    settings = config.fit
    steps = max(1, math.ceil(settings.epochs * len(clips) / settings.batch))
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=steps, pct_start=min(0.15, 1 - 1 / steps)
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=settings.smoothing)
    mean_net = copy.deepcopy(net).eval()
    stream = batches(rng, clips, labels, window, settings.batch, settings.unknown)
    bf16 = in_bf16(settings.precision, torch.device("cpu"))
    net.train()
    for step in range(steps):
        inputs, targets = next(stream)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = net(torch.from_numpy(inputs))
        loss = loss_of(logits.float(), torch.from_numpy(targets))
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        require_numbers(step + 1, float(loss.detach()), float(norm))
        optimizer.step()
        schedule.step()
        _follow(mean_net, net, min(settings.ema, (1 + step) / (10 + step)))
        step_done(step + 1, steps, float(loss.detach()))
    require_sound_state(steps, net.state_dict(), mean_net.state_dict())
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


def _follow(mean: nn.Module, net: nn.Module, decay: float) -> None:
    with torch.no_grad():
        now = net.state_dict()
        for name, value in mean.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(now[name], 1.0 - decay)
            else:
                value.copy_(now[name])
