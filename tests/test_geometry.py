"""Boxes, crops, affine maps, IoU and OKS against worked cases and the official code's output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hrtrack import geometry
from hrtrack.skeleton import COCO17


def test_iou_of_worked_boxes() -> None:
    a = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    b = np.array([[5, 0, 15, 10], [0, 0, 10, 10], [40, 40, 40, 40]], np.float32)
    np.testing.assert_allclose(geometry.iou(a, b), [[1 / 3, 1, 0], [0, 0, 0]], atol=1e-6)


def test_oks_falls_with_distance_and_ignores_unseen_joints() -> None:
    rng = np.random.default_rng(0)
    pose = rng.uniform(0, 100, (1, 17, 2))
    sigmas = np.array(COCO17.sigmas)
    area = np.array([2500.0])
    # One standard deviation of a joint is 2 sigma sqrt(area).
    shifted = pose + np.stack([2 * sigmas * 50, np.zeros(17)], axis=1)
    assert geometry.oks(pose, pose, area, sigmas)[0, 0] == pytest.approx(1)
    assert geometry.oks(shifted, pose, area, sigmas)[0, 0] == pytest.approx(np.exp(-0.5))
    broken = pose.copy()
    broken[0, 3] += 1e4
    valid = np.ones((1, 1, 17))
    valid[..., 3] = 0
    assert geometry.oks(broken, pose, area, sigmas)[0, 0] == pytest.approx(16 / 17)
    assert geometry.oks(broken, pose, area, sigmas, valid)[0, 0] == pytest.approx(1)
    assert geometry.oks(pose, pose, area, sigmas, np.zeros((1, 1, 17)))[0, 0] == 0


def test_crop_windows_keep_the_aspect_and_contain_the_box() -> None:
    boxes = np.array([[10, 20, 110, 40], [10, 20, 30, 220]], np.float32)
    windows = geometry.crop_boxes(boxes, 192 / 256)
    np.testing.assert_allclose(windows[:, 2] / windows[:, 3], 0.75)
    np.testing.assert_allclose(windows[:, :2], [[60, 30], [20, 120]])
    np.testing.assert_allclose(windows[0, 2], 100 * 1.25)
    np.testing.assert_allclose(windows[1, 3], 200 * 1.25)


def test_affines_round_trip() -> None:
    windows = np.array([[50, 60, 30, 40], [5, 6, 300, 400]], np.float64)
    affines = geometry.crop_affines(windows, (256, 192))
    points = np.random.default_rng(1).uniform(-50, 300, (2, 17, 2))
    back = geometry.transform(geometry.transform(points, affines), geometry.invert(affines))
    np.testing.assert_allclose(back, points, atol=1e-9)
    centre = geometry.transform(windows[:, None, :2], affines)
    np.testing.assert_allclose(centre[:, 0], [[96, 128], [96, 128]])


def test_rotation_turns_about_the_centre() -> None:
    affine = geometry.rotated_affine(np.array([50.0, 60.0]), 192, 90, (256, 192))
    np.testing.assert_allclose(geometry.transform(np.array([[50.0, 60.0]]), affine), [[96, 128]])
    np.testing.assert_allclose(
        geometry.transform(np.array([[60.0, 60.0]]), affine), [[96, 118]], atol=1e-9
    )


def test_aligned_oks_is_the_diagonal() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0, 50, (2, 4, 5, 2))
    areas, sigmas, weights = rng.uniform(90, 900, 4), rng.uniform(0.05, 0.1, 5), rng.random((4, 5))
    every = geometry.oks(a, b, areas, sigmas, weights[None])
    np.testing.assert_allclose(
        geometry.aligned_oks(a, b, areas, sigmas, weights), every.diagonal(), rtol=1e-12
    )


@pytest.mark.shared
def test_rotated_affine_equals_the_official_one(shared: Path) -> None:
    golden = np.load(shared / "golden" / "decode.npz")
    for centre, scale, degrees, expected in zip(
        golden["center"], golden["scale"], golden["rotation"], golden["affine_crop"], strict=True
    ):
        found = geometry.rotated_affine(centre, scale[0] * 200, float(degrees), (256, 192))
        np.testing.assert_allclose(found, expected, atol=1e-4)
