"""Any pose model's pseudo labels for the people of a training, by which their labels are checked
(`hrtrack.train.pose.data.pseudo_labels`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...configs.pose_schema import TrainConfig
from ...errors import ConfigError, ModelError
from ...evaluation.predict import Reader, labelled_boxes, predict
from ...models.network import PoseNetwork
from ...writable import make_folder
from .data.pseudo_labels import clean, load_pseudo_labels, open_people, save_pseudo_labels


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
