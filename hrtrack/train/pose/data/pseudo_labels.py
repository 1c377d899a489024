"""The sets of a configuration, their labels checked against a first model's pseudo labels, and
these pseudo labels.

Crowd-sourced sets confuse left and right in a few per cent of their people and put some joints
elsewhere altogether. Where a model that was trained on the whole set disagrees surely enough,
the label is more likely wrong than the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ....configs.pose_schema import DataSection, SetSection, TrainConfig
from ....datasets.coco import read_coco
from ....datasets.mpii import read_mpii
from ....datasets.people import People, joined
from ....errors import ConfigError, DataError, ModelError
from ....evaluation.predict import Reader, labelled_boxes, predict
from ....models.network import PoseNetwork
from ....types import FloatArray
from ....writable import make_folder
from .shards import read_shards

NEAR, FAR = 0.1, 0.2
"""Shares of the box diagonal within which a joint agrees, and beyond which it does not."""
SURE, VERY_SURE, USABLE = 0.4, 0.6, 0.5
"""The model's scores needed to compare sides, to doubt a joint, and to fill one in."""
MIN_COMPARED = 6
DOUBTED_PERSON, DOUBTED_JOINT, FILLED = 0.4, 0.3, 0.4
"""Weights of what is doubted (times the label's) and of what is filled in."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """How many people had their sides exchanged or were doubted, and joints doubted or filled."""

    swapped: int
    doubted_people: int
    doubted_joints: int
    filled: int


def clean(people: People, predicted: FloatArray) -> tuple[People, Cleaned]:
    """Corrects and weighs labels by agreement.

    Args:
        people: the set.
        predicted: (N, K, 3) a model's x, y in photo pixels and score for the same people.

    Returns:
        The set with other keypoints and weights, and what was done.
    """
    points, weights = people.keypoints.copy(), people.weights.copy()
    mirror = np.array(people.skeleton.mirror)
    diagonal = np.linalg.norm(people.boxes[:, 2:] - people.boxes[:, :2], axis=1)[:, None]
    scores = predicted[..., 2]

    def distance(labels: FloatArray) -> FloatArray:
        return np.linalg.norm(labels - predicted[..., :2], axis=2) / diagonal

    compared = (weights > 0) & (weights[:, mirror] > 0) & (scores > SURE)
    compared &= mirror != np.arange(len(mirror))
    as_is = _share(distance(points) < NEAR, compared)
    exchanged = _share(distance(points[:, mirror]) < NEAR, compared)
    swap = (compared.sum(axis=1) >= MIN_COMPARED) & (exchanged >= 0.7) & (as_is <= 0.34)
    points[swap], weights[swap] = points[swap][:, mirror], weights[swap][:, mirror]

    labelled = weights > 0
    off = distance(points)
    agreement = _share(off < NEAR, labelled)[:, None]
    judged = labelled.any(axis=1) & (scores > SURE).any(axis=1)
    doubted = judged & (agreement[:, 0] < 0.4)
    weights[doubted] *= DOUBTED_PERSON
    misplaced = labelled & (agreement > 0.6) & (scores > VERY_SURE) & (off > FAR)
    weights[misplaced] *= DOUBTED_JOINT
    filled = ~labelled & (agreement > 0.6) & (scores > USABLE)
    points[filled], weights[filled] = predicted[filled][:, :2], FILLED
    done = Cleaned(int(swap.sum()), int(doubted.sum()), int(misplaced.sum()), int(filled.sum()))
    return replace(people, keypoints=points, weights=weights), done


def _share(right: NDArray[np.bool_], counted: NDArray[np.bool_]) -> FloatArray:
    return (right & counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)


def save_pseudo_labels(people: People, predicted: FloatArray, path: Path) -> None:
    """Writes a model's keypoints (N, K, 3) by annotation id."""
    np.savez_compressed(path, id=people.ids, keypoints=predicted.astype(np.float32))


def load_pseudo_labels(people: People, path: Path) -> FloatArray:
    """Reads them for the same people, in their order; people that are missing have score 0."""
    try:
        with np.load(path) as file:
            ids, keypoints = file["id"], file["keypoints"]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"cannot read the teacher's keypoints {path}: {error!r}") from None
    joints = len(people.skeleton)
    if keypoints.shape != (len(ids), joints, 3):
        raise DataError(
            f"{path} holds keypoints of shape {keypoints.shape}; expected ({len(ids)}, {joints}, 3)"
        )
    place = {int(key): row for row, key in enumerate(ids)}
    predicted = np.zeros((len(people), joints, 3), np.float32)
    for row, key in enumerate(people.ids):
        if int(key) in place:
            predicted[row] = keypoints[place[int(key)]]
    return predicted


def training_people(data: DataSection) -> People:
    """Whom a configuration trains on: of its shards, or else of its sets of photos.

    DataError says which file is missing, empty or does not fit.
    """
    if data.shards is not None:
        return read_shards(_shards(data.root, data.shards), "train")
    return open_people(data, data.train)


def validation_people(data: DataSection) -> People | None:
    """On whom it is validated; None without ``data.val``. Otherwise as `training_people`."""
    if data.val is None:
        return None
    if data.shards is not None:
        return read_shards(_shards(data.root, data.shards), "val")
    return open_people(data, [data.val])


def _shards(root: str, folder: str) -> Path:
    return Path(root).expanduser() / folder


def open_people(data: DataSection, sets: Sequence[SetSection]) -> People:
    """Reads and joins sets; DataError says which file is missing, empty or does not fit."""
    return joined([_open(data, spec) for spec in sets])


def _open(data: DataSection, spec: SetSection) -> People:
    root = Path(data.root).expanduser()
    annotations, images = root / spec.annotations, root / spec.images
    read = read_mpii if spec.format == "mpii" else read_coco
    people = read(spec, annotations, images)
    if spec.teacher is None:
        return people
    return clean(people, load_pseudo_labels(people, root / spec.teacher))[0]


def write_pseudo_labels(
    config: TrainConfig, network: PoseNetwork, folder: Path, *, quiet: bool
) -> Iterator[str]:
    """Looks at every labelled person of the training sets once, with any pose model.

    Writes ``folder/teacher_N.npz`` for the Nth set, for ``data.train.N.teacher``, and yields a
    line on each. Whoever's photo cannot be read has score 0, that is no pseudo labels.

    Raises:
        ConfigError: the people are packed, so that there are no sets to write for.
        DataError: a set cannot be read.
        ModelError: the model predicts other joints than a set has.
        SinkError: the folder cannot be written into.
    """
    if config.data.shards is not None:
        raise ConfigError("data.shards: judge the labels of the photos, before they are packed")
    make_folder(folder)
    for number, spec in enumerate(config.data.train):
        people = open_people(config.data, [spec.model_copy(update={"teacher": None})])
        if network.info.skeleton.joints != people.skeleton.joints:
            raise ModelError(f"the model predicts other joints than {spec.annotations} has")
        reader = Reader(
            network.input_hw, lambda crops: np.array(network(crops)["keypoints"], np.float64)
        )
        found = predict(
            {"": reader}, labelled_boxes(people), people.photo, len(people.skeleton),
            padding=config.input.padding, lenient=True, title=spec.annotations, quiet=quiet,
        )[""]  # fmt: skip
        found = np.nan_to_num(found, posinf=0)
        path = folder / f"teacher_{number}.npz"
        save_pseudo_labels(people, found, path)
        yield f"{path}: {clean(people, load_pseudo_labels(people, path))[1]}"
