"""What a configuration of a person-detector training may say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from . import base
from .base import HERE, Section, overridden, read_config, require_rising, validated

Sides = tuple[int, int]


class ModelSection(Section):
    """The fields of `hrtrack.models.detector.network.DetectorConfig`, and the input of the
    export."""

    widths: tuple[int, int, int, int, int] = (16, 32, 64, 128, 256)
    blocks: tuple[int, int, int, int] = (1, 2, 4, 3)
    pyramid: int = Field(64, ge=16, multiple_of=16)
    size: Sides = (320, 512)

    @model_validator(mode="after")
    def _fit(self) -> ModelSection:
        if any(side < 32 or side % 32 for side in self.size):
            raise ValueError(f"size {self.size}: both sides must be multiples of 32")
        return self


class SetSection(base.SetSection):
    """One COCO-format set of photos with boxes, kept at ``long_side`` pixels or less."""

    long_side: int = Field(416, ge=32)


class DataSection(Section):
    """``root`` is put before the sets' relative paths, ``cache`` is where decoded photos go.

    ``trust``: annotations marked ``pseudo`` that score below are ignored.
    """

    root: str = "."
    cache: str = "cache_detector"
    sets: tuple[SetSection, ...] = Field(min_length=1)
    val: SetSection | None = None
    trust: float = Field(0.5, ge=0, le=1)


class MosaicSection(Section):
    """Canvases of one size, drawn with the odds ``share``.

    ``mosaic`` of them are of several photos, ``paste`` have people of other photos pasted in.
    """

    size: Sides
    mosaic: float = Field(0.5, ge=0, le=1)
    paste: float = Field(0.0, ge=0, le=1)
    share: float = Field(1.0, gt=0)


class StageSection(Section):
    """From the share ``begin`` of the training on, batches are of one of these canvases."""

    begin: float = Field(ge=0, lt=1)
    canvases: tuple[MosaicSection, ...] = Field(min_length=1)


class LossSection(Section):
    """Task-aligned assignment and the weight of the box loss."""

    cells: int = Field(10, ge=1)
    score_power: float = Field(0.5, gt=0)
    iou_power: float = Field(6.0, gt=0)
    box_weight: float = Field(2.5, gt=0)


class TeacherSection(Section):
    """A YOLOX ONNX file to learn from until the share ``until`` of the training.

    ``features``, ``scores`` and ``boxes`` weigh the three losses; ``sure`` is the score from
    which a cell's box is copied.
    """

    model: str
    until: float = Field(1.0, gt=0, le=1)
    features: float = Field(4.0, ge=0)
    scores: float = Field(0.5, ge=0)
    boxes: float = Field(1.0, ge=0)
    sure: float = Field(0.2, gt=0, lt=1)


class FitSection(base.FitSection):
    """The training ends after ``minutes`` of clock time or after ``steps``, whichever is given.

    With ``steps`` a resumed run equals an uninterrupted one; with ``minutes`` the schedule
    follows the clock. ``canvases`` are rendered by the ``workers`` or on the ``device``; ``auto``
    is the device if it is a GPU with memory for all photos. There a step is one CUDA ``graph`` a
    size of canvas.
    """

    lr: float = Field(1.5e-3, gt=0)
    weight_decay: float = Field(0.03, ge=0)
    warmup_steps: int = Field(200, ge=1)
    floor: float = Field(0.02, ge=0, lt=1)
    clip: float | None = Field(10.0, gt=0)
    ema: float = Field(0.999, ge=0, lt=1)
    workers: int = Field(1, ge=0)
    canvases: Literal["auto", "workers", "device"] = "auto"
    save_minutes: float = Field(3.0, ge=0)
    log_steps: int = Field(50, ge=1)

    @model_validator(mode="after")
    def _one_end(self) -> FitSection:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps")
        return self


class DetectorTrainConfig(Section):
    """All of it."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    model: ModelSection = ModelSection()
    data: DataSection
    stages: tuple[StageSection, ...] = Field(min_length=1)
    loss: LossSection = LossSection()
    teacher: TeacherSection | None = None
    fit: FitSection

    @model_validator(mode="after")
    def _rising(self) -> DetectorTrainConfig:
        require_rising(self.stages)
        return self


def load_detector_config(source: str | Path, overrides: Sequence[str] = ()) -> DetectorTrainConfig:
    """A bundled name or a YAML file, with ``section.key=value`` overrides (values are YAML).

    Raises:
        ConfigError: no such file or name, not YAML, or a key or value that does not fit; the
            message names the key.
    """
    bundled = HERE / f"{source}.yaml"
    values = read_config(bundled if bundled.is_file() else source)
    return validated(DetectorTrainConfig, overridden(values, overrides), source)
