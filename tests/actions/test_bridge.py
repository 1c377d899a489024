"""The 13 action joints from other skeletons."""

from __future__ import annotations

import numpy as np
import pytest

from hrtrack.actions.bridge import Bridge
from hrtrack.errors import ModelError
from hrtrack.skeleton import ACTION13, COCO17, MPII16, Skeleton


@pytest.mark.parametrize("skeleton", [COCO17, MPII16, ACTION13], ids=lambda s: s.name)
def test_limbs_keep_their_names(skeleton: Skeleton) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (4, len(skeleton), 2)).astype(np.float32)
    scores = rng.uniform(0.5, 1, (4, len(skeleton))).astype(np.float32)
    joints = Bridge(skeleton)(points, scores)
    assert joints.shape == (4, 13, 3)
    for j, name in enumerate(ACTION13.joints):
        if name != "head":
            k = skeleton.index(name)
            np.testing.assert_array_equal(joints[:, j, :2], points[:, k])
            np.testing.assert_array_equal(joints[:, j, 2], scores[:, k])


def test_head_is_the_mean_of_what_is_seen() -> None:
    points = np.zeros((17, 2), np.float32)
    scores = np.zeros(17, np.float32)
    points[[0, 1, 3]] = (10, 10), (20, 0), (999, 999)
    scores[[0, 1, 3]] = 0.8, 0.4, 0.1
    head = Bridge(COCO17)(points, scores, min_score=0.2)[0]
    np.testing.assert_allclose(head, (15, 5, 0.6), rtol=1e-6)

    points = np.zeros((16, 2), np.float32)
    points[[8, 9]] = (10, 20), (10, 0)
    head = Bridge(MPII16)(points, np.ones(16, np.float32))[0]
    np.testing.assert_allclose(head, (10, 10, 1))


def test_unseen_joints_are_nothing() -> None:
    points = np.full((17, 2), 50, np.float32)
    joints = Bridge(COCO17)(points, np.full(17, 0.1, np.float32), min_score=0.2)
    assert not joints.any()


def test_joints_that_a_skeleton_lacks_stay_masked() -> None:
    names = ACTION13.joints[1:9]
    half = Skeleton("half", names, (), (), (0.1,) * len(names))
    joints = Bridge(half)(np.ones((8, 2), np.float32), np.ones(8, np.float32))
    assert joints[1:9, 2].all()
    assert not joints[[0, 9, 10, 11, 12]].any()


def test_a_skeleton_without_a_body_is_refused() -> None:
    hand = Skeleton("hand", ("thumb", "palm", "left_wrist"), (), (), (0.1,) * 3)
    with pytest.raises(ModelError, match="'hand' gives 1 of the 13"):
        Bridge(hand)
