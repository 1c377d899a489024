"""How one person is shown to a network in training: drawn as a few numbers, and then painted.

`draw_crop` draws what is done to a person's picture and joints; a draw depends on the joints and
not on any pixel, so that it can be made where no picture is. `moved_joints` says where the joints
are then, and either of two painters makes the picture: `paint` by OpenCV for a loader's process,
`paint_all` on tensors for crops that are kept on a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ....crops import cut, sample
from ....geometry import crop_boxes, invert, rotated_affine, transform
from ....skeleton import Skeleton
from ....types import ByteArray, FloatArray
from ... import appearance
from ...appearance import Blur, Compress, Cover, Look, Noise, Recolour, Rectangle, Saturate
from .plan import Draw

if TYPE_CHECKING:
    from ....configs.pose_schema import AugmentSection, TrainConfig

ROTATION_CUT = 2.0
UPPER_SHARE = 0.69
"""The official code prefers the upper body this often (it writes ``randn() < 0.5``)."""
HALF_BODY_PADDING = 1.5 / 1.25
"""The official half body is padded by 1.5 in all."""
CUT_REACH = 0.3
"""A picture's edge cuts away up to this share of the box."""
UPPER_WORDS = (
    "nose", "eye", "ear", "head", "neck", "mouth", "thorax", "shoulder", "elbow", "wrist", "hand",
)  # fmt: skip
Edge = tuple[int, float, int]
"""An edge of the photo: its axis (0 for x), its place, and the side (+1 beyond, -1 before) of it
that is black, as the tracker's crops are there."""


@dataclass(frozen=True, slots=True)
class CropSpec:
    """One person's crop of ``size`` (height, width), before it is painted.

    ``to_crop`` (2, 3) maps the photo's pixels to the crop's, ``mirrored`` says that it turns left
    into right, ``edge`` ends the photo early, and ``look`` is what cameras do.
    """

    size: tuple[int, int]
    to_crop: FloatArray
    mirrored: bool
    edge: Edge | None
    look: Look


def draw_crop(
    rng: np.random.Generator,
    box: FloatArray,
    points: FloatArray,
    weights: FloatArray,
    *,
    size: tuple[int, int],
    padding: float,
    upper: NDArray[np.bool_],
    spec: AugmentSection,
) -> CropSpec:
    """Draws what happens to one person.

    Args:
        rng: source of all randomness.
        box: (4,) x0, y0, x1, y1 in photo pixels.
        points: (K, 2) joints in photo pixels.
        weights: (K,) 0 where a joint has no label.
        size: height and width of the crop.
        padding: how far the crop reaches past the box.
        upper: (K,) joints of the upper half of the body.
        spec: what to change, and how much.
    """
    box, edge = _half_body(rng, box, points, weights, upper, spec)
    height, width = size
    window = crop_boxes(box[None], width / height, padding)[0]
    affine = _random_affine(rng, window, size, spec)
    mirrored = bool(rng.random() < spec.flip)
    if mirrored:
        affine = np.array([[-1, 0, width - 1], [0, 1, 0]]) @ np.vstack([affine, [0, 0, 1]])
    if edge is None and rng.random() < spec.truncate:
        edge = _random_edge(rng, box)
    return CropSpec(size, affine, mirrored, edge, random_look(rng, size, spec))


def moved_joints(
    drawn: CropSpec, points: FloatArray, weights: FloatArray, mirror: NDArray[np.int64]
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Joints (K, 2) in crop pixels, their weights (K,), and which (K,) are known not to be there.

    ``mirror`` (K,) is each joint's partner in a mirror image.
    """
    height, width = drawn.size
    moved = transform(points, drawn.to_crop)
    beyond_edges = (moved < -2) | (moved > np.array([width + 1, height + 1]))
    outside: NDArray[np.bool_] = np.asarray(beyond_edges.any(axis=1))
    if drawn.edge is not None:
        axis, at, side = drawn.edge
        outside |= side * (points[:, axis] - at) > 0
    if drawn.mirrored:
        moved, weights, outside = moved[mirror], weights[mirror], outside[mirror]
    return moved, weights, outside


Drawn = tuple[CropSpec, FloatArray, FloatArray, NDArray[np.bool_]]
"""A crop, its joints (K, 2), weights (K,) and which joints (K,) are outside (`moved_joints`)."""


class Augmentation:
    """Draws crops by the seed and each one's position alone, whoever paints them."""

    def __init__(self, skeleton: Skeleton, config: TrainConfig) -> None:
        self._seed, self._padding, self._spec = (
            config.fit.seed, config.input.padding, config.augment,
        )  # fmt: skip
        self._mirror = np.array(skeleton.mirror)
        self._upper = upper_joints(skeleton)

    def __call__(
        self, draw: Draw, box: FloatArray, points: FloatArray, weights: FloatArray
    ) -> tuple[Drawn, np.random.Generator]:
        """One person's crop, and what draws its noise.

        Args:
            draw: says which size, and by its position which numbers.
            box: (4,) x0, y0, x1, y1 in pixels of the picture that it will be cut from.
            points: (K, 2) joints there.
            weights: (K,) 0 where a joint has no label.
        """
        rng = np.random.default_rng([self._seed, 1, draw.position])
        drawn = draw_crop(
            rng, box, points, weights,
            size=draw.size, padding=self._padding, upper=self._upper, spec=self._spec,
        )  # fmt: skip
        return (drawn, *moved_joints(drawn, points, weights, self._mirror)), rng


def upper_joints(skeleton: Skeleton) -> NDArray[np.bool_]:
    """Which joints belong to the upper half of the body, read off their names."""
    return np.array([any(word in name for word in UPPER_WORDS) for name in skeleton.joints])


def paint(photo_HW3: ByteArray, drawn: CropSpec, rng: np.random.Generator) -> ByteArray:
    """The crop (H, W, 3) of an RGB photo, by OpenCV; ``rng`` draws the noise."""
    crop = cut(photo_HW3, drawn.to_crop, drawn.size)
    if drawn.edge is not None:
        axis, at, side = drawn.edge
        x, y, shift = invert(drawn.to_crop)[axis]
        along, down = np.arange(crop.shape[1]), np.arange(crop.shape[0])[:, None]
        crop[side * (x * along + y * down + shift - at) > 0] = 0
    return appearance.paint(crop, drawn.look, rng)


def paint_all(pictures: Tensor, drawn: Sequence[CropSpec], dice: torch.Generator) -> Tensor:
    """Crops (N, H, W, 3) uint8 of N pictures (N, h, w, 3) uint8 RGB on any device.

    All are of one size; ``dice`` draws the noise, on that device.
    """
    device, (height, width) = pictures.device, drawn[0].size
    back = invert(np.stack([one.to_crop for one in drawn])).astype(np.float32)
    crops = sample(pictures, torch.from_numpy(back).to(device), (height, width))
    cut_off = [(row, one.edge) for row, one in enumerate(drawn) if one.edge is not None]
    if cut_off:
        # side * (x along + y down + shift - at) > 0 lies beyond the edge, as in `paint`.
        lines = np.array([[*(s * back[r, axis]), s * at] for r, (axis, at, s) in cut_off])
        x, y, shift, at = (
            torch.from_numpy(lines.astype(np.float32)).to(device)[..., None, None].unbind(1)
        )
        along = torch.arange(width, device=device)
        down = torch.arange(height, device=device)[:, None]
        rows = torch.tensor([row for row, _ in cut_off]).to(device)
        crops[rows] *= (x * along + y * down + shift - at <= 0)[:, None]
    cut_out = crops.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return appearance.paint_all(cut_out, [one.look for one in drawn], dice)


def _half_body(
    rng: np.random.Generator,
    box: FloatArray,
    points: FloatArray,
    weights: FloatArray,
    upper: NDArray[np.bool_],
    spec: AugmentSection,
) -> tuple[FloatArray, Edge | None]:
    """A box around half of the joints, and the picture edge that made it so, if any."""
    known = weights > 0
    if known.sum() <= spec.half_body_joints or rng.random() >= spec.half_body:
        return box, None
    want_upper = rng.random() < UPPER_SHARE
    chosen = known & (upper if want_upper else ~upper)
    if chosen.sum() < 3:
        return box, None
    low, high = points[chosen].min(axis=0), points[chosen].max(axis=0)
    middle, half = (low + high) / 2, np.maximum(high - low, 8) / 2 * HALF_BODY_PADDING
    new = np.concatenate([middle - half, middle + half])
    if want_upper and rng.random() < spec.truncate:
        return new, (1, float(new[3]), 1)
    return new, None


def _random_affine(
    rng: np.random.Generator, window: FloatArray, size: tuple[int, int], spec: AugmentSection
) -> FloatArray:
    """The official random scale and rotation about the window's centre, and a shift."""
    scale = np.clip(1 + rng.normal() * spec.scale, 1 - spec.scale, 1 + spec.scale)
    degrees = 0.0
    if rng.random() < spec.rotation_probability:
        degrees = spec.rotation * np.clip(rng.normal(), -ROTATION_CUT, ROTATION_CUT)
    sides = window[2:] * scale
    centre = window[:2] + rng.normal(size=2) * spec.shift * sides
    return rotated_affine(centre, float(sides[0]), float(degrees), size)


def _random_edge(rng: np.random.Generator, box: FloatArray) -> Edge:
    """A picture edge through the box: axis, place, and the side (+1 beyond, -1 before) cut off."""
    axis, side = int(rng.integers(2)), int(rng.choice([-1, 1]))
    reach = rng.uniform(0, CUT_REACH) * (box[axis + 2] - box[axis])
    return axis, float(box[axis + 2] - reach if side > 0 else box[axis] + reach), side


def random_look(rng: np.random.Generator, size: tuple[int, int], spec: AugmentSection) -> Look:
    """Blur, light and colour, grey, noise, compression, and things in the way."""
    blur = _random_blur(rng) if rng.random() < spec.blur else None
    colours = _random_colours(rng) if rng.random() < spec.colour else (None, None)
    grey = Saturate(0.0) if rng.random() < spec.grey else None
    noise = Noise(rng.uniform(3, 15), coloured=False) if rng.random() < spec.noise else None
    jpeg = Compress(int(rng.integers(15, 70))) if rng.random() < spec.compression else None
    cover = _random_cover(rng, size) if rng.random() < spec.occlusion else None
    return blur, *colours, grey, noise, jpeg, cover


def _random_blur(rng: np.random.Generator) -> Blur:
    kind = rng.integers(3)
    if kind == 0:
        return Blur("shrunk", rng.uniform(1 / 3, 2 / 3))
    if kind == 1:
        return Blur("size", int(rng.choice([3, 5])))
    length = int(rng.choice([5, 7]))
    return Blur("across" if rng.random() < 0.5 else "down", length)


def _random_colours(rng: np.random.Generator) -> tuple[Recolour, Saturate]:
    """Gamma, contrast, brightness and a tint by table, then saturation."""
    gamma, contrast = np.exp(rng.normal(0, 0.25)), np.exp(rng.normal(0, 0.2))
    light = rng.normal(0, 20) + rng.normal(0, 8, 3)
    ramp = (np.linspace(0, 1, 256) ** gamma - 0.5) * contrast * 255 + 127.5
    table = np.clip(ramp[:, None] + light, 0, 255).astype(np.uint8)
    return Recolour(table), Saturate(rng.uniform(0.4, 1.6))


def _random_cover(rng: np.random.Generator, size: tuple[int, int]) -> Cover:
    """One or two rectangles of a plain colour or of another part of the crop."""
    sides = np.array(size)
    rectangles: list[Rectangle] = []
    for _ in range(rng.integers(1, 3)):
        h, w = np.maximum(sides * rng.uniform(0.08, 0.32, 2), 1).astype(int).tolist()
        y, x = rng.integers(0, sides - (h, w)).tolist()
        if rng.random() < 0.5:
            red, green, blue = rng.integers(0, 256, 3).tolist()
            rectangles.append((y, x, h, w, (red, green, blue), (y, x)))
        else:
            v, u = rng.integers(0, sides - (h, w)).tolist()
            rectangles.append((y, x, h, w, None, (v, u)))
    return Cover(tuple(rectangles))
