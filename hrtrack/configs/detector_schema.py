"""The keys of the configuration of a person-detector training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from . import base
from .base import HERE, Section, overridden, read_config, require_rising, validated

Sides = tuple[int, int]


class ModelSection(Section):
    """The network (`hrtrack.models.detector.network.DetectorConfig`), and the input of the export.

    - ``widths``: channels at the strides 2, 4, 8, 16 and 32.
    - ``blocks``: residual blocks at the strides 4, 8, 16 and 32.
    - ``pyramid``: channels of the feature pyramid.
    - ``size``: height and width in pixels of the input of the exported model.
    """

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
    """One set of photos with boxes in COCO format.

    - ``annotations``: the file of the boxes.
    - ``images``: the folder or zip file of the photos.
    - ``repeat``: how often its photos are drawn, relative to a set with 1.
    - ``long_side``: larger photos are scaled down to this longer side, in pixels.
    """

    long_side: int = Field(416, ge=32)


class DataSection(Section):
    """Where the photos come from.

    - ``root``: a folder that is put before the relative paths of the sets.
    - ``cache``: the folder of the decoded photos, inside the output folder.
    - ``sets``, ``val``: the sets for training and the set for validation.
    - ``trust``: boxes that a model made (``pseudo``) become regions to ignore if their score is
      lower.
    """

    root: str = "."
    cache: str = "cache_detector"
    sets: tuple[SetSection, ...] = Field(min_length=1)
    val: SetSection | None = None
    trust: float = Field(0.5, ge=0, le=1)


class MosaicSection(Section):
    """One kind of canvas. A canvas is a training picture that is composed of photos.

    - ``size``: height and width in pixels.
    - ``mosaic``: probability that a canvas shows several photos in a grid.
    - ``paste``: probability that people from other photos are pasted into it.
    - ``share``: how often this kind is drawn, relative to the other kinds of its stage.
    """

    size: Sides
    mosaic: float = Field(0.5, ge=0, le=1)
    paste: float = Field(0.0, ge=0, le=1)
    share: float = Field(1.0, gt=0)


class StageSection(Section):
    """One stage of the training.

    ``begin``: the fraction of the training at which the stage begins. ``canvases``: its kinds of
    canvas; each batch has one kind.
    """

    begin: float = Field(ge=0, lt=1)
    canvases: tuple[MosaicSection, ...] = Field(min_length=1)


class LossSection(Section):
    """The loss, with task-aligned assignment (Feng et al., "TOOD", ICCV 2021).

    - ``cells``: how many cells of the grid are assigned to a person at most.
    - ``score_power``, ``iou_power``: exponents of the score and of the IoU in the measure that
      chooses these cells.
    - ``box_weight``: weight of the loss of the boxes against the loss of the scores.
    """

    cells: int = Field(10, ge=1)
    score_power: float = Field(0.5, gt=0)
    iou_power: float = Field(6.0, gt=0)
    box_weight: float = Field(2.5, gt=0)


class TeacherSection(Section):
    """A trained detector from which the network learns, in addition to the labels (distillation).

    - ``model``: a YOLOX model as an ONNX file.
    - ``until``: the fraction of the training after which the teacher is left out.
    - ``features``, ``scores``, ``boxes``: the weights of the three losses.
    - ``sure``: the teacher's box of a cell counts only if its score is above this.
    """

    model: str
    until: float = Field(1.0, gt=0, le=1)
    features: float = Field(4.0, ge=0)
    scores: float = Field(0.5, ge=0)
    boxes: float = Field(1.0, ge=0)
    sure: float = Field(0.2, gt=0, lt=1)


class FitSection(base.FitSection):
    """How the network is trained. The keys that are not listed here are those of every training.

    - ``minutes`` or ``steps``: the length of the training; give exactly one. With ``steps``, a
      resumed training ends with the same weights as an uninterrupted one.
    - ``batch``: canvases per step.
    - ``workers``: processes that prepare the canvases.
    - ``canvases``: who renders the canvases, the ``workers`` or the training ``device``. ``auto``
      is the device if it is a GPU whose memory has room for all photos.
    - ``graph``: if a GPU renders the canvases, loss and gradients run as one CUDA graph for each
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
    """A whole configuration of a detector training."""

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
