"""The faults that evaluation adds to labelled joints, one dial each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..data.clips import ActionClip
from .augment import gaps, keypoint_noise

Floats = NDArray[np.float32]


def tracker_like(rng: np.random.Generator, windows: Floats, noise: float, missing: float) -> Floats:
    """Windows (N, T, 13, 3) in units of the person with noise of that level and joints lost.

    Level 1 is one OKS spread (see `keypoint_noise`); ``missing`` is the share of joints lost,
    in runs of four samples on average.
    """
    n, t = windows.shape[:2]
    out = windows.copy()
    out[..., :2] += keypoint_noise(rng, (n, t), np.full(n, noise, np.float32))
    out[..., 2] *= ~gaps(rng, (n, t), np.full(n, missing, np.float32), run=4.0)
    out *= out[..., 2:] > 0
    return out


def spoil(rng: np.random.Generator, clip: ActionClip, noise: float, missing: float) -> ActionClip:
    """The same on a clip in pixels; the person's size is that of the median frame
    that shows any joint."""
    seen = clip.joints[..., 2:] > 0
    count = np.maximum(seen.sum(1, keepdims=True), 1)
    middle = (clip.joints[..., :2] * seen).sum(1, keepdims=True) / count
    square = (np.square(clip.joints[..., :2] - middle) * seen).sum((1, 2)) / count[:, 0, 0]
    shown = seen.any((1, 2))
    unit = float(np.sqrt(np.median(square[shown]))) if shown.any() else 0.0
    unit = unit if unit > 1e-6 else 1.0
    units = clip.joints[None] * np.array([1 / unit, 1 / unit, 1.0], np.float32)
    joints = tracker_like(rng, units.astype(np.float32), noise, missing)[0]
    return replace(clip, joints=joints * np.array([unit, unit, 1.0], np.float32))


def at_rate(clip: ActionClip, rate: float) -> ActionClip:
    """The clip as a camera of ``rate`` frames a second would have caught it."""
    count = max(2, int(np.floor(clip.seconds * rate)) + 1)
    wanted = clip.times[0] + np.arange(count) / rate
    nearest = np.abs(clip.times[None] - wanted[:, None]).argmin(1)
    kept = np.unique(nearest)
    return replace(clip, times=clip.times[kept], joints=clip.joints[kept])
