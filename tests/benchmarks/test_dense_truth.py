"""What the bench of live runs against dense truth counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.dense_truth import Truth, row_of
from benchmarks.live_file import Processed
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.video.frame import Frame

SIGMAS = np.array(COCO17.sigmas)
PICTURE = np.zeros((2, 2, 3), np.uint8)


def people(index: int, time: float, places: dict[int, float]) -> Poses:
    """People by their IDs, each 100 pixels wide and 200 high at some x."""
    xs = np.array(list(places.values()))
    boxes = np.stack([xs, 0 * xs, xs + 100, 0 * xs + 200], axis=1)
    points = np.linspace(0, 1, 34).reshape(17, 2) * [100, 200]
    return Poses(
        index,
        time,
        boxes.astype(np.float32),
        np.ones(len(xs), np.float32),
        (points[None] + boxes[:, None, :2]).astype(np.float32),
        np.ones((len(xs), 17), np.float32),
        np.array(list(places), np.int64),
    )


def walk(i: int) -> dict[int, float]:
    """Two who walk 4 pixels a frame, and one who is there for three frames only."""
    return {1: 4.0 * i, 2: 500.0 + 4 * i, **({3: 900.0} if 3 <= i < 6 else {})}


TRUTH = Truth(
    [people(i, 0.1 * i, walk(i)) for i in range(20)], 0.1, frozenset({1, 2}), SIGMAS
)  # fmt: skip


def live(poses: list[Poses], age: float) -> Processed:
    """A run that showed these, each so many seconds after its frame came."""
    frames = [Frame(p.frame, p.time, PICTURE, arrived=p.time) for p in poses]
    return Processed(frames, poses, [age] * len(poses), 0)


def test_a_prompt_run_that_sees_all_is_perfect_and_passers_by_do_not_count() -> None:
    seen = [people(i, 0.1 * i, {i + 7: x for i, x in walk(i).items()}) for i in range(20)]
    row = row_of(TRUTH, [live(seen, 0.0)])
    for view in (row.frames, row.moments):
        assert view.idf1 == view.oks == 1.0
        assert view.missed == view.extra == view.switches == 0.0
    without = [people(i, 0.1 * i, {1: 4.0 * i, 2: 500.0 + 4 * i}) for i in range(20)]
    assert row_of(TRUTH, [live(without, 0.0)]).frames.oks == 1.0


def test_what_is_shown_late_is_right_of_its_frames_and_wrong_at_the_moment() -> None:
    seen = [people(i, 0.1 * i, walk(i)) for i in range(20)]
    row = row_of(TRUTH, [live(seen, 0.35)])
    assert row.frames.oks == 1.0
    assert row.moments.oks < 0.9
    assert row.age == pytest.approx(350)


def test_a_second_track_and_another_identity_cost() -> None:
    seen = []
    for i in range(20):
        places = walk(i) | {9: 500.0 + 4 * i + 5}  # somebody seen twice
        if i >= 10:
            places = {{1: 8}.get(number, number): x for number, x in places.items()}
        seen.append(people(i, 0.1 * i, places))
    row = row_of(TRUTH, [live(seen, 0.0)])
    assert row.frames.extra == 1.0
    assert row.frames.switches == pytest.approx(1 / (1.9 / 60))
    assert row.frames.idf1 < 0.8


def test_whoever_is_not_shown_is_missed() -> None:
    seen = [replace(people(i, 0.1 * i, {1: 4.0 * i}), frame=i) for i in range(20)]
    row = row_of(TRUTH, [live(seen, 0.0)])
    assert row.frames.missed == 0.5
    assert row.frames.oks == 0.5
