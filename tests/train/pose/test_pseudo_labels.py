"""Cleaning by agreement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hrtrack.configs.pose_schema import SetSection, load_config
from hrtrack.datasets.coco import read_coco
from hrtrack.datasets.people import People
from hrtrack.errors import DataError
from hrtrack.skeleton import COCO17
from hrtrack.train.pose.data.pseudo_labels import (
    clean,
    load_pseudo_labels,
    save_pseudo_labels,
)


def _people(sticks: Path, count: int) -> tuple[People, np.ndarray]:
    """Full COCO people at random places, with a teacher that agrees with them."""
    rng = np.random.default_rng(0)
    spec = SetSection(annotations="train.json", images="images")
    few = read_coco(spec, sticks / "train.json", sticks / "images").chosen(np.arange(count))
    points = rng.uniform(0, 90, (count, 17, 2)).astype(np.float32)
    boxes = np.tile(np.array([0, 0, 90, 90], np.float32), (count, 1))
    people = replace(
        few, skeleton=COCO17, keypoints=points, boxes=boxes,
        weights=np.ones((count, 17), np.float32),
    )  # fmt: skip
    predicted = np.concatenate([points + 1, np.full((count, 17, 1), 0.9)], axis=2)
    return people, predicted


def test_exchanged_sides_are_put_right(sticks: Path) -> None:
    people, predicted = _people(sticks, 3)
    wrong = people.keypoints.copy()
    wrong[1] = wrong[1][np.array(COCO17.mirror)]
    cleaned, done = clean(replace(people, keypoints=wrong), predicted)
    assert done.swapped == 1
    np.testing.assert_array_equal(cleaned.keypoints, people.keypoints)
    assert (cleaned.weights == 1).all()


def test_misplaced_and_missing_joints(sticks: Path) -> None:
    people, predicted = _people(sticks, 2)
    points, weights = people.keypoints.copy(), people.weights.copy()
    points[0, 9] = points[0, 9] + 50
    weights[0, 10] = 0
    cleaned, done = clean(replace(people, keypoints=points, weights=weights), predicted)
    assert (done.doubted_joints, done.filled, done.swapped) == (1, 1, 0)
    assert cleaned.weights[0, 9] == pytest.approx(0.3)
    np.testing.assert_allclose(cleaned.keypoints[0, 10], people.keypoints[0, 10] + 1)
    assert 0 < cleaned.weights[0, 10] < 1


def test_a_teacher_without_opinion_changes_nothing(sticks: Path) -> None:
    people, predicted = _people(sticks, 2)
    cleaned, done = clean(people, np.zeros_like(predicted))
    np.testing.assert_array_equal(cleaned.weights, people.weights)
    assert done.doubted_people == 0


def test_opinions_are_found_by_id(sticks: Path, tmp_path: Path) -> None:
    people, predicted = _people(sticks, 4)
    save_pseudo_labels(people, predicted, tmp_path / "t.npz")
    order = np.array([2, 0])
    again = load_pseudo_labels(people.chosen(order), tmp_path / "t.npz")
    np.testing.assert_allclose(again, predicted[order], rtol=1e-6)
    with pytest.raises(DataError, match="cannot read the teacher's keypoints"):
        load_pseudo_labels(people, tmp_path / "none.npz")


def test_a_model_writes_its_opinion(sticks: Path, tmp_path: Path) -> None:
    from hrtrack.cli import main
    from hrtrack.models.checkpoints import save_weights
    from hrtrack.models.info import PoseInfo
    from hrtrack.train.pose.data.pseudo_labels import open_people
    from hrtrack.train.pose.network import new_network

    root = f"data.root={sticks}"
    config = load_config("tiny", [root])
    skeleton = open_people(config.data, config.data.train).skeleton
    model = tmp_path / "model.safetensors"
    save_weights(new_network(config, skeleton, None), PoseInfo(skeleton, (64, 64)), model)
    with pytest.raises(SystemExit) as ended:
        main(["data", "pseudo-label", "tiny", str(model), str(tmp_path), root, "--quiet"])
    assert not ended.value.code
    labelled = load_config("tiny", [root, f"data.train.0.teacher={tmp_path}/teacher_0.npz"])
    assert len(open_people(labelled.data, labelled.data.train)) == 96
