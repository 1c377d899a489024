"""The keys of the configuration of an action training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from . import base
from .base import HERE, Section, read_config, validated

DEFAULT = HERE / "action.yaml"


class WindowSection(Section):
    """What the network sees of a person: a window of the recent past.

    - ``seconds``: the length of the window.
    - ``samples``: how many evenly spaced samples of the joints it has.
    - ``max_gap``: in a gap between two frames of more than twice ``max_gap`` seconds, samples that
      are farther than ``max_gap`` from both frames are masked.
    """

    seconds: float = Field(gt=0)
    samples: int = Field(ge=8)
    max_gap: float = Field(gt=0)


class ModelSection(Section):
    """The network: one entry of ``widths`` and of ``strides`` for each block.

    - ``widths``: channels, multiples of 16.
    - ``strides``: strides in time; a stride of 2 halves the number of samples.
    - ``drop``, ``head_drop``: dropout rates within the blocks and before the last layer.
    """

    widths: tuple[PositiveInt, ...] = Field(min_length=1)
    strides: tuple[PositiveInt, ...] = Field(min_length=1)
    drop: float = Field(ge=0, lt=1)
    head_drop: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _fit(self) -> ModelSection:
        if len(self.widths) != len(self.strides):
            raise ValueError("widths and strides must have the same number of entries")
        if any(width % 16 for width in self.widths):
            raise ValueError("widths must be multiples of 16")
        return self


class FitSection(base.FitSection):
    """How the network is trained. The keys that are not listed here are those of every training.

    - ``epochs``: the length of the training, if neither ``steps`` nor ``minutes`` is given.
    - ``batch``: windows of known actions per step.
    - ``unknown``: fraction of all windows of a step that show no known action.
    - ``smoothing``: label smoothing of the cross-entropy.
    - ``held_out``: fraction of the clips of each action that is kept out of the training, for
      choices and for the calibration.
    - ``keep``: fraction of the correct answers on these clips that the threshold of "unknown" must
      not reject. The threshold is at least 0.5.
    """

    epochs: float = Field(gt=0)
    batch: int = Field(ge=2)
    unknown: float = Field(ge=0, lt=1)
    smoothing: float = Field(ge=0, lt=1)
    clip: float | None = Field(5.0, gt=0)
    schedule: Literal["step", "cosine", "one_cycle"] = "one_cycle"
    held_out: float = Field(gt=0, lt=1)
    keep: float = Field(gt=0, lt=1)


class ActionConfig(Section):
    """A whole configuration of an action training."""

    window: WindowSection
    model: ModelSection
    fit: FitSection

    @model_validator(mode="after")
    def _halve(self) -> ActionConfig:
        # The first layer halves the number of samples, and every stride must divide the rest.
        divisor = 2 * math.prod(self.model.strides)
        if self.window.samples % divisor:
            raise ValueError(
                f"window.samples must be a multiple of {divisor}, twice the product of "
                f"model.strides, not {self.window.samples}"
            )
        return self


def load_action_config(path: Path | None = None) -> ActionConfig:
    """Reads a YAML file, or the bundled one; ConfigError names the key that is wrong."""
    source = path or DEFAULT
    return validated(ActionConfig, read_config(source), source)
