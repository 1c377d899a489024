"""People who do none of the known actions: they walk, run, stand, sit, gesture or dance.

A stick figure in 3D with swinging limbs, seen from a random side. The action network learns
from it what "unknown" looks like, for Penn Action has no such people.
"""

from __future__ import annotations

import numpy as np

from ...types import Float32Array, Float64Array

# Of a standing person's height.
HIP, SHOULDER, HEAD = 0.53, 0.82, 0.93
THIGH, SHANK, UPPER_ARM, FOREARM = 0.245, 0.245, 0.17, 0.15


def bystanders(rng: np.random.Generator, count: int, samples: int, step: float) -> Float32Array:
    """Windows (count, samples, 13, 3): x, y down in body heights, score 1; ``step`` in seconds."""
    time: Float64Array = np.arange(samples, dtype=np.float64)[None, :] * step

    def each(low: float, high: float) -> Float64Array:
        return rng.uniform(low, high, (count, 1))

    kind = rng.choice(6, size=(count, 1), p=(0.3, 0.08, 0.15, 0.07, 0.15, 0.25))
    walk, run, _stand, sit, gesture, dance = (kind == k for k in range(6))
    moving = walk | run
    pace = np.where(run, each(1.2, 1.6), each(0.65, 1.1))
    phase = 2 * np.pi * (pace * time + each(0.0, 1.0))
    reach = np.where(run, each(0.5, 0.8), each(0.25, 0.5)) * moving
    bend = np.where(run, each(1.0, 1.7), each(0.5, 1.1))
    beat = 2 * np.pi * each(0.3, 1.5) * time
    legs = []
    for shift in (0.0, np.pi):
        thigh = reach * np.sin(phase + shift) + 0.1 * reach
        thigh = np.where(sit, each(1.1, 1.6), thigh)
        thigh = np.where(dance, _beat(rng, beat, each(-0.1, 0.3), 0.5), thigh)
        knee = 0.05 + bend * np.maximum(np.cos(phase + shift), 0.0) * moving
        knee = np.where(sit, each(1.0, 1.8), knee)
        knee = np.where(dance, np.maximum(_beat(rng, beat, each(0.0, 0.5), 0.6), 0.0), knee)
        lift = each(0.0, 0.12) + np.where(dance, _beat(rng, beat, each(-0.1, 0.3), 0.3), 0.0)
        legs.append((thigh + _wander(rng, time, count, 0.05) * ~moving, knee, lift))
    arms = []
    lively = gesture * each(0.1, 0.9) * (each(0.0, 1.0) < 0.7)
    for shift in (np.pi, 0.0):
        swing = reach * each(0.3, 1.2) * np.sin(phase + shift)
        carry = (each(0.0, 1.0) < 0.3) | sit
        rest = np.where(carry, each(-0.2, 0.9), rng.normal(0.0, 0.1, (count, 1)))
        pitch = rest + np.where(carry, 0.2 * swing, swing) + lively * _wander(rng, time, count, 1.0)
        pitch = np.where(dance, _beat(rng, beat, each(-0.3, 2.8), 0.8), pitch)
        elbow = np.where(run, 1.4, np.where(carry, each(0.3, 2.3), each(0.05, 0.5)))
        elbow = elbow + lively * _wander(rng, time, count, 1.0)
        elbow = np.where(dance, _beat(rng, beat, each(0.0, 2.2), 0.8), elbow)
        lift = rng.normal(0.08, 0.06, (count, 1)) + 0.5 * lively * _wander(rng, time, count, 1.0)
        lift = np.where(dance, _beat(rng, beat, each(0.0, 1.4), 0.6), np.abs(lift))
        arms.append((pitch, np.clip(elbow, 0.0, 2.5), lift))
    lean: Float64Array = rng.normal(0.05, 0.06, (count, 1)) + _wander(rng, time, count, 0.04)
    lean = lean + np.where(dance, _beat(rng, beat, each(-0.1, 0.3), 0.2), 0.0)
    body = _body(rng, legs, arms, lean)
    speed = pace * 4 * (THIGH + SHANK) * np.sin(reach)
    body[..., 2] += (speed * time)[..., None] * (rng.random((count, 1, 1)) < 0.7)
    return _seen(rng, body, time)


def _beat(
    rng: np.random.Generator, beat: Float64Array, middle: Float64Array, size: float
) -> Float64Array:
    """Swings of about ``size`` radians around ``middle`` in time with ``beat``; some hold still."""
    count = len(beat)
    swing = np.abs(rng.normal(0.0, size, (count, 1))) * (rng.random((count, 1)) < 0.75)
    double = 1.0 + (rng.random((count, 1)) < 0.2)
    return middle + swing * np.sin(double * beat + rng.uniform(0.0, 2 * np.pi, (count, 1)))


def _wander(rng: np.random.Generator, time: Float64Array, count: int, size: float) -> Float64Array:
    """A smooth random course of about ``size`` radians."""
    total = np.zeros((count, time.shape[1]))
    for _ in range(3):
        rate = rng.uniform(0.05, 1.2, (count, 1))
        start = rng.random((count, 1))
        total += rng.normal(0, 0.6, (count, 1)) * np.sin(2 * np.pi * (rate * time + start))
    return size * total


def _body(
    rng: np.random.Generator,
    legs: list[tuple[Float64Array, Float64Array, Float64Array]],
    arms: list[tuple[Float64Array, Float64Array, Float64Array]],
    lean: Float64Array,
) -> Float64Array:
    """Joints (count, samples, 13, 3) in heights: x to the left side, y up, z ahead.

    Each limb is (pitch, bend, lift to the side) in radians; the lower foot stands on y = 0.
    """
    count, samples = lean.shape
    none = np.zeros((count, samples))
    out = np.zeros((count, samples, 13, 3))
    hip_half = rng.uniform(0.045, 0.065, (count, 1))
    shoulder_half = rng.uniform(0.095, 0.13, (count, 1))
    trunk = (SHOULDER - HIP) * rng.uniform(0.93, 1.07, (count, 1))
    head = trunk + (HEAD - SHOULDER)
    out[:, :, 0, 1] = head * np.cos(lean)
    out[:, :, 0, 2] = head * np.sin(lean) + rng.normal(0.02, 0.02, (count, 1))
    for side, sign in enumerate((1.0, -1.0)):
        thigh, knee, apart = legs[side]
        hip = np.stack((sign * hip_half + none, none, none), -1)
        knee_at = hip + THIGH * _direction(thigh, sign * apart)
        ankle_at = knee_at + SHANK * _direction(thigh - knee, sign * apart)
        pitch, elbow, lift = arms[side]
        shoulder = np.stack(
            (sign * shoulder_half + none, trunk * np.cos(lean), trunk * np.sin(lean)), -1
        )
        elbow_at = shoulder + UPPER_ARM * _direction(pitch, sign * lift)
        wrist_at = elbow_at + FOREARM * _direction(pitch + elbow, sign * lift * 0.5)
        parts = (shoulder, elbow_at, wrist_at, hip, knee_at, ankle_at)
        for number, at in enumerate(parts):
            out[:, :, 1 + 2 * number + side] = at
    out[..., 1] -= out[:, :, 11:, 1].min(2)[..., None]
    return out


def _direction(pitch: Float64Array, side: Float64Array) -> Float64Array:
    """A unit vector that hangs down at (0, 0) and swings forwards and sideways."""
    return np.stack((np.sin(side), -np.cos(pitch) * np.cos(side), np.sin(pitch) * np.cos(side)), -1)


def _seen(rng: np.random.Generator, body: Float64Array, time: Float64Array) -> Float32Array:
    """From a random side, level or from above, people turning as they go."""
    count = len(body)
    yaw = rng.uniform(0, 2 * np.pi, (count, 1)) + rng.normal(0, 0.3, (count, 1)) * time
    tilt = np.clip(rng.normal(0.15, 0.2, (count, 1)), -0.2, 0.9)
    x, y, z = body[..., 0], body[..., 1], body[..., 2]
    across = x * np.cos(yaw)[..., None] + z * np.sin(yaw)[..., None]
    depth = -x * np.sin(yaw)[..., None] + z * np.cos(yaw)[..., None]
    down = -(y * np.cos(tilt)[..., None] + depth * np.sin(tilt)[..., None])
    return np.stack((across, down, np.ones_like(down)), -1).astype(np.float32)
