"""PCKh against tables worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hrtrack.datasets.people import mpii_head_sizes, segment_head_sizes
from hrtrack.evaluation.metrics import pckh
from hrtrack.skeleton import ACTION13, COCO17, MPII16, Skeleton


def test_mpii_head_size_is_six_tenths_of_the_head_boxs_diagonal() -> None:
    # A 30 x 40 box has a diagonal of 50.
    boxes = np.array([[10.0, 20.0, 40.0, 60.0]])
    assert mpii_head_sizes(boxes) == pytest.approx([30.0])


def test_head_segment_needs_both_labelled_ends() -> None:
    neck = np.array([[0, 0, 2], [0, 0, 0], [0, 0, 2], [5, 5, 2]], float)
    top = np.array([[3, 4, 2], [3, 4, 2], [3, 4, 0], [5, 5, 2]], float)
    sizes = segment_head_sizes(neck, top)
    assert sizes[0] == 5
    assert np.isnan(sizes[1:]).all()


def test_mpii_table_by_hand() -> None:
    """Two people, head boxes of diagonals 50 and 100: head sizes 30 and 60, limits 15 and 30.

    Person 0: every joint 15 px off (right), but the right ankle 15.1 (wrong); the
    left ankle has no label.
    Person 1: every joint 31 px off (wrong) but both wrists 30 (right).
    Pelvis and thorax are wrong in both and must not count.
    """
    sizes = mpii_head_sizes(np.array([[0, 0, 30, 40], [0, 0, 60, 80]], float))
    labels = np.full((2, 16, 2), 200.0)
    predicted = labels.copy()
    predicted[0, :, 0] += 15.0
    predicted[1, :, 1] -= 31.0
    predicted[0, MPII16.index("right_ankle"), 0] += 0.1
    for wrist in ("left_wrist", "right_wrist"):
        predicted[1, MPII16.index(wrist), 1] += 1.0
    for middle in ("pelvis", "thorax"):
        predicted[:, MPII16.index(middle)] += 500.0
    labelled = np.ones((2, 16), bool)
    labelled[0, MPII16.index("left_ankle")] = False
    errors = pckh.normalised_errors(predicted, labels, sizes)
    table = pckh.pckh(errors, labelled, pckh.joint_groups(MPII16))
    # 14 counted joints: person 0 has 13 labelled of which 12 are right, person 1 has 2 of 14.
    assert table["mean"] == pytest.approx(100 * 14 / 27)
    assert table["head"] == table["shoulder"] == table["elbow"] == pytest.approx(50.0)
    assert table["wrist"] == pytest.approx(100.0)
    # Right ankle 0 of 2, left ankle 0 of 1: the plain mean of the two sides.
    assert table["ankle"] == 0.0
    assert next(iter(table)) == "mean"
    one_pixel_more = pckh.pckh(errors * 1.001, labelled, pckh.joint_groups(MPII16))
    assert one_pixel_more["mean"] == 0.0


def test_sides_average_plainly_and_the_mean_pools() -> None:
    # Left shoulders: 1 of 1 right. Right shoulders: 1 of 3. Group 66.7, pooled 2 of 4.
    errors = np.full((3, 17), np.inf)
    labelled = np.zeros((3, 17), bool)
    left, right = COCO17.index("left_shoulder"), COCO17.index("right_shoulder")
    labelled[0, left] = True
    labelled[:, right] = True
    errors[0, left] = errors[0, right] = 0.5
    table = pckh.pckh(errors, labelled, pckh.joint_groups(COCO17))
    assert table["shoulder"] == pytest.approx(100 * (1 + 1 / 3) / 2)
    assert table["mean"] == pytest.approx(50.0)
    assert table["knee"] is None


def test_a_threshold_of_a_tenth_means_a_tenth() -> None:
    # The official code's Mean@0.1 would count the second person (0.105) too.
    errors = np.array([[0.10], [0.105]]).repeat(17, axis=1)
    labelled = np.ones((2, 17), bool)
    assert pckh.pckh(errors, labelled, pckh.joint_groups(COCO17), 0.1)["mean"] == 50.0


def test_groups_hold_the_twelve_limb_joints_of_coco_and_fourteen_of_mpii() -> None:
    assert pckh.joint_groups(COCO17)["mean"] == tuple(range(5, 17))
    mpii = pckh.joint_groups(MPII16)
    assert sorted(set(range(16)) - set(mpii["mean"])) == [6, 7]
    assert "head" in mpii
    assert len(pckh.joint_groups(ACTION13)["mean"]) == 12
    ball = Skeleton("ball", ("centre",), (), (), (0.05,))
    assert pckh.joint_groups(ball) == {}


def test_interval_matches_the_binomial_spread_and_holds_the_estimate() -> None:
    generator = np.random.default_rng(3)
    people, joints = 400, COCO17
    # One coin a person for all joints: the spread is that of 400 draws, not of 4,800.
    coin = generator.random(people) < 0.7
    errors = np.where(coin[:, None], 0.2, 2.0) * np.ones((people, 17))
    labelled = np.ones((people, 17), bool)
    groups = pckh.joint_groups(joints)
    low, high = pckh.bootstrap_mean(errors, labelled, groups["mean"])
    mean = pckh.pckh(errors, labelled, groups)["mean"]
    assert mean is not None
    assert low < mean < high
    expected = 2 * 1.96 * np.sqrt(0.7 * 0.3 / people) * 100
    assert high - low == pytest.approx(expected, rel=0.15)
    assert (low, high) == pckh.bootstrap_mean(errors, labelled, groups["mean"])
