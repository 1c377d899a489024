"""Does a converted network still say what PyTorch said? Pure numpy, so that every back end can ask.

The pictures it is asked about are drawn by this file, the same on every machine: no exported
model can depend on somebody's photos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..skeleton import Skeleton
from ..types import Float32Array

DECIDED = 0.2
"""Joints that PyTorch scores lower have no place worth comparing."""
JUMP = 8.0
"""A joint whose map has two nearly equal peaks may jump; in the mean it counts as two cells."""
ENOUGH = 12
"""With fewer decided joints (other keypoints, a short training) the maps are compared instead."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The most a converted network may differ from PyTorch in float32."""

    mean_pixels: float
    p95_pixels: float
    oks: float
    mean_score: float
    maps: float


TOLERANCES = {
    "fp32": Tolerance(0.05, 0.1, 0.999, 0.002, 0.005),
    "fp16": Tolerance(0.25, 0.5, 0.98, 0.01, 0.05),
    "bf16": Tolerance(0.4, 1.2, 0.97, 0.02, 0.15),
    "int8": Tolerance(1.5, 4.0, 0.95, 0.06, 0.4),
}
"""By precision of the trunk, in crop pixels; scores relative to the highest, maps to their spread.

Maps of another crop differ by 1. After two steps of training fp16 was measured at 0.006, bf16 at
0.04 and 8 bits at 0.14, after sixty at a quarter of that.
"""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two answers lie apart; distances only over the ``decided`` joints.

    ``maps`` is the root mean square difference of the heatmaps over the standard deviation within
    the reference's, None where they were not compared.
    """

    crops: int
    decided: int
    mean_pixels: float
    p95_pixels: float
    oks: float
    mean_score: float
    maps: float | None = None

    @property
    def sure(self) -> bool:
        """Whether enough joints were decided for their places to be compared."""
        return self.decided >= ENOUGH

    def within(self, tolerance: Tolerance) -> bool:
        """Whether the difference may be accepted: by places, or by maps where too few are sure."""
        near = (
            self.mean_pixels <= tolerance.mean_pixels
            and self.p95_pixels <= tolerance.p95_pixels
            and self.oks >= tolerance.oks
        )
        alike = self.maps is None or self.maps <= tolerance.maps
        return self.mean_score <= tolerance.mean_score and (near if self.sure else alike)

    def __str__(self) -> str:
        if not self.sure:
            maps = "" if self.maps is None else f"{self.maps:.4f} of the heatmaps' spread and "
            count = "no joint was" if self.decided == 0 else f"only {self.decided} joints were"
            return f"{maps}{self.mean_score:.4f} in the scores ({count} sure)"
        return (
            f"{self.mean_pixels:.3f} px mean and {self.p95_pixels:.3f} px p95 over "
            f"{self.decided} joints, OKS {self.oks:.4f}, score {self.mean_score:.4f}"
        )


def compare(
    reference: Float32Array,
    found: Float32Array,
    skeleton: Skeleton,
    input_hw: tuple[int, int],
    maps: tuple[Float32Array, Float32Array] | None = None,
) -> Agreement:
    """Compares keypoints (N, K, 3) of the same crops, in crop pixels.

    ``maps`` are both heatmaps (N, K, h, w), by which networks are judged that are sure of nothing.
    """
    decided = reference[..., 2] >= DECIDED
    distance = np.linalg.norm(reference[..., :2] - found[..., :2], axis=2)[decided]
    # The person fills the crop but for the padding around it.
    area = np.full(len(reference), input_hw[0] * input_hw[1] / geometry.PADDING**2)
    sigmas = np.array(skeleton.sigmas)
    similar = geometry.aligned_oks(
        found[..., :2], reference[..., :2], area, sigmas, decided.astype(np.float32)
    )
    counted = decided.any(axis=1)
    highest = max(float(reference[..., 2].max(initial=0)), 1e-6)
    some = len(distance) > 0
    return Agreement(
        crops=len(reference),
        decided=int(decided.sum()),
        mean_pixels=float(np.minimum(distance, JUMP).mean()) if some else 0.0,
        p95_pixels=float(np.percentile(distance, 95)) if some else 0.0,
        oks=float(similar[counted].mean()) if some else 1.0,
        mean_score=float(np.abs(reference[..., 2] - found[..., 2]).mean()) / highest,
        maps=None if maps is None else _apart(*maps),
    )


def decided_joints(keypoints: Float32Array) -> int:
    """How many of keypoints (N, K, 3) have a place worth comparing."""
    return int((keypoints[..., 2] >= DECIDED).sum())


def _apart(reference: Float32Array, found: Float32Array) -> float:
    within = reference - reference.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    # Of maps that are flat to float32's last digits nothing but the height can be compared.
    spread = max(float(within.std()), 1e-5 * float(np.abs(reference).max(initial=0)), 1e-12)
    return float(np.sqrt(np.square(found - reference, dtype=np.float64).mean())) / spread


def drawn_crops(input_hw: tuple[int, int], count: int = 8) -> NDArray[np.uint8]:
    """People of capsules before a blurred background, with noise: (count, H, W, 3) uint8."""
    return np.stack([_drawn(np.random.default_rng(seed), input_hw) for seed in range(count)])


LIMBS = (
    (0, 1, 0.055), (2, 4, 0.038), (4, 6, 0.030), (3, 5, 0.038), (5, 7, 0.030),
    (8, 10, 0.052), (10, 12, 0.038), (9, 11, 0.052), (11, 13, 0.038),
)  # fmt: skip
"""Capsules between `_joints`, as from, to and radius over the crop's height."""


def _drawn(r: np.random.Generator, input_hw: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = input_hw
    y, x = np.mgrid[:height, :width].astype(np.float32)
    image = _background(r, height, width)
    points = _joints(r) * height + np.array([width / 2, 0])
    skin, shirt, trousers = r.uniform(90, 220, 3) * [1, 0.8, 0.7], *r.uniform(20, 230, (2, 3))
    neck, hip = points[0], points[1]
    for side in (-1, 0, 1):
        offset = np.array([side * 0.04 * height, 0])
        _capsule(image, x, y, neck + offset, hip + offset * 0.8, 0.05 * height, shirt)
    for start, end, radius in LIMBS[5:]:
        _capsule(image, x, y, points[start], points[end], radius * height, trousers)
    for start, end, radius in LIMBS[1:5]:
        colour = shirt if start < 4 else skin
        _capsule(image, x, y, points[start], points[end], radius * height, colour)
    head = neck - [0, 0.09 * height]
    _capsule(image, x, y, neck, head, 0.025 * height, skin)
    _capsule(image, x, y, head - [0, 0.03 * height], head, 0.05 * height, skin)
    _capsule(image, x, y, head - [0, 0.06 * height], head - [0, 0.05 * height],
             0.045 * height, skin * 0.3)  # fmt: skip
    noisy = image + r.normal(0, 6, image.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def _joints(r: np.random.Generator) -> NDArray[np.float64]:
    """Neck, hip centre, then left/right shoulders, elbows, wrists, hips, knees, ankles.

    In crop heights, x from the middle of the crop.
    """
    neck, hip = np.array([r.normal(0, 0.02), 0.28]), np.array([r.normal(0, 0.02), 0.53])
    side = np.array([1, -1])

    def beside(middle: NDArray[np.float64], x: float) -> NDArray[np.float64]:
        return middle + np.stack([side * x, [0.0, 0.0]], axis=1)

    def limbs(
        starts: NDArray[np.float64], angles: NDArray[np.float64], length: float
    ) -> NDArray[np.float64]:
        return starts + length * np.stack([side * np.sin(angles), np.cos(angles)], axis=1)

    shoulders, hips = beside(neck + np.array([0, 0.01]), 0.075), beside(hip, 0.045)
    upper, fore = r.uniform(-0.3, 1.6, 2), r.uniform(-0.2, 1.8, 2)
    thigh, shin = r.uniform(-0.1, 0.5, 2), r.uniform(-0.5, 0.1, 2)
    elbows, knees = limbs(shoulders, upper, 0.14), limbs(hips, thigh, 0.2)
    wrists, ankles = limbs(elbows, upper + fore, 0.12), limbs(knees, thigh + shin, 0.2)
    return np.concatenate([[neck, hip], shoulders, elbows, wrists, hips, knees, ankles])


def _background(r: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """A few random colours, smoothly mixed."""
    rows, columns = np.linspace(0, 3, height), np.linspace(0, 2, width)
    colours = r.uniform(20, 235, (4, 3, 3))

    def weights(at: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        hats = np.clip(1 - np.abs(at[:, None] - np.arange(count)), 0, 1)
        return hats * hats * (3 - 2 * hats)

    return np.einsum("yi,xj,ijc->yxc", weights(rows, 4), weights(columns, 3), colours)


def _capsule(
    image: NDArray[np.float64], x: Float32Array, y: Float32Array, start: NDArray[np.float64],
    end: NDArray[np.float64], radius: float, colour: NDArray[np.float64],
) -> None:  # fmt: skip
    """Paints a shaded line with round ends over the image."""
    along = end - start
    share = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / max(along @ along, 1e-6)
    share = share.clip(0, 1)
    distance = np.hypot(x - start[0] - share * along[0], y - start[1] - share * along[1])
    cover = (radius - distance + 0.5).clip(0, 1)[..., None]
    shade = 1.1 - 0.5 * (distance / radius)[..., None] ** 2
    image += cover * (colour * shade - image)
