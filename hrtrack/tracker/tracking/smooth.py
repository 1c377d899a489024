"""One-Euro smoothing of joints and boxes, per person, in real seconds.

Casiez, Roussel, Vogel, "1 Euro Filter", CHI 2012: a low-pass filter of which the cutoff rises
with the speed, so that rest is calm and fast motion is not late.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...poses import Poses
from ...skeleton import Skeleton
from ...types import Float64Array
from ..options import Smoothing


@dataclass(frozen=True)
class OneEuroOptions:
    """``min_cutoff`` in Hz, ``beta`` in Hz per person size a second, ``d_cutoff`` in Hz.

    The author's rule: jitter at rest -> lower ``min_cutoff``; late in fast motion -> raise
    ``beta``. A joint with a score under ``min_score`` follows its body and turns to its own
    measurement only slowly; one not measured for ``forget`` seconds begins anew.
    """

    min_cutoff: float
    beta: float
    d_cutoff: float = 1.0
    min_score: float = 0.2
    forget: float = 0.5


STRENGTHS = {
    "light": OneEuroOptions(min_cutoff=0.8, beta=3.0),
    "strong": OneEuroOptions(min_cutoff=0.4, beta=1.0),
}
"""Read off docs/tracking/smooth.png: less than a frame late in fast motion at 30 frames a second,
and as calm as the error against the truth allows."""


class Smoother:
    """The filters of the people in view; whoever is out of view for long is forgotten."""

    def __init__(self, skeleton: Skeleton, strength: Smoothing | OneEuroOptions = "light") -> None:
        if isinstance(strength, str):
            self.options = None if strength == "off" else STRENGTHS[strength]
        else:
            self.options = strength
        self._joints = len(skeleton)
        self._newest = float("-inf")
        self._clear()

    def __len__(self) -> int:
        return len(self._ids)

    def update(self, poses: Poses) -> Poses:
        """The same people with joints and boxes smoothed; scores and IDs stay as they are."""
        options = self.options
        if options is None:
            return poses
        time = poses.time
        if time < self._newest - options.forget:  # rewound, or begun again
            self._clear()
        time = self._newest = max(time, self._newest)
        points = np.concatenate(
            [poses.keypoints, poses.boxes.reshape(-1, 2, 2)], axis=1, dtype=np.float64
        )
        sizes = np.maximum((poses.boxes[:, 2:] - poses.boxes[:, :2]).mean(axis=1), 1.0)
        trust = np.ones(points.shape[:2])
        trust[:, : self._joints] = np.clip(poses.scores / options.min_score, 0.0, 1.0)
        old, new = self._known(poses.ids)
        if len(old):
            points[new] = self._filter(old, points[new], trust[new], sizes[new], time)
        self._remember(poses.ids, old, new, points, time)
        return replace(
            poses,
            keypoints=points[:, : self._joints].astype(np.float32),
            boxes=points[:, self._joints :].reshape(-1, 4).astype(np.float32),
        )

    def _clear(self) -> None:
        points = self._joints + 2
        self._ids = np.zeros(0, np.int64)
        self._points = np.zeros((0, points, 2))
        self._speeds = np.zeros((0, points, 2))
        self._times = np.zeros(0)
        self._newest = float("-inf")

    def _known(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows of the memory and of the frame that are the same person."""
        old, new = np.nonzero(self._ids[:, None] == ids[None])
        recent = self._newest - self._times[old] <= self._forget
        return old[recent], new[recent]

    @property
    def _forget(self) -> float:
        return self.options.forget if self.options else 0.0

    def _filter(
        self,
        old: NDArray[np.intp],
        points: Float64Array,
        trust: Float64Array,
        sizes: Float64Array,
        time: float,
    ) -> Float64Array:
        """One step for people who have been seen before; (N, K + 2, 2) pixels."""
        assert self.options is not None
        options = self.options
        before, speeds = self._points[old], self._speeds[old]
        seconds = np.maximum(time - self._times[old], 1e-6)[:, None, None]
        size = sizes[:, None, None]
        weight = trust[:, :, None]
        step = points - before
        body = (step * weight**2).sum(axis=1, keepdims=True)
        body /= np.maximum((weight**2).sum(axis=1, keepdims=True), 1e-9)
        # A joint that is hardly seen goes where the body goes.
        step = weight * step + (1.0 - weight) * body
        speed = step / (size * seconds)
        speeds = speeds + _alpha(options.d_cutoff, seconds) * (speed - speeds)
        fast = np.sqrt((speeds**2).sum(axis=2, keepdims=True))
        alpha = _alpha(options.min_cutoff + options.beta * fast, seconds)
        self._speeds[old] = speeds
        return before + alpha * step

    def _remember(
        self,
        ids: NDArray[np.int64],
        old: NDArray[np.intp],
        new: NDArray[np.intp],
        points: Float64Array,
        time: float,
    ) -> None:
        speeds = np.zeros_like(points)
        speeds[new] = self._speeds[old]
        others = time - self._times <= self._forget
        others &= ~(self._ids[:, None] == ids[None]).any(axis=1)
        self._ids = np.concatenate([ids, self._ids[others]])
        self._points = np.concatenate([points, self._points[others]])
        self._speeds = np.concatenate([speeds, self._speeds[others]])
        self._times = np.concatenate([np.full(len(ids), time), self._times[others]])


def _alpha(cutoff: Float64Array | float, seconds: Float64Array) -> Float64Array:
    """The share of the new value in a first-order low-pass filter; cutoff in Hz."""
    return 1.0 / (1.0 + 1.0 / (2 * np.pi * cutoff * seconds))
