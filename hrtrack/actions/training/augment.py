"""What a tracker and a camera do to a skeleton: noise, gaps, swaps, lag and other views.

All of it on windows (N, T, 13, 3) in units of the person's size (see
`hrtrack.actions.info.normalise`), each step on a random share of the windows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...skeleton import ACTION13
from ...types import Float32Array
from ..clips import ActionClip

MIRROR = np.array(ACTION13.mirror)
ARMS = np.array([ACTION13.index(f"{s}_{j}") for j in ("elbow", "wrist") for s in ("left", "right")])
LEGS = np.array(
    [ACTION13.index(f"{s}_{j}") for j in ("hip", "knee", "ankle") for s in ("left", "right")]
)
# OKS measures in units of the root of the person's area, which for the people of COCO is
# about 1.4 of the action network's units; its spread k is twice the sigma.
ROOT_AREA = 1.4
SPREAD = np.array(ACTION13.sigmas, np.float32) * 2.0 * ROOT_AREA


def keypoint_noise(
    rng: np.random.Generator, shape: tuple[int, int], level: Float32Array
) -> Float32Array:
    """Displacements (N, T, 13, 2) for (N, T) = ``shape`` and ``level`` (N,).

    At level 1 a joint is off by one OKS spread, root mean square: a similarity of about
    0.6. Half the variance is new in each sample, half drifts over some five samples.
    """
    n, t = shape
    white = rng.standard_normal((n, t + 8, 13, 2), np.float32)
    drift = np.cumsum(white, 1)
    drift = (drift[:, 5 : t + 5] - drift[:, :t]) / np.sqrt(5.0)
    fresh = rng.standard_normal((n, t, 13, 2), np.float32)
    per_axis = SPREAD[None, None, :, None] / np.sqrt(2.0)
    noise = (drift + fresh) / np.sqrt(2.0) * per_axis * level[:, None, None, None]
    return noise.astype(np.float32)


def gaps(
    rng: np.random.Generator, shape: tuple[int, int], rate: Float32Array, run: float
) -> NDArray:
    """True where a joint is lost, (N, T, 13): a share ``rate`` (N,), in runs of ``run`` samples."""
    n, t = shape
    lost = np.zeros((n, t, 13), bool)
    rate = np.clip(rate, 0.0, 0.9)[:, None]
    state = rng.random((n, 13)) < rate
    start = rate / (1.0 - rate) / run
    for i in range(t):
        lost[:, i] = state
        draw = rng.random((n, 13))
        state = np.where(state, draw >= 1.0 / run, draw < start)
    return lost


def mirror(windows: Float32Array) -> Float32Array:
    """Seen in a mirror: x changes sign, left and right change names."""
    out = windows[:, :, MIRROR].copy()
    out[..., 0] *= -1
    return out


def augment(rng: np.random.Generator, windows: Float32Array) -> Float32Array:
    """One random distortion of each window; windows (N, T, 13, 3) in units of the person."""
    n, t = windows.shape[:2]
    out = windows.copy()
    flip = rng.random(n) < 0.5
    out[flip] = mirror(out[flip])
    _swap_sides(rng, out)
    out[..., :2] = _other_view(rng, out[..., :2])
    noisy = rng.random(n) < 0.8
    level = np.asarray(rng.uniform(0.0, 1.6, n) * noisy, np.float32)
    out[..., :2] += keypoint_noise(rng, (n, t), level)
    _lag(rng, out)
    _lose(rng, out)
    out *= out[..., 2:] > 0
    return out


def _swap_sides(rng: np.random.Generator, out: Float32Array) -> None:
    """A stretch of time in which arms, legs or all joints are taken for the other side's."""
    t = out.shape[1]
    for i in np.flatnonzero(rng.random(len(out)) < 0.15):
        # People seen from behind are often taken for facing the camera all the time.
        length = t if rng.random() < 0.3 else int(rng.integers(1, max(2, t // 3)))
        start = int(rng.integers(0, t - length + 1))
        joints = (ARMS, LEGS, np.arange(13))[int(rng.integers(3))]
        span = out[i, start : start + length]
        span[:, joints] = span[:, MIRROR[joints]]


def _other_view(rng: np.random.Generator, points: Float32Array) -> Float32Array:
    """Roll, stretch and shear of the picture, and a camera that pans or shakes."""
    n, t = points.shape[:2]
    roll = rng.normal(0.0, 0.15, n)
    shear = rng.normal(0.0, 0.08, n)
    stretch = np.exp(rng.normal(0.0, 0.12, n))
    turn = np.empty((n, 2, 2), np.float32)
    turn[:, 0, 0] = np.cos(roll) * stretch
    turn[:, 0, 1] = -np.sin(roll) + shear
    turn[:, 1, 0] = np.sin(roll) * stretch
    turn[:, 1, 1] = np.cos(roll)
    moved = points @ turn.transpose(0, 2, 1)[:, None]
    pans = rng.random((n, 1)) < 0.3
    speed = rng.normal(0.0, 0.8, (n, 2)) * pans * (1.0, 0.3)
    moved += (np.linspace(-1, 1, t)[None, :, None] * speed[:, None])[:, :, None]
    shakes = rng.uniform(0.02, 0.15, (n, 1, 1)) * (rng.random((n, 1, 1)) < 0.25)
    jolts = np.cumsum(rng.normal(0.0, 1.0, (n, t, 2)), 1)
    moved += (shakes * (jolts - jolts.mean(1, keepdims=True)))[:, :, None]
    return moved.astype(np.float32)


def _lag(rng: np.random.Generator, out: Float32Array) -> None:
    """A smoothing filter that follows late."""
    slow = np.flatnonzero(rng.random(len(out)) < 0.25)
    alpha = rng.uniform(0.35, 0.9, (len(slow), 1, 1)).astype(np.float32)
    state, known = out[slow, 0, :, :2].copy(), out[slow, 0, :, 2:] > 0
    for i in range(out.shape[1]):
        now, seen = out[slow, i, :, :2], out[slow, i, :, 2:] > 0
        blend = np.where(known, state + alpha * (now - state), now)
        state = np.where(seen, blend, state)
        known |= seen
        out[slow, i, :, :2] = state


def _lose(rng: np.random.Generator, out: Float32Array) -> None:
    """Joints lost for moments or for good, legs out of the picture, lost frames, odd scores."""
    n, t = out.shape[:2]
    rate = np.asarray(rng.uniform(0.0, 0.45, n) * (rng.random(n) < 0.6), np.float32)
    lost = gaps(rng, (n, t), rate, run=4.0)
    lost |= (rng.random((n, 1, 13)) < 0.15) & (rng.random((n, 1, 1)) < 0.3)
    legs = np.flatnonzero(rng.random(n) < 0.1)
    lost[np.ix_(legs, np.arange(t), LEGS[2:])] = True
    lost |= (rng.random((n, t, 1)) < 0.3) & (rng.random((n, 1, 1)) < 0.2)
    graded = rng.random((n, 1, 1)) < 0.6
    score = np.clip(rng.uniform(0.5, 1.0, (n, 1, 13)) + rng.normal(0, 0.1, (n, t, 13)), 0.2, 1.0)
    out[..., 2] *= np.where(graded, score, 1.0)
    out[..., 2] *= ~lost


def tracker_like(
    rng: np.random.Generator, windows: Float32Array, noise: float, missing: float
) -> Float32Array:
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
