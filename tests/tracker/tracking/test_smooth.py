from dataclasses import replace

import numpy as np
import pytest

from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.tracking.smooth import OneEuroOptions, Smoother

from .people import frame


def known(poses: Poses, ids: list[int]) -> Poses:
    return replace(poses, ids=np.array(ids, np.int64))


def reference(values: list[float], times: list[float], cutoff: float, beta: float) -> list[float]:
    """The filter as printed in Casiez et al. 2012, for one value at a time."""

    def alpha(rate: float, dt: float) -> float:
        return 1.0 / (1.0 + 1.0 / (2 * np.pi * rate * dt))

    out, speed = [values[0]], 0.0
    for i in range(1, len(values)):
        dt = times[i] - times[i - 1]
        measured = (values[i] - out[-1]) / dt
        speed += alpha(1.0, dt) * (measured - speed)
        a = alpha(cutoff + beta * abs(speed), dt)
        out.append(a * values[i] + (1 - a) * out[-1])
    return out


def test_equals_the_published_filter() -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.01, 0.08, 40)).tolist()
    moves = rng.normal(0, 3, 40)
    smoother = Smoother(COCO17, OneEuroOptions(min_cutoff=1.0, beta=5.0))
    found, raw = [], []
    for i, time in enumerate(times):
        poses = frame(i, time, [(0, 0)], size=(100, 100))
        poses.keypoints[0, 0] = (moves[i], 50)
        raw.append(float(poses.keypoints[0, 0, 0]) / 100)
        found.append(smoother.update(known(poses, [1])).keypoints[0, 0, 0] / 100)
    assert found == pytest.approx(reference(raw, times, 1.0, 5.0), abs=1e-5)


@pytest.mark.parametrize("strength", ["light", "strong"])
def test_rest_is_calmer_and_a_walk_is_not_left_behind(strength: str) -> None:
    rng = np.random.default_rng(1)
    smoother = Smoother(COCO17, strength)  # type: ignore[arg-type]
    still, calm = [], []
    for i in range(120):
        poses = frame(i, i / 30, [(0, 0)])
        poses.keypoints[:] += rng.normal(0, 1.5, poses.keypoints.shape)
        still.append(poses.keypoints[0])
        calm.append(smoother.update(known(poses, [1])).keypoints[0])
    jitter = [np.abs(np.diff(np.array(x[30:]), 2, axis=0)).mean() for x in (still, calm)]
    assert jitter[1] < 0.6 * jitter[0]
    for i in range(60):
        poses = frame(120 + i, 4 + i / 30, [(4 * i, 0)])  # more than a size a second
        smooth = smoother.update(known(poses, [1]))
    assert np.abs(smooth.keypoints - poses.keypoints).max() < 12


def test_off_changes_nothing() -> None:
    smoother = Smoother(COCO17, "off")
    for i in range(3):
        poses = known(frame(i, i / 30, [(50 * i, 0)]), [1])
        assert smoother.update(poses) is poses


def test_a_new_id_begins_where_it_is() -> None:
    smoother = Smoother(COCO17, "strong")
    smoother.update(known(frame(0, 0.0, [(0, 0)]), [1]))
    poses = known(frame(1, 0.03, [(500, 0)]), [2])
    assert smoother.update(poses).keypoints == pytest.approx(poses.keypoints)


def test_a_joint_with_a_low_score_goes_with_the_body() -> None:
    smoother = Smoother(COCO17, "light")
    wrist = COCO17.index("left_wrist")
    for i in range(30):
        poses = known(frame(i, i / 30, [(3 * i, 0)]), [1])
        truth = poses.keypoints[0, wrist].copy()
        if i >= 10:
            poses.keypoints[0, wrist] = (900, 900)
            poses.scores[0, wrist] = 0.0
        smooth = smoother.update(poses)
    assert np.abs(smooth.keypoints[0, wrist] - truth).max() < 15


def test_people_change_places_in_the_arrays() -> None:
    smoother = Smoother(COCO17, "light")
    for i in range(10):
        places, ids = [(0, 0), (400, 0)], [1, 2]
        if i % 2:
            places, ids = places[::-1], ids[::-1]
        poses = known(frame(i, i / 30, places), ids)
        assert smoother.update(poses).keypoints == pytest.approx(poses.keypoints, abs=1e-3)


def test_the_dead_are_forgotten() -> None:
    smoother = Smoother(COCO17, "light")
    for i in range(300):
        smoother.update(known(frame(i, float(i), [(0, 0), (400, 0)]), [2 * i + 1, 2 * i + 2]))
        assert len(smoother) == 2


def test_time_that_stands_still_or_jumps_back() -> None:
    smoother = Smoother(COCO17, "light")
    for i, time in enumerate([1.0, 1.0, 0.99, 1.03, 0.0, 0.03]):
        poses = known(frame(i, time, [(i, 0)]), [1])
        assert np.isfinite(smoother.update(poses).keypoints).all()
