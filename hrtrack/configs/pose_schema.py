"""The keys of a pose training's configuration, and how it is read from a file and overrides."""

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
    """The network, an HRNet. The number of joints comes from the data.

    - ``width``: channels of the branch with the highest resolution.
    - ``modules``: multi-resolution modules in stages 2, 3 and 4.
    - ``blocks``: residual blocks per branch and module.
    - ``norm``, ``activation``: ``none`` and ``identity`` remove batch norm and ReLU, for ablations;
      ``scope`` says from which part: the stem, the basic blocks, or the whole network.
    - ``heatmaps``: ``linear`` for training with the mean squared error; ``softmax`` for training
      with the cross-entropy over all cells of a heatmap.
    - ``init``: how the weights of a training from scratch start. ``official``: a normal
      distribution with standard deviation 0.001. ``he``: He initialisation. ``fixup``: for networks
      without norm. `hrtrack.models.pose.hrnet.initialise` has the details.
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
    """The crop that the network sees.

    ``size``: height and width in pixels. ``padding``: how many times as large as the person's box
    the crop is.
    """

    size: Size = (256, 192)
    padding: float = Field(1.25, gt=0)


class TargetSection(Section):
    """The heatmaps that the network is trained to predict.

    ``sigma`` is the standard deviation of the Gaussian in heatmap cells. ``kind``:

    - ``gaussian``: the target of the official code, centred on the nearest cell and cut off at 3
      sigma.
    - ``unbiased``: centred on the joint itself and not cut off, as in UDP and DARK
      (docs/decoding.md says which parts of UDP hrtrack has).
    - ``distribution``: like ``unbiased``, but with a sum of 1; for ``model.heatmaps: softmax``.
    """

    kind: Literal["gaussian", "unbiased", "distribution"] = "gaussian"
    sigma: float = Field(2.0, gt=0)


class SetSection(base.SetSection):
    """One set of photos with labelled people.

    - ``annotations``: the file of the labels.
    - ``images``: the folder or zip file of the photos.
    - ``format``: ``coco`` for COCO person keypoints; ``mpii`` for the JSON files of the official
      code or the original ``.mat`` file.
    - ``repeat``: how often each person is seen per epoch.
    - ``weight``: the weight of this set's joints in the loss.
    - ``pseudo_weight``: the weight of joints that a model labelled, relative to the others: all
      joints of annotations with ``pseudo``, and the joints that ``pseudo_keypoints`` of an
      annotation lists. 0 leaves them out.
    - ``min_score``: annotations with ``pseudo`` and a lower score are left out.
    - ``min_joints``: people with fewer labelled joints are left out.
    - ``share``: which photos are used, as an interval of [0, 1). A fixed hash of a photo's name
      gives its place in the interval.
    - ``teacher``: an ``.npz`` file from `hrtrack data pseudo-label`, which corrects the labels.
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
    """Where the labelled people come from, and how they are loaded.

    - ``root``: a folder that is put before all relative paths of this section; often given on the
      command line as ``data.root=...``.
    - ``train``, ``val``: the sets for training and the set for validation.
    - ``shards``: a folder that `hrtrack data pack` wrote. Its people replace those of ``train``
      and, if there is a ``val``, those of ``val``. The photos are not needed then.
    - ``max_unreadable``: how many unreadable photos are skipped before the training gives up.
    - ``workers``: processes that load and augment crops.
    - ``resident``: keep all crops in the memory of the training device, and augment them there.
      Each crop is a square that reaches 1.5 times as far as the network's crop.
    - ``resident_side``: the side of this square in pixels; with ``shards``, it is that of the
      shards.
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
    """Random changes of the training crops. With all values at 0 the crop stays as it is.

    Geometry:

    - ``flip``: probability of mirroring the crop.
    - ``rotation``: standard deviation of the angle in degrees, from a normal distribution that is
      cut off at two standard deviations, as in the official code. ``rotation_probability``:
      probability of a rotation.
    - ``scale``: standard deviation of the factor of the size, cut off at one standard deviation, as
      in the official code.
    - ``shift``: standard deviation of the shift, as a fraction of the sides of the crop.
    - ``half_body``: probability of a crop around only the upper or the lower joints, for people
      with more than ``half_body_joints`` labelled joints.
    - ``truncate``: probability that the picture ends within the person, as in front of a webcam; it
      also applies to half bodies. The rest of the crop is black.

    Appearance, each the probability of the change:

    - ``colour``: other gamma, contrast, brightness, tint and saturation.
    - ``grey``: no colours.
    - ``blur``: a lower resolution, a Gaussian blur or a motion blur.
    - ``noise``: Gaussian noise.
    - ``compression``: the artefacts of JPEG compression.
    - ``occlusion``: rectangles that hide parts of the crop.
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
    """One stage of a training whose crops change in size.

    ``begin``: the fraction of the training at which the stage begins. ``size``: height and width of
    the crops. ``batch``: people per step. ``sigma``: as in ``target``, for crops of this size.
    """

    begin: float = Field(ge=0, lt=1)
    size: Size
    batch: int = Field(ge=1)
    sigma: float = Field(gt=0)


class FitSection(base.FitSection):
    """How the network is trained. The keys that are not listed here are those of every training.

    - ``epochs``: the length of the training, if neither ``steps`` nor ``minutes`` is given.
    - ``batch``: people per step of the optimiser, over all processes.
    - ``accumulate``: into how many parts each process divides its share of the batch. On CPUs,
      hrtrack raises it if a batch does not fit into the memory.
    - ``precision``: on CPUs, a trial run decides for ``auto`` (`hrtrack.train.pose.settle`).
    - ``graph``: only with ``data.resident`` and with ``accumulate`` 1.
    - ``store``: number format of ``weights.safetensors`` and ``best.safetensors``. ``fp16`` halves
      the files. The state for resuming keeps full precision.
    - ``sync_norm``: with several GPUs, batch norm uses the statistics of the whole batch.
    - ``val_every``: epochs between two validations.
    - ``stages``: see ``fit.stages.N``.
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
    """A trained network from which the network learns, in addition to the labels (distillation).

    It needs ``model.heatmaps: softmax``.

    - ``model``: an ONNX file of a pose network (`hrtrack.train.pose.distillation.Teacher`). It runs
      in the loading processes with OpenVINO, or, with ``data.resident``, on the training device
      with PyTorch.
    - ``features``, ``maps``: the weights of the losses of features and of heatmaps, relative to the
      loss of the labels.
    """

    model: str
    features: float = Field(2.0, ge=0)
    maps: float = Field(1.0, ge=0)


class TrainConfig(Section):
    """A whole configuration of a pose training."""

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
