"""Constant-velocity motion of many boxes at once, in seconds rather than frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...types import Float64Array

SIZE_NOISE = 3.0
"""Width and height of a box are so many times noisier than its centre: a stretched arm moves
one side alone (measured on Penn Action, docs/tracking.md)."""
_RATIO = np.array([1.0, 1.0, SIZE_NOISE, SIZE_NOISE])
SIZE_STEADY = 0.1
"""Time constant in seconds with which the growth of a box dies away at the latest: an arm that goes
up comes down again. A box that went on shrinking unseen would be gone within half a second."""
_STEADIEST = np.array([np.inf, np.inf, SIZE_STEADY, SIZE_STEADY])

HOLD = 1 / 20
"""Seconds for which an acceleration lasts before another, independent one begins. Within it a
spread of accelerations changes velocities in proportion to the time, beyond it to its root: without
that, people seen five times a second would be expected to run in all directions at once."""


@dataclass(slots=True)
class Motion:
    """Kalman filters of T boxes; each of the four coordinates has a filter of its own.

    ``position`` (T, 4) is centre x, centre y, width, height in pixels; ``velocity`` (T, 4)
    its change in pixels a second; ``covariance`` (T, 4, 3) holds the variances of position
    and velocity and, in the middle, their covariance.
    """

    position: Float64Array
    velocity: Float64Array
    covariance: Float64Array

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.integer]) -> Motion:
        return Motion(self.position[index], self.velocity[index], self.covariance[index])

    def __setitem__(self, index: NDArray[np.integer], other: Motion) -> None:
        self.position[index] = other.position
        self.velocity[index] = other.velocity
        self.covariance[index] = other.covariance

    @property
    def sizes(self) -> Float64Array:
        """(T, 1) the mean of width and height, which a stretched arm changes least."""
        return np.maximum(self.position[:, 2:].mean(axis=1, keepdims=True), 1.0)


def start(boxes: Float64Array, noise: float) -> Motion:
    """Filters at rest on boxes (T, 4); ``noise`` is the spread of their centres in sizes."""
    position = to_centres(boxes)
    motion = Motion(position, np.zeros_like(position), np.zeros((len(boxes), 4, 3)))
    motion.covariance[:, :, 0] = variances(motion, noise)
    motion.covariance[:, :, 2] = motion.sizes**2  # a person may move a size a second
    return motion


def join(a: Motion, b: Motion) -> Motion:
    """The filters of ``a`` followed by those of ``b``."""
    return Motion(
        np.concatenate([a.position, b.position]),
        np.concatenate([a.velocity, b.velocity]),
        np.concatenate([a.covariance, b.covariance]),
    )


def predict(
    motion: Motion, seconds: float, acceleration: float, damping: Float64Array | float
) -> Motion:
    """Where the boxes will be.

    Args:
        motion: the filters now.
        seconds: how far ahead.
        acceleration: spread of the white acceleration in person sizes a second squared.
        damping: time constant, one or (T,), in seconds with which a velocity dies away, so
            that someone who is not seen for long is not carried out of the picture; that of a
            size with `SIZE_STEADY` at the latest.
    """
    constant = np.minimum(np.asarray(damping, np.float64).reshape(-1, 1), _STEADIEST)
    keep = np.exp(-seconds / constant)
    reach = constant * (1.0 - keep)
    old = motion.covariance
    noise = (acceleration * motion.sizes) ** 2 * min(seconds, HOLD)
    covariance = np.empty_like(old)
    covariance[:, :, 0] = (
        old[:, :, 0] + 2 * reach * old[:, :, 1] + reach**2 * old[:, :, 2] + noise * (seconds**3 / 4)
    )
    covariance[:, :, 1] = (
        keep * old[:, :, 1] + keep * reach * old[:, :, 2] + noise * (seconds**2 / 2)
    )
    covariance[:, :, 2] = keep**2 * old[:, :, 2] + noise * seconds
    position = motion.position + reach * motion.velocity
    position[:, 2:] = np.maximum(position[:, 2:], 0.5 * motion.position[:, 2:])
    return Motion(position, keep * motion.velocity, covariance)


def variances(motion: Motion, noise: float) -> Float64Array:
    """Variances (T, 4) of measured boxes of which the centre has a spread ``noise`` in sizes."""
    return (noise * motion.sizes * _RATIO) ** 2


def correct(motion: Motion, boxes: Float64Array, noise: float, sure: Float64Array) -> Motion:
    """The filters after boxes (T, 4) were measured with a spread ``noise`` in sizes.

    ``sure`` (T,) is the chance that a box shows this person; the less, the less it corrects.
    """
    error = to_centres(boxes) - motion.position
    old = motion.covariance
    variance = variances(motion, noise) / np.maximum(sure, 0.01)[:, None]
    gain = old[:, :, :2] / (old[:, :, :1] + variance[:, :, None])
    covariance = np.empty_like(old)
    covariance[:, :, :2] = (1.0 - gain[:, :, :1]) * old[:, :, :2]
    covariance[:, :, 2] = old[:, :, 2] - gain[:, :, 1] * old[:, :, 1]
    return Motion(
        motion.position + gain[:, :, 0] * error,
        motion.velocity + gain[:, :, 1] * error,
        covariance,
    )


def to_centres(boxes: Float64Array) -> Float64Array:
    """Boxes (N, 4) x0, y0, x1, y1 as centre x, centre y, width, height."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=1)


def to_corners(centres: Float64Array) -> Float64Array:
    """The inverse of `to_centres`."""
    middle, half = centres[:, :2], centres[:, 2:] / 2
    return np.concatenate([middle - half, middle + half], axis=1)
