"""Crops that stay on the training device and are augmented there: no loader to wait for.

Every person is cut out once, larger than a network's crop, and kept as uint8. A batch is drawn as
any other (`Augmentation`), and painted on the device (`paint_all`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ....crops import cut
from ....datasets.people import People
from ....errors import ConfigError, DataError
from ....geometry import box_affines, transform
from ....skeleton import Skeleton
from ....trainer.processes import free_memory
from ....types import Float32Array
from .augment import Augmentation, CropSpec, Drawn, paint_all
from .loader import Batch, loaded
from .plan import Draw

if TYPE_CHECKING:
    from ....configs.pose_schema import TrainConfig

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
    affines = box_affines(people.boxes, (side, side), padding * ROOM)
    crops = torch.zeros((len(people), side, side, 3), dtype=torch.uint8, device=device)
    unreadable = []
    for row in range(len(people)):
        try:
            photo = people.photo(row)
        except DataError:
            unreadable.append(row)
            continue
        crops[row] = torch.from_numpy(cut(photo, affines[row], (side, side))).to(device)

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
        self._drawings = _Drawings(cached, Augmentation(skeleton, config))

    @classmethod
    def of(cls, people: People, config: TrainConfig, device: torch.device) -> CropCache:
        """Cuts the people out as the configuration says, and keeps them on ``device``."""
        cached = cache_crops(people, config.data.resident_side, config.input.padding, device)
        return cls(cached, people.skeleton, config)

    def batches(self, parts: Iterable[list[Draw]]) -> Iterator[Batch]:
        """Batches for the draws in ``parts``; their randomness depends on seed and position."""
        # Drawing takes a core .15 ms a crop, and a GPU learns from one in .3 ms
        # (docs/gpu_training.md); few processes draw ahead, for a stage by the clock begins late.
        workers = min(self.config.data.workers, 4) if self.device.type == "cuda" else 0
        for drawings in loaded(self._drawings, parts, collate_drawn, workers, 0):
            yield self._painted(drawings)

    def _painted(self, drawings: Drawings) -> Batch:
        draws = drawings.draws
        dice = torch.Generator(self.device)
        dice.manual_seed((self.config.fit.seed << 40) + draws[0].position)
        rows = torch.tensor([draw.row for draw in draws]).to(self.device)
        crops = paint_all(self.cached.crops[rows], drawings.crops, dice)
        points, weights, outside = (
            torch.from_numpy(part).to(self.device, non_blocking=True)
            for part in (drawings.points, drawings.weights, drawings.outside)
        )
        return Batch(
            crops=crops,
            points=points,
            weights=weights,
            outside=outside,
            sigma=draws[0].sigma,
            unreadable=tuple(draw.row for draw in draws if draw.row in self.cached.unreadable),
        )


@dataclass(frozen=True, slots=True)
class Drawings:
    """A batch that is drawn and not yet painted; joints as in `Batch`."""

    draws: list[Draw]
    crops: list[CropSpec]
    points: Float32Array
    weights: Float32Array
    outside: NDArray[np.bool_]


class _Drawings(Dataset[tuple[Draw, Drawn]]):
    def __init__(self, cached: CachedCrops, augmentation: Augmentation) -> None:
        self._boxes, self._points, self._weights = (
            part.cpu().numpy() for part in (cached.boxes, cached.points, cached.weights)
        )
        self._augmentation = augmentation

    def __getitem__(self, draw: Draw) -> tuple[Draw, Drawn]:
        row = draw.row
        labels = self._boxes[row], self._points[row], self._weights[row]
        return draw, self._augmentation(draw, *labels)[0]


def collate_drawn(samples: list[tuple[Draw, Drawn]]) -> Drawings:
    """Crops of one size as a batch."""
    crops, points, weights, outside = zip(*(drawn for _, drawn in samples), strict=True)
    return Drawings(
        [draw for draw, _ in samples],
        list(crops),
        np.stack(points).astype(np.float32),
        np.stack(weights).astype(np.float32),
        np.stack(outside),
    )
