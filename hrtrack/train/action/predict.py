"""Whole clips through an action network: every window of a clip votes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...models.action_input import Window, normalise, sample
from ..data.clips import ActionClip

Floats = NDArray[np.float32]
Logits = Callable[[Floats], Floats]


def windows_of(clip: ActionClip, window: Window) -> Floats:
    """Windows (M, T, 13, 3) that cover a clip at steps of at most a quarter of their length."""
    start, end = float(clip.times[0]), float(clip.times[-1])
    first = min(start + window.seconds, end)
    count = 1 + int(np.ceil((end - first) / (window.seconds / 4)))
    ends = np.linspace(first, end, count) if count > 1 else [end]
    return np.stack([sample(clip.times, clip.joints, float(e), window) for e in ends])


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Along the last axis."""
    scaled = logits / temperature
    scaled = np.exp(scaled - scaled.max(-1, keepdims=True))
    return (scaled / scaled.sum(-1, keepdims=True)).astype(np.float32)


def predict(
    network: Logits, clips: Sequence[ActionClip], window: Window, temperature: float = 1.0
) -> Floats:
    """Mean probabilities (clips, classes) over the windows of each clip."""
    windows = [windows_of(clip, window) for clip in clips]
    logits = run(network, normalise(np.concatenate(windows)))
    probabilities = softmax(logits, temperature)
    bounds = np.cumsum([len(w) for w in windows])[:-1]
    return np.stack([part.mean(0) for part in np.split(probabilities, bounds)])


def run(network: Logits, inputs: Floats, size: int = 64) -> Floats:
    """Logits (N, classes) of any number of inputs, ``size`` at a time."""
    return np.concatenate([network(inputs[i : i + size]) for i in range(0, len(inputs), size)])
