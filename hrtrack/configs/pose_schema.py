"""What a configuration of a pose training may say, and how a file and overrides become one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from . import base
from .base import Section, overridden, read_config, require_rising, validated

Share = Annotated[float, Field(ge=0, le=1)]


def _whole_cells(size: tuple[int, int]) -> tuple[int, int]:
    if any(side < 32 or side % 32 for side in size):
        raise ValueError(f"size {size}: both sides must be multiples of 32")
    return size


Size = Annotated[tuple[int, int], AfterValidator(_whole_cells)]
"""Height and width of a crop."""


class ModelSection(Section):
    """The network; the number of joints comes from the data.

    ``init`` fills a network that starts from nothing: see `hrtrack.models.pose.hrnet.initialise`.
    """

    width: int = Field(32, ge=8)
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = Field(4, ge=1)
    norm: Literal["batch", "none"] = "batch"
    activation: Literal["relu", "identity"] = "relu"
    scope: Literal["stem", "blocks", "all"] = "all"
    heatmaps: Literal["linear", "softmax"] = "linear"
    init: Literal["official", "he", "fixup"] = "official"


class InputSection(Section):
    """The crop: ``size`` is its height and width, ``padding`` how far it reaches past the box."""

    size: Size = (256, 192)
    padding: float = Field(1.25, gt=0)


class TargetSection(Section):
    """What the maps are trained towards; ``sigma`` is in heatmap cells.

    ``gaussian``: the official one, centred on the nearest cell and cut at 3 sigma.
    ``unbiased``: centred on the joint itself, not cut, as UDP and DARK train (docs/decoding.md says
    what of UDP is here).
    ``distribution``: the same, summing to 1, for networks with softmax maps.
    """

    kind: Literal["gaussian", "unbiased", "distribution"] = "gaussian"
    sigma: float = Field(2.0, gt=0)


class SetSection(base.SetSection):
    """One annotated set of photos.

    ``format``: ``coco`` person keypoints; ``mpii`` the official code's converted JSON or the
    original ``.mat``. ``repeat``: times each person is seen in an epoch. ``weight``: of the loss of
    its joints. ``pseudo_weight``: of the joints of annotations marked ``pseudo``, and of the joints
    listed in ``pseudo_keypoints``; 0 leaves them out. ``min_score``: pseudo annotations below it
    are left out. ``min_joints``: people with fewer labelled joints are left out. ``share``: which
    photos, by a fixed hash of their name, as an interval of [0, 1). ``teacher``: an ``.npz`` from
    `hrtrack data pseudo-label`.
    """

    format: Literal["coco", "mpii"] = "coco"
    repeat: int = Field(1, ge=1)
    weight: float = Field(1.0, ge=0)
    pseudo_weight: float = Field(0.0, ge=0)
    min_score: float = 0.5
    min_joints: int = Field(1, ge=1)
    share: tuple[float, float] = (0.0, 1.0)
    teacher: str | None = None


class DataSection(Section):
    """``root`` is put before all relative paths of this section; on the command line it may be
    given as ``data.root=...``. ``shards``: a folder that `hrtrack data pack` wrote; its people
    stand in for those of ``train`` and, where that is given, ``val``, whose photos are not
    needed then. ``max_unreadable``: bad photos to skip before giving up.
    ``resident``: keep every crop on the training device and augment there. A crop is a square
    that reaches 1.5 times as far as the network's, of ``resident_side`` pixels, or of as many
    as the shards have.
    """

    root: str = "."
    train: tuple[SetSection, ...] = ()
    val: SetSection | None = None
    shards: str | None = None
    max_unreadable: int = Field(20, ge=0)
    workers: int = Field(4, ge=0)
    resident: bool = False
    resident_side: int = Field(288, ge=32)

    @model_validator(mode="after")
    def _somebody(self) -> DataSection:
        if not self.train and self.shards is None:
            raise ValueError("give at least one set under train, or shards")
        return self


class AugmentSection(Section):
    """Strengths (standard deviations) and probabilities; all 0 leaves the crop as it is.

    ``rotation`` in degrees and ``scale`` follow the official code: normal, cut at two standard
    deviations (scale: at one). ``shift`` is a share of the crop's sides. ``half_body`` puts the
    crop around the upper or lower joints of people with more than ``half_body_joints``;
    ``truncate`` then or otherwise ends the picture there, as a webcam does.
    """

    flip: Share = 0.0
    rotation: float = Field(0.0, ge=0)
    rotation_probability: Share = 0.6
    scale: float = Field(0.0, ge=0, lt=1)
    shift: float = Field(0.0, ge=0)
    half_body: Share = 0.0
    half_body_joints: int = 8
    truncate: Share = 0.0
    colour: Share = 0.0
    grey: Share = 0.0
    blur: Share = 0.0
    noise: Share = 0.0
    compression: Share = 0.0
    occlusion: Share = 0.0


class StageSection(Section):
    """From the share ``begin`` of the training on: crops of ``size`` in batches of ``batch``."""

    begin: float = Field(ge=0, lt=1)
    size: Size
    batch: int = Field(ge=1)
    sigma: float = Field(gt=0)


class FitSection(base.FitSection):
    """How it is trained.

    ``batch`` is the number of people of one optimiser step over all processes and
    ``accumulate`` the number of parts each process computes it in. The training ends after
    ``epochs``, after ``steps`` where given, or after ``minutes`` where given: then the
    schedule follows the clock. It is validated after every ``val_every`` epochs. ``precision``:
    on CPUs by a trial (`hrtrack.train.pose.settle`, which also raises ``accumulate`` where a batch
    would not fit into the memory). ``graph``: with ``data.resident`` and no ``accumulate``.
    ``store``: the numbers in ``weights.safetensors`` and ``best.safetensors``; ``fp16`` halves the
    files, where they have to travel. What a resumed training reads keeps every bit.
    """

    epochs: int = Field(210, ge=1)
    batch: int = Field(128, ge=1)
    accumulate: int = Field(1, ge=1)
    optimizer: Literal["adam", "adamw", "muon"] = "adam"
    schedule: Literal["step", "cosine", "one_cycle"] = "step"
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    store: Literal["fp32", "fp16"] = "fp32"
    sync_norm: bool = True
    val_every: int = Field(1, ge=1)
    stages: tuple[StageSection, ...] = ()

    @model_validator(mode="after")
    def _rising(self) -> FitSection:
        require_rising(self.stages)
        return self


class TeacherSection(Section):
    """A finished network to learn from besides the labels, for networks with softmax maps.

    ``model``: a pose network as `hrtrack.train.pose.distillation.Teacher` takes it. OpenVINO
    computes it in the loading processes, and with ``data.resident`` PyTorch on the training's
    device. ``features`` and ``maps`` weigh the two losses against that of the labels.
    """

    model: str
    features: float = Field(2.0, ge=0)
    maps: float = Field(1.0, ge=0)


class TrainConfig(Section):
    """All of it."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    model: ModelSection = ModelSection()
    input: InputSection = InputSection()
    target: TargetSection = TargetSection()
    data: DataSection
    augment: AugmentSection = AugmentSection()
    teacher: TeacherSection | None = None
    fit: FitSection = FitSection()

    @model_validator(mode="after")
    def _fit_together(self) -> TrainConfig:
        softmax = self.model.heatmaps == "softmax"
        if softmax != (self.target.kind == "distribution"):
            raise ValueError("model.heatmaps=softmax and target.kind=distribution belong together")
        if self.teacher is not None and not softmax:
            raise ValueError("a teacher needs model.heatmaps=softmax")
        return self


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """A bundled name or a YAML file, with ``section.key=value`` overrides (values are YAML).

    Raises:
        ConfigError: no such file or name, not YAML, or a key or value that does not fit; the
            message names the key.
    """
    return validated(TrainConfig, overridden(read_config(source), overrides), source)
