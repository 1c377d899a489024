"""Augmentation moves joints with the picture; checked by finding coloured dots again."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from hrtrack.configs.pose_schema import AugmentSection, SetSection, TrainConfig, load_config
from hrtrack.datasets.coco import read_coco
from hrtrack.geometry import crop_affines, crop_boxes
from hrtrack.train.pose.data.augment import draw_crop, moved_joints, paint, upper_joints
from hrtrack.train.pose.data.crop_cache import CropCache
from hrtrack.train.pose.data.loader import Crops, batches
from hrtrack.train.pose.data.plan import Draw, Plan

DOTS = np.array([[60.0, 40.0], [100.0, 50.0], [70.0, 90.0], [110.0, 120.0]])
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
GEOMETRY = AugmentSection(flip=0.5, rotation=30, scale=0.3, shift=0.05)
SIZE = (128, 96)


def _photo() -> np.ndarray:
    photo = np.zeros((160, 170, 3), np.uint8)
    for dot, colour in zip(DOTS.astype(int), COLOURS, strict=True):
        cv2.circle(photo, tuple(int(v) for v in dot), 4, colour, -1)
    return photo


def _middle(crop: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    close = np.abs(crop.astype(int) - colour).sum(axis=2) < 120
    return np.argwhere(close).mean(axis=0)[::-1]


def _crop(seed: int, spec: AugmentSection) -> tuple[np.ndarray, ...]:
    box, rng = np.array([50.0, 30.0, 120.0, 130.0]), np.random.default_rng(seed)
    upper = np.array([True, True, False, False])
    drawn = draw_crop(rng, box, DOTS, np.ones(4), size=SIZE, padding=1.25, upper=upper, spec=spec)
    return paint(_photo(), drawn, rng), *moved_joints(drawn, DOTS, np.ones(4), np.arange(4))


@pytest.mark.parametrize("seed", range(8))
def test_joints_move_with_the_picture(seed: int) -> None:
    crop, points, _, outside = _crop(seed, GEOMETRY)
    for point, colour, lost in zip(points, COLOURS, outside, strict=True):
        inside = (point > 4).all() and (point < np.array([91, 123])).all()
        assert inside <= (not lost)
        if inside:
            np.testing.assert_allclose(_middle(crop, colour), point, atol=0.7)


def test_without_augmentation_the_crop_is_the_trackers() -> None:
    crop, points, _, outside = _crop(0, AugmentSection())
    box = np.array([[50.0, 30.0, 120.0, 130.0]])
    affine = crop_affines(crop_boxes(box, 96 / 128), SIZE)[0]
    np.testing.assert_array_equal(crop, cv2.warpAffine(_photo(), affine, (96, 128)))
    np.testing.assert_allclose(points, DOTS @ affine[:, :2].T + affine[:, 2])
    assert not outside.any()


def test_a_cut_picture_loses_the_joints_beyond() -> None:
    lost = odd = 0
    for seed in range(20):
        crop, points, _, outside = _crop(seed, AugmentSection(truncate=1.0))
        for point, colour, away in zip(points, COLOURS, outside, strict=True):
            x, y = point.round().astype(int)
            shown = np.abs(crop[y, x].astype(int) - colour).sum() < 200
            odd += bool(shown == away)
            lost += bool(away)
    assert lost > 5
    assert odd <= 2  # joints right on the edge may round to its other side


def test_appearance_keeps_shape_and_type() -> None:
    everything = AugmentSection(
        colour=1, grey=0.5, blur=1, noise=1, compression=1, occlusion=1, half_body=1
    )
    for seed in range(6):
        crop, *_ = _crop(seed, everything)
        assert crop.shape == (*SIZE, 3)
        assert crop.dtype == np.uint8


def test_upper_joints_by_name(sticks) -> None:
    spec = SetSection(annotations="train.json", images="images")
    people = read_coco(spec, sticks / "train.json", sticks / "images")
    assert upper_joints(people.skeleton).tolist() == [True, True, True, False, False]
    assert people.skeleton.flip_pairs == ((1, 2), (3, 4))


def _config(sticks, **fit) -> TrainConfig:
    config = load_config("tiny", [f"data.root={sticks}", "augment={}"])
    return config.model_copy(update={"fit": config.fit.model_copy(update=fit)})


EVERYTHING = AugmentSection(
    flip=0.5, rotation=20, scale=0.15, shift=0.03, half_body=0.4, half_body_joints=3, truncate=0.4,
    colour=0.6, grey=0.2, blur=0.5, compression=0.3, occlusion=0.4,
)  # fmt: skip


@pytest.mark.parametrize(("spec", "most"), [(AugmentSection(), 2), (EVERYTHING, 5)])
def test_crops_kept_on_a_device_are_the_loaders(sticks, spec: AugmentSection, most: int) -> None:
    """But for noise, and for the squares' being a little softer than photos (in grey values)."""
    config = _config(sticks).model_copy(update={"augment": spec})
    data = config.data.model_copy(update={"resident_side": 220})
    config = config.model_copy(update={"data": data})
    spec = config.data.train[0]
    people = read_coco(spec, sticks / "train.json", sticks / "images")
    draws = [Draw(i, i, (64, 64), 1.5) for i in range(24)]
    loaded = next(batches(people, config, iter([draws])))
    cached = next(CropCache.of(people, config, torch.device("cpu")).batches([draws]))
    torch.testing.assert_close(cached.points, loaded.points, atol=1e-3, rtol=0)
    torch.testing.assert_close(cached.weights, loaded.weights)
    assert torch.equal(cached.outside, loaded.outside)
    difference = (cached.crops.float() - loaded.crops.float()).abs().mean((1, 2, 3))
    assert float(difference.max()) < most, difference


def test_resident_augmentation_moves_joints_with_the_picture(sticks) -> None:
    config = _config(sticks).model_copy(update={"augment": GEOMETRY})
    people = read_coco(config.data.train[0], sticks / "train.json", sticks / "images")
    draws = [Draw(i, i, (64, 64), 1.5) for i in range(12)]
    resident = CropCache.of(people, config, torch.device("cpu"))
    batch = next(resident.batches([draws]))
    again = next(resident.batches([draws]))
    assert torch.equal(batch.crops, again.crops)
    checked = 0
    for crop, points, weights in zip(batch.crops, batch.points, batch.weights, strict=True):
        x, y = points[0].tolist()
        if weights[0] > 0 and 6 < x < 58 and 6 < y < 58:
            np.testing.assert_allclose(_middle(crop.numpy(), (255, 230, 0)), (x, y), atol=1.0)
            checked += 1
    assert checked > 5


def test_the_stream_is_the_same_for_any_number_of_processes(sticks) -> None:
    repeats = np.array([1, 2, 1, 1, 1, 1, 1], np.int32)
    config = _config(sticks, batch=4, epochs=3, stages=())
    alone = list(Plan(config, repeats).parts(0, 0))
    pair = [list(Plan(config, repeats, rank=r, world=2).parts(0, 0)) for r in range(2)]
    assert [[*a, *b] for a, b in zip(*pair, strict=True)] == alone
    assert list(Plan(config, repeats).parts(2, 8)) == alone[2:]
    rows = [draw.row for part in alone[:2] for draw in part]
    assert sorted(rows) == [0, 1, 1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_workers_change_nothing(sticks) -> None:
    config = _config(sticks).model_copy(update={"augment": GEOMETRY})
    people = read_coco(config.data.train[0], sticks / "train.json", sticks / "images")
    parts = list(Plan(config, people.repeats).parts(0, 0))[:3]
    apart = config.model_copy(update={"data": config.data.model_copy(update={"workers": 2})})
    for here, there in zip(
        batches(people, config, parts), batches(people, apart, parts), strict=True
    ):
        assert torch.equal(here.crops, there.crops)
        assert torch.equal(here.points, there.points)


def test_unreadable_photos_weigh_nothing(sticks, tmp_path) -> None:
    config = _config(sticks)
    people = read_coco(config.data.train[0], sticks / "train.json", sticks / "images")
    lost = people.chosen(np.arange(3))
    broken = tuple("missing.png" for _ in range(3))
    from dataclasses import replace

    _, sample = Crops(replace(lost, files=broken), config)[Draw(0, 2, (64, 64), 1.5)]
    assert sample[4] == 2
    assert sample[2].sum() == 0
