"""People who do nothing in particular: walking, running past, standing, sitting, gesturing.

A stick figure in 3D with swinging limbs, seen from a random side. The action network learns
from it what "unknown" looks like, for Penn Action has no such people.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Angles = NDArray[np.float64]

# Of a standing person's height.
HIP, SHOULDER, HEAD = 0.53, 0.82, 0.93
THIGH, SHANK, UPPER_ARM, FOREARM = 0.245, 0.245, 0.17, 0.15


def bystanders(rng: np.random.Generator, count: int, samples: int, step: float) -> Floats:
    """Windows (count, samples, 13, 3): x, y down in body heights, score 1; ``step`` in seconds."""
    time = step * np.arange(samples)[None, :]
    kind = rng.choice(5, size=(count, 1), p=(0.4, 0.1, 0.2, 0.1, 0.2))
    walk, run, sit, gesture = (kind == k for k in (0, 1, 3, 4))
    moving = walk | run

    pace = np.where(run, rng.uniform(1.2, 1.6, (count, 1)), rng.uniform(0.65, 1.1, (count, 1)))
    phase = 2 * np.pi * (pace * time + rng.random((count, 1)))
    reach = np.where(run, rng.uniform(0.5, 0.8, (count, 1)), rng.uniform(0.25, 0.5, (count, 1)))
    reach = reach * moving
    bend = np.where(run, rng.uniform(1.0, 1.7, (count, 1)), rng.uniform(0.5, 1.1, (count, 1)))
    legs = []
    for shift in (0.0, np.pi):
        thigh = reach * np.sin(phase + shift) + 0.1 * reach
        knee = 0.05 + bend * np.maximum(np.cos(phase + shift), 0.0) * moving
        thigh = np.where(sit, rng.uniform(1.1, 1.6, (count, 1)), thigh)
        knee = np.where(sit, rng.uniform(1.0, 1.8, (count, 1)), knee)
        sway = _wander(rng, count, time, 0.05) * ~moving
        legs.append((thigh + sway, knee, rng.uniform(0.0, 0.12, (count, 1)) + 0 * time))
    arms = []
    held = rng.random((count, 2)) < 0.3
    for side, shift in enumerate((np.pi, 0.0)):
        swing = reach * rng.uniform(0.3, 1.2, (count, 1)) * np.sin(phase + shift)
        carry = held[:, side : side + 1] | sit
        rest = np.where(carry, rng.uniform(-0.2, 0.9, (count, 1)), rng.normal(0, 0.1, (count, 1)))
        elbow = np.where(
            run,
            1.4,
            np.where(carry, rng.uniform(0.3, 2.3, (count, 1)), rng.uniform(0.05, 0.5, (count, 1))),
        )
        lively = gesture * rng.uniform(0.1, 0.9, (count, 1)) * (rng.random((count, 1)) < 0.7)
        pitch = rest + np.where(carry, 0.2 * swing, swing) + _wander(rng, count, time, 1.0) * lively
        elbow = np.clip(elbow + _wander(rng, count, time, 1.0) * lively, 0.0, 2.5)
        side_lift = np.abs(
            rng.normal(0.08, 0.06, (count, 1)) + 0.5 * lively * _wander(rng, count, time, 1.0)
        )
        arms.append((pitch, elbow, side_lift))

    lean = rng.normal(0.05, 0.06, (count, 1)) + _wander(rng, count, time, 0.04)
    speed = pace * 4 * (THIGH + SHANK) * np.sin(reach)
    bob = 0.02 * np.cos(2 * phase) * moving
    body = _body(rng, count, legs, arms, lean, bob)
    body[..., 2] += (speed * time)[..., None] * (rng.random((count, 1, 1)) < 0.7)
    return _seen(rng, body, time)


def _wander(rng: np.random.Generator, count: int, time: Angles, size: float) -> Angles:
    """A smooth random course of about ``size`` radians."""
    total = np.zeros((count, time.shape[1]))
    for _ in range(3):
        rate = rng.uniform(0.05, 1.2, (count, 1))
        total += rng.normal(0, 0.6, (count, 1)) * np.sin(
            2 * np.pi * (rate * time + rng.random((count, 1)))
        )
    return size * total


def _body(
    rng: np.random.Generator,
    count: int,
    legs: list[tuple[Angles, Angles, Angles]],
    arms: list[tuple[Angles, Angles, Angles]],
    lean: Angles,
    bob: Angles,
) -> Angles:
    """Joints (count, samples, 13, 3): x to the left side, y up, z ahead, in heights."""
    samples = bob.shape[1]
    out = np.zeros((count, samples, 13, 3))
    hip_half = rng.uniform(0.045, 0.065, (count, 1))
    shoulder_half = rng.uniform(0.095, 0.13, (count, 1))
    trunk = (SHOULDER - HIP) * rng.uniform(0.93, 1.07, (count, 1))
    head = trunk + (HEAD - SHOULDER)
    root = HIP + bob
    out[:, :, 0, 1] = root + head * np.cos(lean)
    out[:, :, 0, 2] = head * np.sin(lean) + rng.normal(0.02, 0.02, (count, 1))
    for side, sign in enumerate((1.0, -1.0)):
        thigh, knee, out_lift = legs[side]
        hip = np.stack((sign * hip_half + 0 * root, root, 0 * root), -1)
        knee_at = hip + THIGH * _direction(thigh, sign * out_lift)
        ankle_at = knee_at + SHANK * _direction(thigh - knee, sign * out_lift)
        pitch, elbow, side_lift = arms[side]
        shoulder = np.stack(
            (sign * shoulder_half + 0 * root, root + trunk * np.cos(lean), trunk * np.sin(lean)), -1
        )
        elbow_at = shoulder + UPPER_ARM * _direction(pitch, sign * side_lift)
        wrist_at = elbow_at + FOREARM * _direction(pitch + elbow, sign * side_lift * 0.5)
        for joint, at in (
            (1, shoulder),
            (3, elbow_at),
            (5, wrist_at),
            (7, hip),
            (9, knee_at),
            (11, ankle_at),
        ):
            out[:, :, joint + side] = at
    return out


def _direction(pitch: Angles, side: Angles) -> Angles:
    """A unit vector that hangs down at (0, 0) and swings forwards and sideways."""
    return np.stack((np.sin(side), -np.cos(pitch) * np.cos(side), np.sin(pitch) * np.cos(side)), -1)


def _seen(rng: np.random.Generator, body: Angles, time: Angles) -> Floats:
    """From a random side, level or from above, people turning as they go."""
    count = len(body)
    yaw = rng.uniform(0, 2 * np.pi, (count, 1)) + rng.normal(0, 0.3, (count, 1)) * time
    tilt = np.clip(rng.normal(0.15, 0.2, (count, 1)), -0.2, 0.9)
    x, y, z = body[..., 0], body[..., 1], body[..., 2]
    across = x * np.cos(yaw)[..., None] + z * np.sin(yaw)[..., None]
    depth = -x * np.sin(yaw)[..., None] + z * np.cos(yaw)[..., None]
    down = -(y * np.cos(tilt)[..., None] + depth * np.sin(tilt)[..., None])
    return np.stack((across, down, np.ones_like(down)), -1).astype(np.float32)
