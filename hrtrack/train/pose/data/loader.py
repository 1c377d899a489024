"""People to training batches on the CPU, in as many processes as asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ....datasets.people import People
from ....errors import DataError
from ....trainer.processes import begin_worker, prefetched, worker_context
from ....types import FloatArray
from ..distillation import Teacher
from .augment import Augmentation, paint
from .plan import Draw

if TYPE_CHECKING:
    from ....configs.pose_schema import TrainConfig

T = TypeVar("T")
PREFETCH = 4
BEYOND = 2**40
"""No training gets to the positions from here on."""
TENSORS = ("crops", "points", "weights", "outside", "features", "teacher_heatmaps")
NOTHING = torch.empty(0)


@dataclass(frozen=True, slots=True)
class Batch:
    """N crops with what is known about their joints."""

    crops: Tensor  # (N, H, W, 3) uint8 RGB
    points: Tensor  # (N, K, 2) crop pixels
    weights: Tensor  # (N, K)
    outside: Tensor  # (N, K) known not to be in the crop
    sigma: float
    unreadable: tuple[int, ...]  # rows whose photo could not be read; they weigh nothing
    features: Tensor = NOTHING  # (N, C, h, w) of a teacher
    teacher_heatmaps: Tensor = NOTHING  # (N, K, h, w) its heatmaps

    def tensors(self) -> list[Tensor]:
        """What travels to a device, in the order of `TENSORS`."""
        return [getattr(self, name) for name in TENSORS]

    def with_tensors(self, tensors: Iterable[Tensor]) -> Batch:
        """The same batch with others in place of its `tensors`."""
        named: dict[str, Any] = dict(zip(TENSORS, tensors, strict=True))
        return replace(self, **named)

    def to(self, device: torch.device) -> Batch:
        """The same on another device, copied without waiting where that is possible."""
        return self.with_tensors(t.to(device, non_blocking=True) for t in self.tensors())

    def pin_memory(self) -> Batch:
        """For the loader's pinning thread."""
        return self.with_tensors(tensor.pin_memory() for tensor in self.tensors())


Sample = tuple[NDArray[np.uint8], FloatArray, FloatArray, NDArray[np.bool_], int]
"""Crop, points, weights, outside, and the row when its photo is unreadable (else -1)."""


class Crops(Dataset[tuple[Draw, Sample]]):
    """One augmented crop a draw; its randomness depends on the seed and its position only."""

    def __init__(self, people: People, config: TrainConfig) -> None:
        self.people = people
        self._augmentation = Augmentation(people.skeleton, config)

    def __getitem__(self, draw: Draw) -> tuple[Draw, Sample]:
        people, row = self.people, draw.row
        try:
            photo = people.photo(row)
        except DataError:
            nothing = np.zeros(len(people.skeleton))
            crop = np.zeros((*draw.size, 3), np.uint8)
            return draw, (crop, np.zeros((len(nothing), 2)), nothing, nothing.astype(bool), row)
        (drawn, points, weights, outside), rng = self._augmentation(
            draw, people.boxes[row], people.keypoints[row], people.weights[row]
        )
        return draw, (paint(photo, drawn, rng), points, weights, outside, -1)


def collate(samples: list[tuple[Draw, Sample]]) -> Batch:
    """Samples of one size to a batch."""
    crops, points, weights, outside, bad = zip(*(sample for _, sample in samples), strict=True)
    return Batch(
        crops=torch.from_numpy(np.stack(crops)),
        points=torch.from_numpy(np.stack(points).astype(np.float32)),
        weights=torch.from_numpy(np.stack(weights).astype(np.float32)),
        outside=torch.from_numpy(np.stack(outside)),
        sigma=samples[0][0].sigma,
        unreadable=tuple(row for row in bad if row >= 0),
    )


class TeacherCollate:
    """`collate`, and then a look at the teacher, who is called in on the first batch."""

    def __init__(self, path: Path, joints: int) -> None:
        self.path, self.joints = path, joints
        self._teacher: Teacher | None = None

    def __call__(self, samples: list[tuple[Draw, Sample]]) -> Batch:
        """A batch with what the teacher says of it."""
        if self._teacher is None:
            self._teacher = Teacher(self.path, self.joints)
        batch = collate(samples)
        features, maps = self._teacher(batch.crops)
        # In half the bytes for the way out of a loader's process.
        return replace(batch, features=features.half(), teacher_heatmaps=maps.half())


def sample_crops(people: People, config: TrainConfig, count: int) -> NDArray[np.uint8]:
    """Training crops (count, H, W, 3) uint8 RGB that depend on the seed alone.

    Fewer where photos cannot be read.
    """
    rng = np.random.default_rng([config.fit.seed, 2])
    rows = rng.choice(len(people), count, replace=len(people) < count).tolist()
    source, size = Crops(people, config), config.input.size
    drawn = [
        source[Draw(BEYOND + place, row, size, config.target.sigma)][1]
        for place, row in enumerate(rows)
    ]
    crops = [crop for crop, *_, unreadable in drawn if unreadable < 0]
    return np.stack(crops) if crops else np.zeros((0, *size, 3), np.uint8)


def batches(
    people: People, config: TrainConfig, parts: Iterable[list[Draw]], *, pin: bool = False
) -> Iterator[Batch]:
    """Batches for the draws in ``parts``, loaded ahead by ``data.workers`` processes.

    They come with what a teacher says of them, unless it sees them on the device.
    """
    teacher = None if config.data.resident else config.teacher
    joints = len(people.skeleton)
    gathered = collate if teacher is None else TeacherCollate(Path(teacher.model), joints)
    crops, workers = Crops(people, config), config.data.workers
    return loaded(crops, parts, gathered, workers, _bytes(config), pin=pin)


def loaded(
    samples: Dataset[Any],
    parts: Iterable[list[Draw]],
    gathered: Callable[[list[Any]], T],
    workers: int,
    batch_bytes: int,
    *,
    pin: bool = False,
) -> Iterator[T]:
    """What ``gathered`` makes of the samples of each of ``parts``, made ahead by processes."""
    return iter(
        DataLoader(
            samples,
            batch_sampler=_Parts(parts),
            collate_fn=gathered,
            num_workers=workers,
            prefetch_factor=prefetched(batch_bytes, workers, PREFETCH) if workers else None,
            worker_init_fn=begin_worker if workers else None,
            multiprocessing_context=worker_context() if workers else None,
            pin_memory=pin,
        )
    )


def _bytes(config: TrainConfig) -> int:
    """Of the largest part of a batch."""
    stages = [(stage.size, stage.batch) for stage in config.fit.stages]
    stages = stages or [(config.input.size, config.fit.batch)]
    return max(3 * h * w * batch // config.fit.accumulate for (h, w), batch in stages)


class _Parts:
    """A batch sampler over an iterable that is gone through once."""

    def __init__(self, parts: Iterable[list[Draw]]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[list[Draw]]:
        return iter(self._parts)
