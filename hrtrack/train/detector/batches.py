"""Batches of canvases: drawn up, and on a CPU rendered and shown to the teacher, in workers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ...configs.detector_schema import DetectorTrainConfig, MosaicSection
from ...trainer.processes import begin_worker, prefetched, worker_context
from .distillation import Teacher
from .mosaic import BOXES_MOST, pad_boxes, random_mosaics
from .photos import PhotoStore
from .render import MosaicTensors, mosaic_tensors, render_batch

Drawn = tuple[Any, ...]
"""Images (N, H, W, 3) or `MosaicTensors` of them, boxes, kinds, and the answer of a teacher
asked."""
PREFETCH = 4
CALIBRATION = 2**31
"""No training gets to the steps from here on."""


def batches(
    store: PhotoStore,
    config: DetectorTrainConfig,
    first: int,
    done: Any,
    *,
    teach: bool = True,
    render: bool = True,
    pin: bool = False,
) -> DataLoader[Drawn]:
    """Batches from number ``first`` on.

    ``teach``: the teacher, if there is one, answers in the workers; ``render``: they render the
    canvases, too, instead of drawing up mosaics for a `DeviceRenderer`; ``pin``: into memory from
    which a GPU fetches by itself.

    Each is a function of the seed and its number, given the stage; ``done`` is the shared share
    of the training behind us (a ``Value`` of `worker_context`), which picks the stage of a
    training by the clock.
    """
    workers = config.fit.workers
    return DataLoader(
        _Canvases(store, config, done, teach, render),
        batch_size=None,
        sampler=_From(first),
        num_workers=workers,
        prefetch_factor=prefetched(_bytes(config), workers, PREFETCH) if workers else None,
        worker_init_fn=begin_worker if workers else None,
        multiprocessing_context=worker_context() if workers else None,
        pin_memory=pin,
    )


def calibration_pictures(
    config: DetectorTrainConfig, output: Path, count: int = 6
) -> Iterator[Tensor]:
    """Batches (N, H, W, 3) uint8 RGB of the last stage's canvases, after a training in ``output``.

    They show a network that is to compute in 8 bits what it will see.
    """
    repeats = [part.repeat for part in config.data.sets]
    store = PhotoStore(output / config.data.cache, config.data.trust, repeats)
    for number in range(count):
        seed = config.fit.seed, CALIBRATION + number
        yield torch.from_numpy(
            render_batch(store, config.stages[-1].canvases, config.fit.batch, seed)[0]
        )


def _bytes(config: DetectorTrainConfig) -> int:
    """Of a batch of the largest canvases."""
    sizes = [canvas.size for stage in config.stages for canvas in stage.canvases]
    return 3 * config.fit.batch * max(height * width for height, width in sizes)


class _Canvases(Dataset[Drawn]):
    def __init__(
        self,
        store: PhotoStore,
        config: DetectorTrainConfig,
        done: Any,
        teach: bool,
        render: bool,
    ) -> None:
        self.store, self.config, self.done, self.render = store, config, done, render
        self.until, self.teacher = 0.0, None
        if teach and config.teacher is not None:
            self.until, self.teacher = config.teacher.until, Teacher(Path(config.teacher.model))

    def __getitem__(self, step: int) -> Drawn:
        fit = self.config.fit
        done = step / fit.steps if fit.steps is not None else self.done.value
        stage = [stage for stage in self.config.stages if stage.begin <= done][-1]
        seed = fit.seed, step
        if not self.render:
            return self._unrendered(stage.canvases, seed)
        images, *labels = render_batch(self.store, stage.canvases, fit.batch, seed)
        drawn = tuple(torch.from_numpy(part) for part in (images, *labels))
        if self.teacher is None or done >= self.until:
            return drawn
        return *drawn, *self.teacher(drawn[0])

    def _unrendered(self, canvases: Sequence[MosaicSection], seed: tuple[int, int]) -> Drawn:
        """The same canvases, not rendered, with room for as many boxes in every batch."""
        dice = np.random.default_rng(seed)
        mosaics = random_mosaics(self.store, canvases, self.config.fit.batch, dice)
        numbers: MosaicTensors = mosaic_tensors(mosaics, int(dice.integers(2**31)))
        labels = (torch.from_numpy(part) for part in pad_boxes(mosaics, BOXES_MOST))
        return numbers, *labels


class _From(Sampler[int]):
    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.first)
