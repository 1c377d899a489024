"""Live tracking in virtual time, as the bench of live against file plays it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.live_file import costs_of, open_clip, restamped, run_live
from benchmarks.virtual_time import Camera, Clock, OneWorker
from hrtrack.tracker.api import Tracker


def test_a_slow_loop_gets_the_newest_frame_and_counts_the_others() -> None:
    clock, camera = Clock(), Camera(10.0, 8)
    got = []
    for number, arrived in camera.frames(clock):
        got.append((number, arrived))
        clock.now += 0.25
    assert got == [(0, 0.0), (2, 0.2), (5, 0.5), (7, 0.7)]
    assert camera.dropped == 4


def test_a_fast_loop_waits_for_the_camera() -> None:
    clock, camera = Clock(), Camera(10.0, 3)
    instants = []
    for _ in camera.frames(clock):
        instants.append(clock.now)
        clock.now += 0.01
    assert instants == [0.0, 0.1, 0.2]
    assert camera.dropped == 0


def test_a_result_shows_when_its_time_has_come_and_one_task_runs_after_the_other() -> None:
    clock = Clock()
    worker = OneWorker(clock)

    def work(seconds: float) -> float:
        clock.now += seconds
        return clock.now

    first, second = worker.submit(work, 0.3), worker.submit(work, 0.2)
    assert clock.now == 0.0
    clock.now = 0.31
    assert first.done()
    assert not second.done()
    assert second.result() == pytest.approx(0.5)
    assert clock.now == pytest.approx(0.5)


def test_a_task_that_fails_fails_where_its_result_is_asked_for() -> None:
    worker = OneWorker(Clock())
    future = worker.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        future.result()


@pytest.mark.slow
@pytest.mark.shared
def test_two_live_runs_show_the_same(shared: Path, tmp_path: Path) -> None:
    with Tracker(threads=1) as tracker:
        runs = []
        for name in ("first", "second"):
            clip = open_clip(shared / "clips/exercise.avi", tracker, [], tmp_path / name)
            clip.images = clip.images[:30]
            camera, costs = costs_of(clip, 10.0, "faster")
            runs.append(run_live(clip, restamped(30, 10.0, camera, None), "auto", costs))
    first, second = runs
    assert 0 < first.dropped == second.dropped
    assert [frame.index for frame in first.frames] == [frame.index for frame in second.frames]
    assert sum(map(len, first.poses)) > 0
    for a, b in zip(first.poses, second.poses, strict=True):
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_allclose(a.keypoints, b.keypoints, atol=1e-3)


@pytest.mark.shared
def test_a_budget_changes_nothing_where_the_loop_keeps_up(shared: Path, tmp_path: Path) -> None:
    with Tracker(threads=1) as tracker:
        clip = open_clip(shared / "clips/exercise.avi", tracker, [], tmp_path)
        clip.images = clip.images[:40]
        camera, costs = costs_of(clip, 10.0, "one-late")
        showing = restamped(40, 10.0, camera, None)
        plain, budget = (run_live(clip, showing, "auto", costs, kind) for kind in (False, True))
    assert plain.dropped == budget.dropped == 0
    assert sum(map(len, plain.poses)) > 0
    for a, b in zip(plain.poses, budget.poses, strict=True):
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_array_equal(a.keypoints, b.keypoints)
        np.testing.assert_array_equal(a.boxes, b.boxes)
        assert b.estimated.all()
