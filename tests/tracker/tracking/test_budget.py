"""Who is estimated in a frame, and what becomes of those who are not."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from hrtrack.errors import UsageError
from hrtrack.geometry import iou
from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17
from hrtrack.tracker.api import Tracker
from hrtrack.tracker.tracking.associate import Tracks
from hrtrack.tracker.tracking.budget import (
    FEW,
    LONGEST,
    MOST_FRAMES,
    MOST_SECONDS,
    OVERLAP,
    RECENTLY,
    Budget,
)
from hrtrack.tracker.tracking.flow import Flow
from hrtrack.tracker.tracking.proposals import BoxProposer
from hrtrack.tracker.tracking.schedule import DetectionSchedule
from hrtrack.tracker.tracking.state import Proposals
from hrtrack.tracker.video.frame import Frame

from .people import frame

RATE = 30.0
PICTURE = np.zeros((720, 1280, 3), np.uint8)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Loop:
    """The stations of a frame with a network that sees everybody and takes virtual time."""

    def __init__(self, budget: Budget, clock: Clock | None = None) -> None:
        self.budget, self.clock = budget, clock or Clock()
        self.tracks = Tracks(COCO17)
        self.truth = frame(0, 0.0, [])
        self.looked: list[set[int]] = []
        self.work = 0.0  # seconds of a frame but for its poses
        self.person = 0.0
        self.pictures: list[bool] = []  # which frames somebody who carries joints looks at
        self.proposer = BoxProposer(
            lambda image: (self.truth.boxes, self.truth.person_scores), self.tracks, every=1
        )

    def step(self, truth: Poses) -> Poses:
        """One frame: ``truth`` is where everybody stands."""
        self.truth = truth
        picture = Frame(truth.frame, truth.time, PICTURE)
        self.budget.begin(picture)
        self.clock.now += self.work
        proposals = self.proposer.propose(picture)
        self.pictures.append(self.budget.short)
        chosen = self.budget.choose(proposals, self.tracks.live(truth.time), truth.time)
        to_carry = self.tracks.to_carry(proposals[~chosen])
        proposals = proposals[chosen]
        corners = proposals.boxes[:, None, :2] - truth.boxes[None, :, :2]
        whom = np.abs(corners).sum(axis=2).argmin(axis=1)
        self.clock.now += self.person * len(whom)
        self.budget.estimated(self.person * len(whom))
        self.looked.append(set(whom.tolist()))
        found = self.tracks.update(truth[whom], proposals, to_carry)
        self.budget.finish()
        return found


def crowd(index: int, speeds: list[float], rate: float = RATE) -> Poses:
    """People side by side who walk down at so many pixels a second."""
    time = index / rate
    return frame(index, time, [(90.0 * i, 50.0 + v * time) for i, v in enumerate(speeds)])


def test_a_share_estimates_so_many_and_carries_the_others_where_they_are() -> None:
    loop = Loop(Budget(share=1 / 3))
    speeds = [60.0, 90.0, 0.0, 0.0, 120.0, 30.0]
    runs = [loop.step(crowd(i, speeds)) for i in range(60)]
    assert np.mean([len(looked) for looked in loop.looked[10:]]) == pytest.approx(2, abs=0.1)
    for poses in runs[10:]:
        truth = crowd(poses.frame, speeds)
        assert sorted(poses.ids.tolist()) == [1, 2, 3, 4, 5, 6]
        assert poses.estimated.sum() == len(loop.looked[poses.frame])
        order = np.argsort(poses.ids)
        gap = np.abs(poses.keypoints[order] - truth.keypoints)
        assert gap.max() < 6.0  # a body is 150 pixels high


def test_nobody_waits_longer_than_the_bound_however_small_the_share_is() -> None:
    for rate in (30.0, 15.0, 10.0):
        loop = Loop(Budget(share=0.01))
        for i in range(40):
            loop.step(crowd(i, [0.0] * 8, rate))
        for person in range(8):
            seen = [i for i, looked in enumerate(loop.looked) if person in looked]
            frames = max(b - a for a, b in itertools.pairwise(seen))
            assert frames - 1 <= MOST_FRAMES or (frames - 1) / rate <= MOST_SECONDS + 1e-9
            assert (frames - 1) / rate <= LONGEST
            # and no earlier, for there are no turns for it
            assert frames > MOST_FRAMES or frames / rate > LONGEST


def followed(corners: list[tuple[float, float]]) -> tuple[Tracks, Proposals]:
    """People who have their IDs, from 1 on, and the boxes where they stand."""
    tracks = Tracks(COCO17)
    for i in range(5):
        tracks.update(frame(i, i / RATE, corners))
    live = tracks.live(5 / RATE)
    assert live.ids.tolist() == [1, 2, 3][: len(corners)]
    still = np.zeros(len(live), bool)
    return tracks, Proposals(live.bodies, live.scores, live.keys, still, False)


def moved_by(*shifts: float) -> Any:
    """Optical flow that sees each person go so many pixels to the right."""

    def flow(keypoints: Any, certain: Any, sizes: Any) -> Any:
        steps = np.array([[shift, 0.0] for shift in shifts])
        return keypoints + steps[:, None], steps, np.ones(len(keypoints), bool)

    return flow


def test_a_pose_in_a_newcomers_box_is_that_of_the_carried_person_whom_it_shows() -> None:
    tracks, boxes = followed([(100.0, 50.0)])
    to_carry = tracks.to_carry(boxes)
    # The detector sees the head alone, far from the box of the whole body.
    head = np.array([[95.0, 50.0, 165.0, 90.0]])
    pose = replace(frame(5, 5 / RATE, [(100.0, 50.0)]), boxes=head.astype(np.float32))
    found = tracks.update(pose, Proposals.from_detections(head, np.array([0.8])), to_carry)
    assert found.ids.tolist() == [1]
    assert found.estimated.all()
    assert len(tracks) == 1


@pytest.fixture
def covered() -> tuple[Tracks, Proposals, Poses]:
    """Three people who are followed, their boxes, and where they stand: the first one's box has
    gone onto the second person."""
    corners = [(100.0, 50.0), (190.0, 50.0), (600.0, 50.0)]
    tracks, boxes = followed(corners)
    shift = np.array([[90.0, 0, 90, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    return tracks, replace(boxes, boxes=boxes.boxes + shift), frame(5, 5 / RATE, corners)


def test_whoever_is_carried_onto_somebody_else_is_not_shown_as_a_second_person(
    covered: tuple[Tracks, Proposals, Poses],
) -> None:
    tracks, boxes, truth = covered
    alarms = tracks.alarms
    estimated, carried = np.array([1]), np.array([0, 2])
    to_carry = tracks.to_carry(boxes[carried], moved_by(90.0, 0.0))
    found = tracks.update(truth[estimated], boxes[estimated], to_carry)
    assert found.ids.tolist() == [2, 3]
    assert found.estimated.tolist() == [True, False]
    assert tracks.alarms == alarms + 1  # the detector looks for the one who was lost


def test_of_two_who_are_carried_onto_one_another_the_first_is_shown(
    covered: tuple[Tracks, Proposals, Poses],
) -> None:
    tracks, boxes, truth = covered
    estimated, carried = np.array([2]), np.array([0, 1])
    to_carry = tracks.to_carry(boxes[carried], moved_by(90.0, 0.0))
    found = tracks.update(truth[estimated], boxes[estimated], to_carry)
    assert found.ids.tolist() == [3, 1]


def test_people_who_only_pass_close_by_are_both_carried() -> None:
    corners = [(100.0, 50.0), (130.0, 50.0)]
    tracks, boxes = followed(corners)
    found = tracks.update(
        frame(5, 5 / RATE, []), boxes[np.zeros(0, np.intp)], tracks.to_carry(boxes)
    )
    assert sorted(found.ids.tolist()) == [1, 2]


def test_it_is_known_for_a_while_that_somebody_was_left_out() -> None:
    loop = Loop(Budget(share=0.5))
    assert not loop.budget.spares(0.0)
    for i in range(10):
        loop.step(crowd(i, [0.0] * 6))
    last = 9 / RATE
    assert loop.budget.spares(last)
    assert not loop.budget.spares(last + 1.5 * RECENTLY)


def test_newcomers_are_estimated_at_once() -> None:
    loop = Loop(Budget(share=0.01))
    for i in range(10):
        loop.step(crowd(i, [0.0] * 4))
    loop.step(crowd(10, [0.0] * 5))
    assert 4 in loop.looked[-1]
    poses = loop.step(crowd(11, [0.0] * 5))
    assert 4 in loop.looked[-1]  # until there is an identity
    assert len(poses) == 5


def test_whoever_strays_from_the_predicted_motion_has_more_turns() -> None:
    loop = Loop(Budget(share=0.5))
    rng = np.random.default_rng(3)
    for i in range(90):
        truth = crowd(i, [0.0] * 6)
        truth.keypoints[2] += rng.normal(0, 6, truth.keypoints[2].shape).astype(np.float32)
        loop.step(truth)
    turns = [sum(person in looked for looked in loop.looked) for person in range(6)]
    assert turns[2] > 1.3 * np.mean(turns[:2] + turns[3:])


def test_a_target_is_kept_and_everybody_estimated_where_there_is_time() -> None:
    clock = Clock()
    loop = Loop(Budget(target_fps=20, clock=clock), clock)
    loop.work, loop.person = 0.02, 0.005
    for i in range(100):  # 20 ms and 5 ms each for 12 people: 80 ms where 50 are wanted
        loop.step(crowd(i, [0.0] * 12, 20.0))
    begun = clock.now
    for i in range(100, 200):
        loop.step(crowd(i, [0.0] * 12, 20.0))
    assert 100 / (clock.now - begun) == pytest.approx(20, rel=0.1)
    loop.person = 0.001
    for i in range(200, 300):
        poses = loop.step(crowd(i, [0.0] * 12, 20.0))
    assert poses.estimated.all()


def test_pictures_are_looked_at_only_where_time_is_short() -> None:
    clock = Clock()
    loop = Loop(Budget(target_fps=20, clock=clock), clock)
    loop.work, loop.person = 0.01, 0.001
    for i in range(60):
        loop.step(crowd(i, [0.0] * 12, 20.0))
    assert not any(loop.pictures)
    loop.person = 0.008
    runs = [loop.step(crowd(i, [0.0] * 12, 20.0)) for i in range(60, 120)]
    left_out = [i for i, poses in enumerate(runs, start=60) if not poses.estimated.all()]
    assert left_out
    assert all(loop.pictures[i - 1] and loop.pictures[i] for i in left_out)


def test_the_bound_wins_over_a_target_out_of_reach() -> None:
    clock = Clock()
    loop = Loop(Budget(target_fps=1000, clock=clock), clock)
    loop.work, loop.person = 0.02, 0.005
    for i in range(60):
        loop.step(crowd(i, [0.0] * 8))
    for person in range(8):
        seen = [i for i, looked in enumerate(loop.looked) if person in looked]
        assert max(b - a for a, b in itertools.pairwise(seen)) <= 1 + MOST_SECONDS * RATE


def test_poses_that_cost_as_much_for_one_as_for_all_are_not_left_out() -> None:
    clock = Clock()
    budget = Budget(target_fps=100, clock=clock)
    loop = Loop(budget, clock)
    loop.work = 0.004
    for i in range(60):
        poses = loop.step(crowd(i, [0.0] * 8))
        budget.estimated(0.01)  # however many they were
        clock.now += 0.01
        budget.finish()
    assert poses.estimated.all()


def test_calls_in_another_order_fail() -> None:
    nobody = Proposals.from_detections(np.zeros((0, 4)), np.zeros(0))
    tracks, picture = Tracks(COCO17), Frame(0, 0.0, PICTURE)
    for budget in (Budget(share=0.5), Budget(target_fps=20)):
        with pytest.raises(AssertionError, match=r"choose\(\) comes after begin"):
            budget.choose(nobody, tracks.live(0.0), 0.0)
        budget.begin(picture)
        with pytest.raises(AssertionError, match=r"estimated\(\) comes after choose"):
            budget.estimated(0.01)
        budget.choose(nobody, tracks.live(0.0), 0.0)
        with pytest.raises(AssertionError, match=r"finish\(\) comes after estimated"):
            budget.finish()
        budget.begin(picture)  # as after a frame that broke off
    schedule = DetectionSchedule(4, measured=False)
    with pytest.raises(AssertionError, match=r"due\(\) comes once after observe"):
        schedule.due(tracks.live(0.0), 0)
    schedule.observe(picture)
    with pytest.raises(AssertionError, match=r"finish\(\) comes after begin"):
        schedule.finish()
    assert schedule.due(tracks.live(0.0), 0)
    schedule.begin(0)
    with pytest.raises(AssertionError, match=r"begin\(\) comes after observe"):
        schedule.begin(0)
    schedule.finish()


def test_flow_finds_joints_again_in_a_picture_that_moved() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (90, 160), np.uint8)
    picture = np.kron(small, np.ones((8, 8), np.uint8))[..., None].repeat(3, axis=2)
    flow = Flow()
    people = crowd(0, [0.0] * 3)
    points, certain = people.keypoints.astype(float), people.scores >= 0.3
    certain[2] = False
    flow.update(picture)
    flow.update(np.roll(picture, (6, -9), axis=(0, 1)))
    moved, shifts, found = flow(points, certain, np.full(3, 100.0))
    assert found.tolist() == [True, True, False]
    assert shifts[:2] == pytest.approx(np.array([[-9, 6]] * 2), abs=0.5)
    assert (moved - points)[:2] == pytest.approx(np.broadcast_to([-9, 6], (2, 17, 2)), abs=1.0)
    assert (moved[2] == points[2]).all()


@pytest.mark.parametrize(
    "given", [{}, {"share": 0.5, "target_fps": 30}, {"share": 0}, {"share": 1.5}, {"target_fps": 0}]
)
def test_an_impossible_budget_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Budget(**given)  # type: ignore[arg-type]


def test_people_who_cover_one_another_are_estimated_in_every_frame() -> None:
    loop = Loop(Budget(share=0.01))
    places = [(100.0, 50.0), (120.0, 50.0), (400.0, 50.0), (600.0, 50.0)]
    for i in range(20):
        loop.step(frame(i, i / RATE, places))
    assert all({0, 1} <= looked for looked in loop.looked)
    assert sum(2 in looked for looked in loop.looked) < 10


def test_people_who_are_about_to_cross_are_estimated_in_every_frame() -> None:
    loop = Loop(Budget(share=0.01))
    met = None
    for i in range(50):
        gap = 250.0 - 5.0 * i
        truth = frame(i, i / RATE, [(100.0, 50.0), (100.0 + gap, 50.0), (700.0, 50.0)])
        loop.step(truth)
        if met is None and iou(truth.boxes[:1], truth.boxes[1:2])[0, 0] >= OVERLAP:
            met = i
    assert met is not None
    assert all({0, 1} <= looked for looked in loop.looked[met - 4 : met + 3])
    assert sum({0, 1} <= looked for looked in loop.looked[: met - 10]) < met / 2


def test_in_a_crowd_nobody_is_estimated_for_covering_somebody() -> None:
    loop = Loop(Budget(share=0.01))
    for i in range(40):
        loop.step(frame(i, i / RATE, [(100.0 + 30 * n, 50.0) for n in range(14)]))
    looked = [len(looked) for looked in loop.looked[5:]]
    assert len(loop.truth) > FEW
    assert np.mean(looked) <= 0.5 + 14 / (1 + MOST_FRAMES)


def test_by_default_only_live_sources_have_a_budget_at_their_own_rate() -> None:
    with Tracker(threads=1) as tracker:
        assert tracker.options.target_fps == "auto"
        assert tracker.pipeline(rate=25.0).budget is None
        live = tracker.pipeline(live=True, rate=25.0)
        assert live.budget is not None
        assert live.flow is not None
        live.close()
        # A carried person would have no heatmap.
        drawn = tracker.pipeline(live=True, rate=25.0, keep_heatmaps=True)
        assert drawn.budget is None
        drawn.close()
