"""What a configuration of the action network may say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from . import base
from .base import HERE, Section, read_config, validated

DEFAULT = HERE / "action.yaml"


class WindowSection(Section):
    """What the network sees: ``samples`` moments over the last ``seconds``."""

    seconds: float = Field(gt=0)
    samples: int = Field(ge=8)
    max_gap: float = Field(gt=0)


class ModelSection(Section):
    """One entry a block; a stride of 2 halves the moments."""

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
    """How it is trained: for ``epochs``, or for ``steps`` or ``minutes`` where given.

    ``batch``: windows of known actions; ``unknown`` is the share of each step's windows that
    show no known action. ``smoothing`` of the labels. ``held_out``: share of every action's clips
    to choose and calibrate by, of which ``keep`` are not to be called unknown.
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
    """All of it."""

    window: WindowSection
    model: ModelSection
    fit: FitSection

    @model_validator(mode="after")
    def _halve(self) -> ActionConfig:
        # The first layer halves the moments, and every stride must divide what is left.
        divisor = 2 * math.prod(self.model.strides)
        if self.window.samples % divisor:
            raise ValueError(
                f"window.samples must be a multiple of {divisor}, twice the product of "
                f"model.strides, not {self.window.samples}"
            )
        return self


def load_action_config(path: Path | None = None) -> ActionConfig:
    """A YAML file, or the bundled one; ConfigError names the key that is wrong."""
    source = path or DEFAULT
    return validated(ActionConfig, read_config(source), source)
