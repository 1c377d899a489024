"""Sampling by time and normalising."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hrtrack.actions.info import Window, normalise, sample

WINDOW = Window(2.0, 32)


def _course(times: NDArray[np.float64]) -> NDArray[np.float32]:
    """Thirteen joints that move in circles of their own."""
    phase = np.arange(13) + 2 * times[:, None]
    spot = 300 + 40 * np.arange(13)
    return np.stack(
        (spot + 30 * np.cos(phase), spot + 30 * np.sin(phase), np.ones_like(phase)), -1
    ).astype(np.float32)


def test_frame_rates_agree() -> None:
    fine = np.arange(0, 3, 1 / 60)
    coarse = np.arange(0, 3, 1 / 10)
    a = normalise(sample(fine, _course(fine), 2.9, WINDOW)[None])
    b = normalise(sample(coarse, _course(coarse), 2.9, WINDOW)[None])
    assert np.abs(a - b).max() < 0.01
    assert (a[:, 2] == 1).all()


def test_before_the_first_frame_nothing_was_seen() -> None:
    times = np.arange(0, 1, 1 / 30)
    window = sample(times, _course(times), float(times[-1]), WINDOW)
    unseen = (window[..., 2] == 0).all(1)
    assert unseen[:15].all()
    assert not unseen[-15:].any()


def test_a_long_gap_is_not_bridged_and_a_short_one_is() -> None:
    times = np.arange(0, 2, 1 / 30)
    joints = _course(times)
    lost = (times > 0.5) & (times < 1.6)
    window = sample(times[~lost], joints[~lost], float(times[-1]), WINDOW)
    at = times[-1] - WINDOW.step * np.arange(31, -1, -1)
    middle = (at > 0.9) & (at < 1.2)
    assert not window[middle].any()
    assert window[(at < 0.5) | (at > 1.7)][..., 2].all()

    lost = (times > 0.5) & (times < 0.8)
    window = sample(times[~lost], joints[~lost], float(times[-1]), WINDOW)
    assert window[..., 2].all()


def test_a_joint_missing_in_one_frame_is_taken_from_the_other() -> None:
    times = np.array([0.0, 1 / 30])
    joints = _course(times)
    joints[1, 5] = 0
    window = sample(times, joints, 1 / 60, Window(0.1, 8, 0.3))
    np.testing.assert_allclose(window[-1, 5], joints[0, 5])
    np.testing.assert_allclose(window[-1, 4], joints.mean(0)[4], rtol=1e-5)


def test_place_and_size_in_the_picture_do_not_matter() -> None:
    times = np.arange(0, 2, 1 / 30)
    windows = sample(times, _course(times), float(times[-1]), WINDOW)[None]
    windows[0, 3:9, 4] = 0
    moved = windows * np.array([0.25, 0.25, 1]) + np.array([70, -30, 0])
    moved = (moved * (windows[..., 2:] > 0)).astype(np.float32)
    np.testing.assert_allclose(normalise(moved), normalise(windows), atol=1e-4)


def test_nothing_seen_gives_zeros() -> None:
    empty = sample(np.empty(0), np.empty((0, 13, 3), np.float32), 1.0, WINDOW)
    assert not normalise(empty[None]).any()
