"""The columnar container of a frame's people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hrtrack.poses import Action, Poses


def people(count: int) -> Poses:
    rng = np.random.default_rng(0)
    return Poses(
        frame=3,
        time=0.1,
        boxes=rng.uniform(0, 100, (count, 4)).astype(np.float32),
        person_scores=np.linspace(1, 0, count, dtype=np.float32),
        keypoints=rng.uniform(0, 100, (count, 17, 2)).astype(np.float32),
        scores=rng.uniform(0, 1, (count, 17)).astype(np.float32),
        ids=np.arange(1, count + 1),
    )


def test_picking_people_keeps_the_columns_together() -> None:
    poses = replace(people(3), actions=(Action("squat", 0.9), None, Action("bowl", 0.8)))
    for pick in (np.array([True, False, True]), np.array([0, 2])):
        some = poses[pick]
        assert len(some) == 2
        assert some.ids.tolist() == [1, 3]
        assert some.actions == (Action("squat", 0.9), Action("bowl", 0.8))
        np.testing.assert_array_equal(some.keypoints, poses.keypoints[[0, 2]])
    assert poses[1:].actions == (None, Action("bowl", 0.8))


def test_a_number_picks_one_person() -> None:
    poses = people(3)
    assert poses[-1].ids.tolist() == poses[np.int64(2)].ids.tolist() == [3]
    assert poses[0].keypoints.shape == (1, 17, 2)
    with pytest.raises(IndexError):
        poses[3]


def test_nobody() -> None:
    nobody = Poses.empty(0, 0.0, 17)
    assert len(nobody) == 0
    assert nobody.keypoints.shape == (0, 17, 2)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"boxes has shape \(2, 4\); \(3, 4\) was expected"):
        replace(people(3), boxes=np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="1 actions for 3 people"):
        replace(people(3), actions=(None,))
