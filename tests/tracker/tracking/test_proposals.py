import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from hrtrack.geometry import iou
from hrtrack.poses import Poses
from hrtrack.skeleton import ACTION13, COCO17, MPII16
from hrtrack.tracker.stopwatch import Stopwatch
from hrtrack.tracker.tracking.associate import Tracks
from hrtrack.tracker.tracking.body_boxes import Detected, person_boxes, reaches
from hrtrack.tracker.tracking.proposals import BoxOptions, BoxProposer, Detector
from hrtrack.tracker.tracking.schedule import DetectionSchedule
from hrtrack.tracker.video.frame import Frame

from .people import FIGURE, frame

Walk = Callable[[int], list[tuple[float, float]]]
SIZE = np.array([60.0, 150.0])


class Scene:
    """People who walk on a blank picture, a detector that sees them, a perfect pose network."""

    def __init__(self, walk: Walk, fps: float = 30, seen: Walk | None = None) -> None:
        self.walk, self.seen, self.fps = walk, seen or walk, fps
        self.looks: list[int] = []
        self.index = 0
        self.image = np.zeros((300, 1000, 3), np.uint8)

    def detect(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        number = self.number(image)
        self.looks.append(number)
        places = np.array(self.seen(number), np.float32).reshape(-1, 2)
        boxes = np.concatenate([places, places + SIZE], axis=1).astype(np.float32)
        return boxes, np.full(len(boxes), 0.9, np.float32)

    def number(self, image: NDArray[np.uint8]) -> int:
        """Which frame the picture is of."""
        return self.index

    def frame(self) -> Frame:
        return Frame(self.index, self.index / self.fps, self.image)

    def look_ahead(self, proposer: BoxProposer) -> None:
        """Nobody sees the next frame early."""

    def estimate(self, boxes: NDArray[np.floating], scores: NDArray[np.floating]) -> Poses:
        """Every box gets the pose of the person it covers best; none where it covers nobody."""
        truth = frame(self.index, self.index / self.fps, self.walk(self.index))
        keypoints = boxes[:, None, :2] + FIGURE * (boxes[:, None, 2:] - boxes[:, None, :2])
        joint_scores = np.full((len(boxes), len(COCO17)), 0.1)
        if len(truth):
            overlap = iou(boxes, truth.boxes)
            whom = overlap.argmax(axis=1)
            hit = overlap.max(axis=1) > 0.3
            keypoints[hit] = truth.keypoints[whom[hit]]
            joint_scores[hit] = 0.9
        return Poses(
            self.index, self.index / self.fps, boxes.astype(np.float32),
            (scores * joint_scores.mean(axis=1)).astype(np.float32),
            keypoints.astype(np.float32), joint_scores.astype(np.float32),
            np.full(len(boxes), -1, np.int64),
        )  # fmt: skip

    def run(
        self,
        frames: int,
        every: int | Literal["auto"] = "auto",
        detect: Detector | None = None,
        **options: Any,
    ) -> list[Poses]:
        tracks = Tracks(COCO17)
        proposer = BoxProposer(detect or self.detect, tracks, every=every, **options)
        return self.go_on(proposer, tracks, frames)

    def go_on(self, proposer: BoxProposer, tracks: Tracks, frames: int) -> list[Poses]:
        result = []
        for _ in range(frames):
            proposals = proposer.propose(self.frame())
            self.look_ahead(proposer)
            poses = self.estimate(proposals.boxes, proposals.scores)
            result.append(tracks.update(poses, proposals))
            proposer.finish()
            self.index += 1
        return result


class Ahead(Scene):
    """Frames of which the proposer sees the next one early, each with its number in the picture."""

    def __init__(self, walk: Walk, given: Callable[[int], bool]) -> None:
        super().__init__(walk)
        self.given = given
        self.frames = [
            Frame(i, i / self.fps, np.full_like(self.image, i)) for i in range(256)
        ]  # fmt: skip

    def number(self, image: NDArray[np.uint8]) -> int:
        return int(image[0, 0, 0])

    def frame(self) -> Frame:
        return self.frames[self.index]

    def look_ahead(self, proposer: BoxProposer) -> None:
        there = self.given(self.index)
        proposer.look_ahead(self.frames[self.index + 1] if there else None, Stopwatch())


def crowd(index: int) -> list[tuple[float, float]]:
    """One person, from frame 20 on five, from 60 on two; the first runs at times."""
    speed = 2.0 if index < 40 else 6.0
    there = [(speed * index, 20), (700 - 3.0 * index, 100), (300, 60), (450, 120), (900, 10)]
    return there[: 1 if index < 20 else 5 if index < 60 else 2]


@pytest.mark.parametrize("given", [
    lambda index: True, lambda index: index % 3 > 0,
], ids=["always", "now and then"])  # fmt: skip
@pytest.mark.parametrize("every", ["auto", 1, 3])
def test_looking_ahead_changes_nothing(every: Any, given: Callable[[int], bool]) -> None:
    plain, ahead = Ahead(crowd, lambda index: False), Ahead(crowd, given)
    expected = plain.run(100, every=every)
    tracks = Tracks(COCO17)
    proposer = BoxProposer(ahead.detect, tracks, every=every)
    found = ahead.go_on(proposer, tracks, 100)
    proposer.close()
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
    assert set(plain.looks) <= set(ahead.looks)
    # A look in vain costs time, so there are few of them.
    assert len(ahead.looks) <= 1.2 * len(plain.looks) + 1


def test_a_detector_that_fails_ahead_fails_where_it_would_have_looked() -> None:
    scene = Ahead(lambda i: [(100, 20)], lambda index: True)

    def broken(image: NDArray[np.uint8]) -> Any:
        if image[0, 0, 0] == 6:
            raise RuntimeError("no boxes here")
        return scene.detect(image)

    tracks = Tracks(COCO17)
    proposer = BoxProposer(broken, tracks, every=3)
    with pytest.raises(RuntimeError, match="no boxes here"):
        scene.go_on(proposer, tracks, 20)
    assert scene.index == 6
    proposer.close()


def test_the_detector_looks_every_so_often_and_people_are_followed_in_between() -> None:
    scene = Scene(lambda i: [(5.0 * i, 20), (900 - 5.0 * i, 100)])
    poses = scene.run(100, every=10)
    assert scene.looks == list(range(0, 100, 10))
    for i, found in enumerate(poses):
        assert found.ids.tolist() == [1, 2]
        truth = frame(i, 0.0, scene.walk(i)).boxes
        assert (np.diag(iou(found.boxes, truth)) > 0.6).all()


class Webcam(Scene):
    """The same people, but only faces and shoulders are certain."""

    def estimate(self, boxes: NDArray[np.floating], scores: NDArray[np.floating]) -> Poses:
        poses = super().estimate(boxes, scores)
        poses.scores[:, 7:] = 0.1
        return poses


def test_a_box_that_reaches_beyond_the_certain_joints_does_not_shrink() -> None:
    scene = Webcam(lambda i: [(100 + 2.0 * i, 20)])
    poses = scene.run(60, every=1000)
    assert scene.looks == [0]
    for i, found in enumerate(poses):
        truth = frame(i, 0.0, scene.walk(i)).boxes
        assert iou(found.boxes, truth)[0, 0] > 0.7
        np.testing.assert_allclose(found.boxes[0, 2:] - found.boxes[0, :2], SIZE, rtol=0.15)


def test_a_box_follows_whoever_turns_round_between_two_looks() -> None:
    def swing(i: int) -> list[tuple[float, float]]:
        return [(300 + 60 * float(np.sin(2 * np.pi * i / 24)), 20)]

    scene = Scene(swing)
    poses = scene.run(100, every=1000)
    assert scene.looks == [0]
    for i, found in enumerate(poses):
        assert found.ids.tolist() == [1]
        # The box is where the person is in this frame, not where the one before led to.
        assert found.boxes[0, [0, 2]].mean() == pytest.approx(swing(i)[0][0] + 30, abs=1)


def test_a_carried_box_grows_with_its_joints() -> None:
    first = frame(0, 0.0, [(100, 50)])
    certain, new = np.ones((1, len(COCO17)), bool), np.array([-1])
    none = Detected(np.zeros((0, 4)), np.zeros((0, 17, 2)), np.zeros((0, 17), bool))
    found = none.renewed(first, new, certain)
    np.testing.assert_allclose(found.carried(first.keypoints, certain, first.boxes), first.boxes)
    corner = first.boxes[0, :2]
    nearer = replace(first, keypoints=corner + 1.5 * (first.keypoints - corner) + 20)
    later = found.renewed(nearer, np.array([0]), certain)
    np.testing.assert_allclose(later.boxes, first.boxes)
    expected = (first.boxes.reshape(2, 2) - corner) * 1.5 + corner + 20
    carried = later.carried(nearer.keypoints, certain, nearer.boxes)
    np.testing.assert_allclose(carried.reshape(2, 2), expected, atol=0.5)
    few = np.zeros_like(certain)
    few[0, :2] = True
    np.testing.assert_allclose(later.carried(nearer.keypoints, few, nearer.boxes), nearer.boxes)


def test_few_joints_do_not_carry_a_box_off_its_person() -> None:
    first = frame(0, 0.0, [(100, 50)])
    few = np.zeros((1, len(COCO17)), bool)
    few[0, [0, 5, 15]] = True
    none = Detected(np.zeros((0, 4)), np.zeros((0, 17, 2)), np.zeros((0, 17), bool))
    found = none.renewed(first, np.array([-1]), few)
    wrong = first.keypoints.copy()
    wrong[0, 15] += [150, 40]  # one of the three is somebody else's
    carried = found.carried(wrong, few, first.boxes)
    assert iou(carried, first.boxes)[0, 0] > 0.4


def test_a_lost_person_brings_the_detector_early_and_once() -> None:
    scene = Scene(lambda i: [(100, 20), (500, 20)] if i < 25 else [(100, 20)])
    poses = scene.run(60, every=20)
    assert scene.looks[:3] == [0, 20, 26]
    assert len(scene.looks) <= 5
    assert poses[-1].ids.tolist() == [1]


def test_someone_the_detector_misses_is_kept_while_the_pose_is_good() -> None:
    scene = Scene(lambda i: [(100, 20)], seen=lambda i: [] if 10 <= i < 13 else [(100.0, 20.0)])
    poses = scene.run(20, every=1)
    assert all(found.ids.tolist() == [1] for found in poses)


def test_someone_the_detector_never_sees_again_is_let_go() -> None:
    scene = Scene(lambda i: [(100, 20)], seen=lambda i: [(100.0, 20.0)] if i < 10 else [])
    poses = scene.run(40, every=1)
    assert len(poses[-1]) == 0


def test_someone_who_leaves_is_let_go() -> None:
    scene = Scene(lambda i: [(800 + 8.0 * i, 20)], seen=lambda i: [(800 + 8.0 * i, 20)][: i < 20])
    poses = scene.run(40, every=5)
    assert poses[15].ids.tolist() == [1]
    assert len(poses[-1]) == 0


def test_someone_lost_may_come_back_with_a_weak_detection() -> None:
    scene = Scene(lambda i: [(100, 20)] if not 20 <= i < 30 else [])
    plain = scene.detect

    def weak(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        boxes, scores = plain(image)
        return boxes, scores * (1.0 if scene.index < 20 else 0.4)

    options = BoxOptions(new_score=0.5)
    poses = scene.run(40, every=1, detect=weak, options=options)
    assert len(poses[25]) == 0
    assert poses[35].ids.tolist() == [1]


def test_max_people_keeps_those_it_follows() -> None:
    scene = Scene(lambda i: [(100, 20), (300, 20)] + ([(500, 20)] if i > 5 else []))
    poses = scene.run(20, every=2, max_people=2)
    assert all(found.ids.tolist() == [1, 2] for found in poses)


def test_of_one_stable_person_the_detector_is_asked_every_two_seconds() -> None:
    scene = Scene(lambda i: [(100 + 2.0 * i, 20)])
    poses = scene.run(130, every="auto", max_people=1)
    settled = [look for look in scene.looks if look > 5]
    assert len(settled) <= 3
    assert all(b - a >= 55 for a, b in itertools.pairwise(settled))
    assert all(found.ids.tolist() == [1] for found in poses)


def test_one_person_who_is_lost_is_looked_for_at_once() -> None:
    scene = Scene(lambda i: [(100 if i < 40 else 700, 20)])
    poses = scene.run(60, every="auto", max_people=1)
    assert {look for look in scene.looks if 40 <= look <= 43}
    assert len(poses[-1]) == 1
    assert np.abs(poses[-1].boxes[0, 0] - 700) < 20


def test_one_person_whom_the_detector_misses_is_not_taken_for_granted() -> None:
    scene = Scene(lambda i: [(100, 20)], seen=lambda i: [(100, 20)] if i < 20 else [])
    scene.run(400, every="auto", max_people=1)
    assert np.diff([look for look in scene.looks if look > 300]).max() <= 20


def test_the_same_file_gives_the_same_boxes() -> None:
    def once() -> list[NDArray[np.float32]]:
        scene = Scene(lambda i: [(7.0 * i, 20), (400 - 3.0 * i, 40)])
        return [poses.boxes for poses in scene.run(50)]

    for a, b in zip(once(), once(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_auto_looks_oftener_at_people_who_run() -> None:
    looks = []
    for speed in (0.0, 14.0):
        scene = Scene(lambda i, speed=speed: [(speed * i, 20)])
        scene.run(60, every="auto")
        looks.append(len(scene.looks))
    assert 5 <= looks[0] < looks[1] < 60


def test_an_impossible_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="every 0 frames"):
        BoxProposer(lambda image: (np.zeros((0, 4)), np.zeros(0)), Tracks(COCO17), every=0)


class Beside(Scene):
    """The same people before a live camera, by a clock of its own.

    Pose and detector together take longer than a frame, so that the detector runs beside the
    loop; its boxes are there ``late`` frames after the one that they were made from.
    """

    def __init__(self, walk: Walk, late: int, fps: float = 30) -> None:
        super().__init__(walk, fps)
        self.late, self.now = late, 0.0

    def clock(self) -> float:
        return self.now

    def estimate(self, boxes: NDArray[np.floating], scores: NDArray[np.floating]) -> Poses:
        self.now += 0.5 / self.fps
        return super().estimate(boxes, scores)

    def submit(self, work: Callable[..., Any], /, *args: Any) -> Any:
        result, ready = work(*args), self.index + self.late
        return SimpleNamespace(result=lambda: result, done=lambda: self.index >= ready)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None: ...

    def detect(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.now += (self.late + 0.5) / self.fps
        return super().detect(image)

    def live(self, frames: int, **options: Any) -> list[Poses]:
        return self.run(frames, background=True, executor=self, clock=self.clock, **options)


@pytest.mark.parametrize("fps", [30, 10, 5])
@pytest.mark.parametrize("late", [1, 2, 4])
@pytest.mark.parametrize("every", [1, 3, "auto"])
def test_late_boxes_invent_nobody(fps: float, late: int, every: Any) -> None:
    # A brisk walk past each other, 1.2 sizes a second, of people who come in one after another.
    def walk(i: int) -> list[tuple[float, float]]:
        return [(126.0 * i / fps, 20), (700 - 126.0 * i / fps, 180)]

    scene = Beside(walk, late, fps)
    scene.image = np.zeros((400, 1000, 3), np.uint8)
    poses = scene.live(int(5 * fps), every=every)
    assert {i for found in poses for i in found.ids.tolist()} == {1, 2}
    for i, found in enumerate(poses[2:], 2):
        assert found.ids.tolist() == [1, 2]
        assert (np.diag(iou(found.boxes, frame(i, 0.0, walk(i)).boxes)) > 0.6).all()


def test_late_boxes_are_as_good_as_prompt_ones() -> None:
    def swing(i: int) -> list[tuple[float, float]]:
        return [(300 + 40 * float(np.sin(2 * np.pi * i / 20)), 20)]

    late = Beside(swing, 2, 10).live(60, every=1)
    prompt = Scene(swing, 10).run(60, every=1)
    for found, expected in zip(late[3:], prompt[3:], strict=True):
        assert found.ids.tolist() == expected.ids.tolist() == [1]
        # The box fits the pose of this frame; none is drawn from where the person was before.
        centre = (found.boxes[0, 0] + found.boxes[0, 2]) / 2
        assert centre == pytest.approx(swing(found.frame)[0][0] + 30, abs=2)


def test_someone_new_is_looked_for_where_the_picture_shows_them_by_now() -> None:
    rng = np.random.default_rng(0)
    person = rng.integers(0, 255, (150, 60, 3), np.uint8)

    def walk(i: int) -> list[tuple[float, float]]:
        return [(20.0, 20)] + ([(40 + 20.0 * (i - 10), 120)] if i >= 10 else [])

    class Pictures(Beside):
        def frame(self) -> Frame:
            image = np.full((300, 1000, 3), 90, np.uint8)
            for x, y in self.walk(self.index):
                room = image[int(y) : int(y) + 150, int(x) : int(x) + 60]
                room[:] = person[:, : room.shape[1]]
            self.image = image
            return super().frame()

    # A runner: after three frames the box holds nobody any more.
    scene = Pictures(walk, 3, 10)
    poses = scene.live(25, every=1)
    assert len(poses[-1]) == 2
    assert poses[-1].ids.tolist() == [1, 2]


def test_no_two_boxes_stand_for_one_person() -> None:
    scene = Beside(lambda i: [(100 + 8.0 * i, 20), (500 - 8.0 * i, 100)], 2, 10)
    tracks = Tracks(COCO17)
    proposer = BoxProposer(
        scene.detect, tracks, every=1, background=True, executor=scene, clock=scene.clock
    )
    for _ in range(30):
        proposals = proposer.propose(scene.frame())
        assert len(proposals) == 2
        tracks.update(scene.estimate(proposals.boxes, proposals.scores), proposals)
        proposer.finish()
        scene.index += 1


def test_the_loop_waits_for_the_detector_where_that_costs_no_frame() -> None:
    def beside(work: float, detector: float, period: float, spares: bool = False) -> bool:
        now = 0.0
        pace = DetectionSchedule("auto", measured=True, clock=lambda: now)
        for i in range(5):
            pace.observe(Frame(i, i * period, np.zeros((2, 2, 3), np.uint8)), spares)
            pace.begin(1)
            now += work
            pace.finish()
        pace.detected(detector)
        return pace.beside

    assert not beside(0.01, 0.01, 0.033)  # both fit between two frames
    assert beside(0.02, 0.03, 0.033)  # only the pose does
    assert beside(0.05, 0.03, 0.033)  # nothing does, and more frames would be lost
    assert not beside(0.09, 0.03, 0.033)  # so few frames that people move far
    assert beside(0.09, 0.08, 0.033)  # too dear for that
    assert not beside(0.025, 0.012, 0.033, spares=True)  # some poses are left out instead
    assert beside(0.025, 0.03, 0.033, spares=True)  # hardly a pose would be left
    assert not beside(0.05, 0.02, 0.02, spares=True)  # the poses take longer than a frame anyway


def test_what_the_detector_took_changes_nothing_for_a_file_at_a_fixed_share() -> None:
    nobody = Tracks(COCO17).live(0.0)
    found = set()
    for seconds in (0.001, 1.0):
        pace = DetectionSchedule("auto", measured=False)
        pace.observe(Frame(0, 0.0, np.zeros((2, 2, 3), np.uint8)), True)
        pace.begin(10)
        pace.finish()
        pace.detected(seconds)
        found.add(pace.interval(nobody))
    assert len(found) == 1


def test_a_detector_that_takes_time_from_poses_looks_less_often() -> None:
    now = 0.0
    pace = DetectionSchedule("auto", measured=True, clock=lambda: now)
    nobody = Tracks(COCO17).live(0.0)
    for i in range(60):
        pace.observe(Frame(i, i * 0.05, np.zeros((2, 2, 3), np.uint8)))
        pace.begin(10)
        now += 0.03
        pace.finish()
        pace.detected(0.014)
    assert pace.interval(nobody) == 1
    pace.observe(Frame(60, 60 * 0.05, np.zeros((2, 2, 3), np.uint8)), True)
    assert pace.interval(nobody) == 2  # .014 of .1 seconds are within its share
    pace.observe(Frame(61, 61 * 0.05, np.zeros((2, 2, 3), np.uint8)))
    assert pace.interval(nobody) == 1


def test_a_camera_at_its_own_pace_loses_no_detection() -> None:
    """A look that falls due while the detector is busy is made as soon as it is free."""
    scene = Beside(lambda i: [(100, 20)], 5)
    scene.live(60, every=3)
    gaps = np.diff(scene.looks)
    assert (gaps <= 6).all(), scene.looks


def test_a_detector_that_fails_beside_the_loop_is_heard() -> None:
    calls = []

    def broken(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        calls.append(threading.current_thread().name)
        if len(calls) > 1:
            raise RuntimeError("no more memory")
        return scene.detect(image)

    scene = Beside(lambda i: [(100, 20)], 1)
    tracks = Tracks(COCO17)
    proposer = BoxProposer(broken, tracks, every=1, background=True, clock=scene.clock)

    def loop() -> None:
        for _ in range(500):
            scene.go_on(proposer, tracks, 1)
            time.sleep(0.01)

    with pytest.raises(RuntimeError, match="no more memory"):
        loop()
    assert calls[1].startswith("detector")
    proposer.close()


@pytest.mark.parametrize("skeleton", [COCO17, MPII16, ACTION13])
def test_every_joint_has_a_reach(skeleton) -> None:  # type: ignore[no-untyped-def]
    found = reaches(skeleton)
    assert found.shape == (len(skeleton),)
    assert (found > 0).all()


def test_person_boxes_need_three_joints() -> None:
    keypoints = np.zeros((2, 17, 2))
    keypoints[:, :3] = [[0, 0], [100, 0], [0, 100]]
    scores = np.zeros((2, 17))
    scores[0, :3] = 1
    scores[1, :2] = 1
    boxes, share = person_boxes(keypoints, scores, np.full(17, 0.1), 0.5)
    assert boxes[0].tolist() == [-10, -10, 110, 110]
    assert boxes[1].tolist() == [0, 0, 0, 0]
    assert share == pytest.approx([3 / 17, 0])
