"""What all configurations have in common: sections that refuse unknown keys, YAML, overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import ConfigError

HERE = Path(__file__).parent
OTHERS = {"action", "person_fast"}
"""The bundled configurations that are no pose network's."""


class Section(BaseModel):
    """Keys and values that cannot be changed; a key that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FitSection(Section):
    """How anything is trained, whatever it is (`hrtrack.trainer`).

    The training ends after ``steps`` where given, or after ``minutes`` of clock time where given:
    then the schedule follows the clock. ``batch``: examples of one step. ``optimizer``: ``muon``
    (`hrtrack.trainer.optim`) takes AdamW's learning rates, rather lower than higher.
    ``schedule`` and what belongs to it: `hrtrack.trainer.schedule.settings_at`; ``milestones`` are
    shares of the training. ``clip``: the largest norm of a step's gradient. ``ema``: the decay of
    the running average of weights. ``precision``: ``auto`` is ``bf16`` where the device is quicker
    at it, on CPUs by a trial. ``graph``: on one GPU a step is one CUDA graph where it can be.
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
    """One annotated set of photos: a file of labels, and a folder or a zip of ``images``.

    ``repeat``: how often its photos or people are seen against those of a set with 1.
    """

    annotations: str
    images: str
    repeat: float = Field(1.0, gt=0)


class Stage(Protocol):
    """Whatever is in force from the share ``begin`` of a training on."""

    @property
    def begin(self) -> float: ...


def require_rising(stages: Sequence[Stage]) -> None:
    """ValueError unless the stages cover the whole training, one after the other."""
    begins = [stage.begin for stage in stages]
    if begins and (begins[0] != 0 or sorted(set(begins)) != begins):
        raise ValueError("stages must begin at 0 and rise")


Config = TypeVar("Config", bound=Section)


def config_names() -> list[str]:
    """The pose configurations that come with hrtrack."""
    return sorted({path.stem for path in HERE.glob("*.yaml")} - OTHERS)


def read_config(source: str | Path) -> dict[str, Any]:
    """The sections of a bundled pose configuration or a YAML file; ConfigError names the fault."""
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
    """``values`` with ``section.key=value`` put in; ConfigError names one that does not fit."""
    for override in overrides:
        _override(values, override)
    return values


def validated(kind: type[Config], values: dict[str, Any], source: str | Path) -> Config:
    """The configuration that the values are; ConfigError names the first key that is wrong."""
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
