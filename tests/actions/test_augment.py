"""Augmentation, unknown people and the dials of evaluation."""

from __future__ import annotations

import numpy as np

from hrtrack.actions.clips import ActionClip
from hrtrack.actions.info import Window
from hrtrack.actions.training.augment import (
    SPREAD,
    at_rate,
    augment,
    gaps,
    keypoint_noise,
    mirror,
    spoil,
)
from hrtrack.actions.training.batches import batches, in_units
from hrtrack.actions.training.bystanders import bystanders
from hrtrack.skeleton import ACTION13

RNG = np.random.default_rng


def _clip(label: str = "walk", seed: int = 0, frames: int = 90) -> ActionClip:
    joints = 200 * bystanders(RNG(seed), 1, frames, 1 / 30)[0]
    joints[..., 2] = 1
    return ActionClip(label, label, np.arange(frames) / 30, joints)


def test_noise_has_the_spread_it_claims() -> None:
    noise = keypoint_noise(RNG(0), (400, 32), np.full(400, 1.0, np.float32))
    found = np.sqrt(np.square(noise).sum(-1).mean((0, 1)))
    np.testing.assert_allclose(found, SPREAD, rtol=0.06)
    assert not keypoint_noise(RNG(0), (3, 8), np.zeros(3, np.float32)).any()


def test_gaps_have_the_rate_and_length_they_claim() -> None:
    lost = gaps(RNG(0), (300, 64), np.full(300, 0.2, np.float32), run=4.0)
    assert abs(lost.mean() - 0.2) < 0.01
    ends = lost[:, :-1] & ~lost[:, 1:]
    assert abs(lost[:, :-1].sum() / ends.sum() - 4.0) < 0.3


def test_mirror_twice_is_nothing_and_swaps_sides() -> None:
    windows = in_units(bystanders(RNG(0), 3, 16, 0.1))
    np.testing.assert_array_equal(mirror(mirror(windows)), windows)
    left = ACTION13.index("left_wrist")
    right = ACTION13.index("right_wrist")
    np.testing.assert_array_equal(mirror(windows)[..., left, 0], -windows[..., right, 0])


def test_augment_leaves_its_input_and_hides_lost_joints() -> None:
    windows = in_units(bystanders(RNG(0), 64, 32, 1 / 16))
    before = windows.copy()
    out = augment(RNG(1), windows)
    np.testing.assert_array_equal(windows, before)
    assert np.isfinite(out).all()
    assert not out[out[..., 2] == 0].any()
    assert (out[..., 2] <= 1).all()
    assert 0.6 < (out[..., 2] > 0).mean() < 0.98


def test_bystanders_are_people() -> None:
    people = bystanders(RNG(0), 200, 32, 1 / 16)
    assert people.shape == (200, 32, 13, 3)
    assert np.isfinite(people).all()
    head, ankles = people[..., 0, 1], people[..., 11:, 1].max(-1)
    assert (head < ankles).mean() > 0.97, "y points down: the head is above the feet"
    thigh = np.linalg.norm(people[..., 7, :2] - people[..., 9, :2], axis=-1)
    assert thigh.max() <= 0.2451
    travel = np.ptp(people[..., :2].mean(2), axis=1).max(-1)
    assert (travel > 0.3).any()
    assert (travel < 0.1).any()


def test_batches_show_known_and_unknown() -> None:
    clips = [_clip(label, seed) for seed, label in enumerate(("a", "b", "unknown"))]
    inputs, targets = next(batches(RNG(0), clips, ("a", "b"), Window(2.0, 32), 12, 0.25))
    assert inputs.shape == (16, 3, 32, 13)
    assert inputs.dtype == np.float32
    assert np.bincount(targets).tolist() == [4, 4, 8], "a third of the clips and the 4 extra"


def test_spoil_moves_joints_by_the_persons_size() -> None:
    clip = _clip()
    worse = spoil(RNG(0), clip, noise=1.0, missing=0.2)
    seen = worse.joints[..., 2] > 0
    assert abs(seen.mean() - 0.8) < 0.06
    moved = np.linalg.norm((worse.joints - clip.joints)[..., :2], axis=-1)[seen]
    middle = clip.joints[..., :2].mean(1, keepdims=True)
    unit = np.sqrt(np.median(np.square(clip.joints[..., :2] - middle).sum(-1).mean(1)))
    assert 0.8 < np.sqrt(np.square(moved).mean()) / unit / np.sqrt((SPREAD**2).mean()) < 1.2


def test_spoil_does_without_most_of_the_frames() -> None:
    clip = _clip()
    clip.joints[:60] = 0
    worse = spoil(RNG(0), clip, noise=1.0, missing=0.2)
    assert np.isfinite(worse.joints).all()
    assert not worse.joints[:60].any()
    assert worse.joints[60:, :, 2].any()


def test_other_frame_rates_keep_the_times() -> None:
    clip = _clip()
    slow = at_rate(clip, 10)
    assert len(slow.times) == 30
    np.testing.assert_allclose(np.diff(slow.times), 0.1, atol=1e-6)
    assert len(at_rate(clip, 60).times) == len(clip.times)
    assert len(clip.first(0.1).times) == 9
