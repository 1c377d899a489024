"""Windows for training: known actions cut in time and distorted, and what is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ...types import Float32Array, IntArray
from ..clips import ActionClip
from ..info import Window, normalise, sample
from .augment import LEGS, augment, keypoint_noise
from .bystanders import bystanders


def in_units(windows: Float32Array) -> Float32Array:
    """Windows (N, T, 13, 3) in pixels to the same in units of the person."""
    return np.ascontiguousarray(normalise(windows).transpose(0, 2, 3, 1))


def cut(rng: np.random.Generator, clip: ActionClip, window: Window) -> Float32Array:
    """One window (T, 13, 3) of a clip at another speed, frame rate and moment."""
    joints = clip.joints
    if rng.random() < 0.5:
        # A tracker also places joints that the labellers call hidden.
        placed = (joints[..., :2] != 0).any(-1)
        joints = joints.copy()
        joints[..., 2] = np.maximum(joints[..., 2], placed)
    times = clip.times * np.exp(rng.uniform(-0.25, 0.25))
    if rng.random() < 0.4:
        stride = int(rng.integers(2, 5))
        first = int(rng.integers(stride)) if len(times) > 2 * stride else 0
        times, joints = times[first::stride], joints[first::stride]
    length = float(times[-1] - times[0])
    if rng.random() < 0.35:
        # The person has just come into view: only a part has been seen.
        part = rng.uniform(0.25, 1.0) * min(length, window.seconds)
        start = times[0] + rng.uniform(0.0, max(length - part, 0.0))
        keep = (times >= start - 1e-6) & (times <= start + part + 1e-6)
        times, joints = times[keep], joints[keep]
        end = times[-1] if len(times) else 0.0
    else:
        end = times[0] + max(rng.uniform(window.seconds * 0.8, max(length, window.seconds)), 0.0)
        end = min(end, times[-1])
    return sample(times, joints, float(end), window)


def unknowns(
    rng: np.random.Generator, known: Float32Array, labels: IntArray, count: int, window: Window
) -> Float32Array:
    """Windows (count, T, 13, 3) of none of the actions, some made from ``known`` ones.

    Bystanders; legs of one action below the arms of another; a frozen moment; moments of an
    action out of order.
    """
    kinds = rng.choice(4, count, p=(0.5, 0.25, 0.15, 0.1))
    out = in_units(bystanders(rng, count, window.samples, window.step))
    # Far people are small, and their joints shake more than an athlete's.
    shaky = (rng.uniform(0.0, 1.5, count) * (rng.random(count) < 0.6)).astype(np.float32)
    out[..., :2] += keypoint_noise(rng, (count, window.samples), shaky)
    # Known actions often fill only the end of a window; were these always whole, a person who
    # has just come into view could never be unknown.
    for i in np.flatnonzero(rng.random(count) < 0.5):
        out[i, : int(rng.uniform(0.0, 0.85) * window.samples)] = 0.0
    for i in np.flatnonzero(kinds):
        a = int(rng.integers(len(known)))
        if kinds[i] == 1:
            others = np.flatnonzero(labels != labels[a])
            if not len(others):
                continue
            b = int(rng.choice(others))
            out[i] = known[a]
            out[i][:, LEGS] = known[b][:, LEGS]
        elif kinds[i] == 2:
            moment = known[a, int(rng.integers(window.samples))]
            # An unseen moment shows nothing to freeze: the bystander stays.
            if (moment[:, 2] > 0).any():
                out[i] = moment * (out[i].any((1, 2))[:, None, None])
        else:
            parts = np.array_split(known[a], int(rng.integers(4, 9)))
            out[i] = np.concatenate([parts[k] for k in rng.permutation(len(parts))])
    return out


def batches(
    rng: np.random.Generator,
    clips: Sequence[ActionClip],
    labels: Sequence[str],
    window: Window,
    size: int,
    unknown: float,
) -> Iterator[tuple[Float32Array, IntArray]]:
    """Endless (inputs (N, 3, T, 13), targets (N,)); the target ``len(labels)`` is unknown.

    Every epoch shows each clip once; clips of another label than ``labels`` are unknown.
    """
    number = {label: i for i, label in enumerate(labels)}
    targets = np.array([number.get(clip.label, len(labels)) for clip in clips], np.int64)
    extra = round(size * unknown / (1.0 - unknown))
    order = np.empty(0, np.int64)
    while True:
        while len(order) < size:
            order = np.concatenate((order, rng.permutation(len(clips))))
        picked, order = order[:size], order[size:]
        known = in_units(np.stack([cut(rng, clips[i], window) for i in picked]))
        windows, wanted = known, targets[picked]
        if extra:
            other = unknowns(rng, known, wanted, extra, window)
            windows = np.concatenate((known, other))
            wanted = np.concatenate((wanted, np.full(extra, len(labels), np.int64)))
        yield normalise(augment(rng, windows)), wanted
