"""Crops that stay on the training device and are augmented there: no loader to wait for.

Every person is cut out once, larger than a network's crop, and kept as uint8. A batch is then one
gather, one resampling and a few pointwise operations on the device. What `augment.py` does by
JPEG is left out here; the rest has the same strengths and probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ....datasets.people import People
from ....errors import ConfigError, DataError
from ....geometry import crop_affines, crop_boxes, transform
from ....skeleton import Skeleton
from ....trainer.processes import free_memory
from .augment import CUT_REACH, HALF_BODY_PADDING, ROTATION_CUT, UPPER_SHARE
from .loader import Batch, upper_joints
from .plan import Draw

if TYPE_CHECKING:
    from ....configs.pose_schema import AugmentSection, TrainConfig

ROOM = 1.5
"""How much further a kept crop reaches than the network's, for shifts and rotations."""


@dataclass(frozen=True, slots=True)
class CachedCrops:
    """N people on one device, each a square crop; coordinates are pixels of these crops."""

    crops: Tensor  # (N, S, S, 3) uint8 RGB
    boxes: Tensor  # (N, 4) x0, y0, x1, y1
    points: Tensor  # (N, K, 2)
    weights: Tensor  # (N, K)
    unreadable: frozenset[int] = frozenset()  # rows without a photo; they weigh nothing


def require_room(count: int, side: int, device: torch.device) -> None:
    """ConfigError where so many squares do not fit into the memory of a CPU's machine."""
    needed, free = 3 * count * side**2, free_memory() if device.type == "cpu" else None
    if free is not None and needed > free:
        raise ConfigError(
            f"the crops of {count} people need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB "
            "are free: set data.resident=false, or a smaller data.resident_side"
        )


def cache_crops(people: People, side: int, padding: float, device: torch.device) -> CachedCrops:
    """Cuts everybody out as squares of ``side`` pixels, `ROOM` times as wide as a padded box.

    ConfigError where they do not fit into the memory of a CPU's machine.
    """
    require_room(len(people), side, device)
    windows = crop_boxes(people.boxes, 1.0, padding * ROOM)
    affines = crop_affines(windows, (side, side))
    crops = torch.zeros((len(people), side, side, 3), dtype=torch.uint8, device=device)
    unreadable = []
    for row in range(len(people)):
        try:
            photo = people.photo(row)
        except DataError:
            unreadable.append(row)
            continue
        cut = cv2.warpAffine(photo, affines[row], (side, side), flags=cv2.INTER_LINEAR)
        crops[row] = torch.from_numpy(cut).to(device)

    def tensor(array: NDArray[np.floating]) -> Tensor:
        return torch.from_numpy(np.asarray(array, np.float32)).to(device)

    weights = tensor(people.weights).clone()
    weights[unreadable] = 0
    return CachedCrops(
        crops=crops,
        boxes=tensor(transform(people.boxes.reshape(-1, 2, 2), affines)).reshape(-1, 4),
        points=tensor(transform(people.keypoints, affines)),
        weights=weights,
        unreadable=frozenset(unreadable),
    )


class CropCache:
    """Augmented batches of people who are kept on a device."""

    def __init__(self, cached: CachedCrops, skeleton: Skeleton, config: TrainConfig) -> None:
        self.config, self.cached, self.device = config, cached, cached.crops.device
        self.mirror = torch.tensor(skeleton.mirror, device=self.device)
        self.upper = torch.from_numpy(upper_joints(skeleton)).to(self.device)

    @classmethod
    def of(cls, people: People, config: TrainConfig, device: torch.device) -> CropCache:
        """Cuts the people out as the configuration says, and keeps them on ``device``."""
        cached = cache_crops(people, config.data.resident_side, config.input.padding, device)
        return cls(cached, people.skeleton, config)

    def batches(self, parts: Iterable[list[Draw]]) -> Iterator[Batch]:
        """Batches for the draws in ``parts``; their randomness depends on seed and position."""
        for draws in parts:
            random = torch.Generator(self.device)
            random.manual_seed((self.config.fit.seed << 40) + draws[0].position)
            bad = tuple(draw.row for draw in draws if draw.row in self.cached.unreadable)
            yield self._batch(draws, random, bad)

    def _batch(self, draws: list[Draw], random: torch.Generator, bad: tuple[int, ...]) -> Batch:
        spec, size = self.config.augment, draws[0].size
        rows = torch.tensor([draw.row for draw in draws], device=self.device)
        points, weights = self.cached.points[rows], self.cached.weights[rows]
        dice = _Dice(random, len(rows), self.device)
        boxes, half = self._boxes(rows, points, weights, dice, spec)
        affine, turned = self._affines(boxes, size, dice, spec)
        edge = _edges(boxes, half, dice, spec)
        crops = _resampled(self.cached.crops[rows], affine, size, edge)
        moved = points @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]
        limit = torch.tensor([size[1] + 1.0, size[0] + 1.0], device=self.device)
        outside = ((moved < -2) | (moved > limit)).any(dim=2) | _beyond(points, edge)
        chosen = torch.where(turned[:, None], self.mirror, torch.arange(len(self.mirror)).to(rows))
        return Batch(
            crops=_appearance(crops, dice, spec),
            points=moved.gather(1, chosen[..., None].expand(-1, -1, 2)),
            weights=weights.gather(1, chosen),
            outside=outside.gather(1, chosen),
            sigma=draws[0].sigma,
            unreadable=bad,
        )

    def _boxes(
        self, rows: Tensor, points: Tensor, weights: Tensor, dice: _Dice, spec: AugmentSection
    ) -> tuple[Tensor, Tensor]:
        """Boxes (N, 4), some around half a body, and which are upper halves."""
        known = weights > 0
        want_upper = dice.chance(UPPER_SHARE)
        chosen = known & torch.where(want_upper[:, None], self.upper, ~self.upper)
        applies = (
            (known.sum(dim=1) > spec.half_body_joints)
            & (chosen.sum(dim=1) >= 3)
            & dice.chance(spec.half_body)
        )
        far = torch.full_like(points, math.inf)
        low = torch.where(chosen[..., None], points, far).amin(dim=1)
        high = torch.where(chosen[..., None], points, -far).amax(dim=1)
        middle, reach = (low + high) / 2, (high - low).clamp(min=8) / 2 * HALF_BODY_PADDING
        halves = torch.cat([middle - reach, middle + reach], dim=1)
        return torch.where(applies[:, None], halves, self.cached.boxes[rows]), applies & want_upper

    def _affines(
        self, boxes: Tensor, size: tuple[int, int], dice: _Dice, spec: AugmentSection
    ) -> tuple[Tensor, Tensor]:
        """Maps (N, 2, 3) from kept to network crops, as in `augment.py`, and who is mirrored."""
        height, width = size
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        sides = boxes[:, 2:] - boxes[:, :2]
        wide = torch.maximum(sides[:, 0], sides[:, 1] * width / height).clamp(min=1e-3)
        scale = (1 + dice.normal() * spec.scale).clamp(1 - spec.scale, 1 + spec.scale)
        wide = wide * self.config.input.padding * scale
        window = torch.stack([wide, wide * height / width], dim=1)
        centre = centre + torch.stack([dice.normal(), dice.normal()], dim=1) * spec.shift * window
        degrees = spec.rotation * dice.normal().clamp(-ROTATION_CUT, ROTATION_CUT)
        angle = torch.deg2rad(degrees * dice.chance(spec.rotation_probability))
        zoom = width / wide
        cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
        linear = torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)
        goal = torch.tensor([width / 2, height / 2], device=self.device)
        shift = goal - (linear @ centre[..., None])[..., 0]
        affine = torch.cat([linear, shift[..., None]], dim=2)
        turned = dice.chance(spec.flip)
        mirrored = affine.clone()
        mirrored[:, 0] = -affine[:, 0]
        mirrored[:, 0, 2] += width - 1
        return torch.where(turned[:, None, None], mirrored, affine), turned


class _Dice:
    """Random numbers, one for each person."""

    def __init__(self, random: torch.Generator, count: int, device: torch.device) -> None:
        self.random, self.count, self.device = random, count, device

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self.count, *shape, generator=self.random, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.count, *shape, generator=self.random, device=self.device)

    def chance(self, probability: float) -> Tensor:
        return self.uniform() < probability


Edge = tuple[Tensor, Tensor, Tensor, Tensor]
"""Axis (0, 1), place, side (+1, -1) and whether it is there, each (N,)."""


def _edges(boxes: Tensor, half: Tensor, dice: _Dice, spec: AugmentSection) -> Edge:
    axis = torch.where(half, 1, (dice.uniform() < 0.5).long())
    side = torch.where(half, 1.0, (dice.uniform() < 0.5).float() * 2 - 1)
    low, high = boxes.gather(1, axis[:, None])[:, 0], boxes.gather(1, axis[:, None] + 2)[:, 0]
    reach = dice.uniform() * CUT_REACH * (high - low) * ~half
    return axis, torch.where(side > 0, high - reach, low + reach), side, dice.chance(spec.truncate)


def _beyond(points: Tensor, edge: Edge) -> Tensor:
    """Which points (N, P, 2) lie beyond the edge: (N, P)."""
    axis, at, side, there = edge
    along = torch.where(axis[:, None] == 0, points[..., 0], points[..., 1])
    return (side[:, None] * (along - at[:, None]) > 0) & there[:, None]


def _resampled(cached: Tensor, affine: Tensor, size: tuple[int, int], edge: Edge) -> Tensor:
    """Bilinear samples (N, H, W, 3) as floats in 0-255, black outside and beyond the edge."""
    height, width = size
    side = cached.shape[1]
    device = cached.device
    grid_y, grid_x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    places = torch.stack([grid_x, grid_y], dim=2).reshape(1, -1, 2).float()
    inverse = torch.linalg.inv_ex(affine[:, :, :2]).inverse  # inv waits for the GPU
    source = (places - affine[:, None, :, 2]) @ inverse.transpose(1, 2)
    grid = ((source * 2 + 1) / side - 1).reshape(-1, height, width, 2)
    images = cached.permute(0, 3, 1, 2).float()
    crops = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    seen = ~_beyond(source, edge).reshape(-1, 1, height, width)
    return (crops * seen).permute(0, 2, 3, 1)


def _appearance(crops: Tensor, dice: _Dice, spec: AugmentSection) -> Tensor:
    """Blur, light and colour, noise and occlusion on float crops; uint8 comes out."""
    wide = (slice(None), None, None, None)
    blurred = F.avg_pool2d(crops.permute(0, 3, 1, 2), 3, 1, 1, count_include_pad=False)
    crops = torch.where(dice.chance(spec.blur)[wide], blurred.permute(0, 2, 3, 1), crops)
    gamma, contrast = torch.exp(0.25 * dice.normal()), torch.exp(0.2 * dice.normal())
    lit = ((crops / 255).clamp(0, 1) ** gamma[wide] - 0.5) * contrast[wide] * 255 + 127.5
    lit = lit + 20 * dice.normal()[wide] + 8 * dice.normal(3)[:, None, None]
    grey = _luminance(lit)
    lit = grey + (lit - grey) * (0.4 + 1.2 * dice.uniform())[wide]
    crops = torch.where(dice.chance(spec.colour)[wide], lit, crops)
    crops = torch.where(dice.chance(spec.grey)[wide], _luminance(crops), crops)
    noise = dice.normal(*crops.shape[1:3], 1) * (3 + 12 * dice.uniform())[wide]
    crops = crops + noise * dice.chance(spec.noise)[wide]
    for _ in range(2):
        plain = 255 * dice.uniform(1, 1, 3)
        crops = torch.where(_rectangles(crops, dice, spec.occlusion), plain, crops)
    return crops.round().clamp(0, 255).to(torch.uint8)


def _luminance(crops: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114], device=crops.device)
    return (crops * weights).sum(dim=3, keepdim=True).expand_as(crops)


def _rectangles(crops: Tensor, dice: _Dice, probability: float) -> Tensor:
    """Which pixels (N, H, W, 1) one random rectangle covers."""
    inside = dice.chance(probability)[:, None, None]
    for axis, length in ((1, crops.shape[1]), (2, crops.shape[2])):
        extent = 0.08 + 0.24 * dice.uniform()
        begin = dice.uniform() * (1 - extent)
        place = torch.arange(length, device=crops.device) / length
        along = (place >= begin[:, None]) & (place < (begin + extent)[:, None])
        inside = inside & (along[:, :, None] if axis == 1 else along[:, None, :])
    return inside[..., None]
