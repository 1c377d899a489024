"""What all configurations share: sections that refuse unknown keys, reading YAML, overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import ConfigError

HERE = Path(__file__).parent
OTHERS = {"action", "person_fast"}
"""The bundled configurations that are not for pose networks."""


class Section(BaseModel):
    """A group of keys. Its values cannot be changed, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FitSection(Section):
    """The keys of ``fit`` that every training has (`hrtrack.trainer`).

    docs/reference/configuration.md describes them to users.

    - ``steps``, ``minutes``: the length of the training, in steps of the optimiser or in minutes of
      clock time. With ``minutes``, the schedule of the learning rate follows the clock.
    - ``batch``: training examples per step.
    - ``optimizer``: with ``muon`` (`hrtrack.trainer.optim`), start from a learning rate of AdamW or
      a slightly lower one.
    - ``lr``, ``weight_decay``: the peak learning rate, and the weight decay.
    - ``clip``: the largest norm of the gradient of a step; none does not limit it.
    - ``warmup_steps``: steps in which the learning rate rises linearly.
    - ``schedule``: see `hrtrack.trainer.schedule.settings_at`. ``step`` multiplies the learning
      rate by ``gamma`` at each of the ``milestones``, which are fractions of the training.
      ``cosine`` lowers it along a cosine to ``floor`` times its peak.
    - ``ema``: the decay of the exponential moving average of the weights; 0 keeps no average.
    - ``precision``: ``auto`` chooses ``bf16`` if the device is faster with it; on CPUs a trial run
      decides.
    - ``graph``: on a single GPU, runs each step as one CUDA graph if this is possible.
    - ``seed``: the seed of all random numbers.
    - ``save_minutes``: minutes between two saved states.
    - ``log_steps``: steps between two rows of the log.
    """

    steps: int | None = Field(None, ge=1)
    minutes: float | None = Field(None, gt=0)
    batch: int = Field(24, ge=1)
    optimizer: Literal["adam", "adamw", "muon"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    clip: float | None = Field(None, gt=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["step", "cosine", "one_cycle"] = "cosine"
    milestones: tuple[float, ...] = (170 / 210, 200 / 210)
    gamma: float = Field(0.1, gt=0, le=1)
    floor: float = Field(0.0, ge=0, lt=1)
    ema: float = Field(0.0, ge=0, lt=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    graph: bool = True
    seed: int = 0
    save_minutes: float = Field(5.0, ge=0)
    log_steps: int = Field(20, ge=1)

    @model_validator(mode="after")
    def _counted(self) -> FitSection:
        if self.schedule == "one_cycle" and self.minutes is not None:
            raise ValueError("schedule one_cycle counts steps: leave out minutes")
        return self


class SetSection(Section):
    """One set of photos with labels: the file ``annotations``, and a folder or zip file ``images``.

    ``repeat``: how often its photos or people are seen, relative to a set with 1.
    """

    annotations: str
    images: str
    repeat: float = Field(1.0, gt=0)


class Stage(Protocol):
    """A stage of a training; ``begin`` is the fraction of the training at which it begins."""

    @property
    def begin(self) -> float: ...


def require_rising(stages: Sequence[Stage]) -> None:
    """Raises ValueError unless the stages begin at 0 and each one begins after the one before."""
    begins = [stage.begin for stage in stages]
    if begins and (begins[0] != 0 or sorted(set(begins)) != begins):
        raise ValueError("stages must begin at 0 and rise")


Config = TypeVar("Config", bound=Section)


def config_names() -> list[str]:
    """The names of the bundled pose configurations."""
    return sorted({path.stem for path in HERE.glob("*.yaml")} - OTHERS)


def read_config(source: str | Path) -> dict[str, Any]:
    """Reads a bundled pose configuration or a YAML file; ConfigError says what is wrong."""
    path = Path(source).expanduser()
    if not path.is_file() and str(source) in config_names():
        path = HERE / f"{source}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(config_names())
        raise ConfigError(
            f"no such configuration: '{source}'; give a YAML file or one of {known}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration '{source}': {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"'{source}' is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"'{source}' must hold sections (model, fit, ...)")
    return values


def overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """``values`` with each ``section.key=value`` set; ConfigError names one that does not fit."""
    for override in overrides:
        _override(values, override)
    return values


def validated(kind: type[Config], values: dict[str, Any], source: str | Path) -> Config:
    """The values as a checked configuration; ConfigError names the first key that is wrong."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"configuration '{source}': {_first(error)}") from None


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"cannot read '{override}'; expected section.key=value, say fit.lr=0.001")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"cannot read the value in '{override}' as YAML") from None
    *path, last = key.split(".")
    place: Any = values
    for part in path:
        place = _step(place, part, override)
    if isinstance(place, list):
        _step(place, last, override)
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise ConfigError(f"'{override}': there is no section '{'.'.join(path)}'")


def _step(place: Any, part: str, override: str) -> Any:
    if isinstance(place, dict):
        if place.get(part) is None:
            place[part] = {}
        return place[part]
    if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
        return place[int(part)]
    raise ConfigError(f"'{override}': there is no '{part}' to set")


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}"
