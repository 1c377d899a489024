"""What a configuration of the action network may say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from ..errors import ConfigError

DEFAULT = Path(__file__).with_name("action.yaml")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WindowSection(_Section):
    """What the network sees: ``samples`` moments over the last ``seconds``."""

    seconds: float = Field(gt=0)
    samples: int = Field(ge=8)
    max_gap: float = Field(gt=0)


class ModelSection(_Section):
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


class FitSection(_Section):
    """How it is trained; ``unknown`` is the share of each batch that shows no known action."""

    epochs: float = Field(gt=0)
    batch: int = Field(ge=2)
    unknown: float = Field(ge=0, lt=1)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    smoothing: float = Field(ge=0, lt=1)
    ema: float = Field(ge=0, lt=1)
    held_out: float = Field(gt=0, lt=1)
    keep: float = Field(gt=0, lt=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class ActionConfig(_Section):
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
    try:
        data: Any = yaml.safe_load(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration '{source}': {error.strerror}") from error
    except yaml.YAMLError as error:
        line = str(error).replace("\n", " ")
        raise ConfigError(f"'{source}' is not YAML: {line}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"'{source}' must hold keys and values (window, model, fit)")
    try:
        return ActionConfig.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"'{source}': {key}: {first['msg']}") from error
