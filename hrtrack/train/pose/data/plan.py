"""Which people are seen when, at which size: one endless stream that any step can enter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ....errors import ConfigError
from ....trainer.schedule import Clock

if TYPE_CHECKING:
    from ....configs.pose_schema import TrainConfig


@dataclass(frozen=True, slots=True)
class Stage:
    """From the share ``begin`` of the training on: crops of ``size`` in batches of ``batch``."""

    begin: float
    size: tuple[int, int]
    batch: int
    sigma: float


@dataclass(frozen=True, slots=True)
class Draw:
    """One place in the stream: a number never used twice, a person, and how to cut it."""

    position: int
    row: int
    size: tuple[int, int]
    sigma: float


def last_stage(config: TrainConfig) -> TrainConfig:
    """The last stage of a training alone, for as long as one likes."""
    fit = {"minutes": 1e6, "stages": ()}
    if not config.fit.stages:
        return config.model_copy(update={"fit": config.fit.model_copy(update=fit)})
    last = config.fit.stages[-1]
    return config.model_copy(
        update={
            "fit": config.fit.model_copy(update={**fit, "batch": last.batch}),
            "input": config.input.model_copy(update={"size": last.size}),
            "target": config.target.model_copy(update={"sigma": last.sigma}),
        }
    )


class Plan:
    """The stream of people, shuffled anew each epoch.

    Every process counts the same global stream and takes its own part of each batch, so what
    a step trains on depends on the seed and on how many people went before, not on the number
    of workers, processes or restarts.
    """

    def __init__(
        self,
        config: TrainConfig,
        repeats: NDArray[np.int32],
        *,
        rank: int = 0,
        world: int = 1,
        clock: Clock | None = None,
    ) -> None:
        fit = config.fit
        if world > 1 and fit.minutes is not None:
            raise ConfigError("fit.minutes follows one clock; give fit.epochs to several processes")
        self.stages = tuple(
            Stage(stage.begin, stage.size, stage.batch, stage.sigma) for stage in fit.stages
        ) or (Stage(0.0, config.input.size, fit.batch, config.target.sigma),)
        for stage in self.stages:
            if stage.batch % (world * fit.accumulate):
                raise ConfigError(
                    f"a batch of {stage.batch} cannot be shared evenly by {world} processes "
                    f"in {fit.accumulate} parts"
                )
        self._fit = fit
        self._rows = np.repeat(np.arange(len(repeats)), repeats)
        self._rank, self._world = rank, world
        self.clock = clock or Clock(
            minutes=fit.minutes, steps=fit.steps, examples=fit.epochs * self.epoch_size
        )
        self._order: tuple[int, NDArray[np.int64]] = (-1, self._rows)

    @property
    def epoch_size(self) -> int:
        """People in one epoch."""
        return len(self._rows)

    def stage(self, share: float) -> Stage:
        """The stage in force."""
        return next(s for s in reversed(self.stages) if s.begin <= share)

    def parts(self, step: int, seen: int) -> Iterator[list[Draw]]:
        """This process's parts of every step's batch from ``step`` on, in order."""
        while (done := self.clock.share(step, seen)) < 1:
            stage = self.stage(done)
            size = stage.batch // (self._world * self._fit.accumulate)
            for part in range(self._fit.accumulate):
                first = seen + (part * self._world + self._rank) * size
                yield [self._draw(first + i, stage) for i in range(size)]
            step, seen = step + 1, seen + stage.batch

    def _draw(self, position: int, stage: Stage) -> Draw:
        epoch, index = divmod(position, self.epoch_size)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self._fit.seed, epoch])
            self._order = epoch, rng.permutation(self._rows)
        return Draw(position, int(self._order[1][index]), stage.size, stage.sigma)
