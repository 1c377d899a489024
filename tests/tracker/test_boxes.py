import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from hrtrack.geometry import iou
from hrtrack.poses import Poses
from hrtrack.skeleton import ACTION13, COCO17, MPII16
from hrtrack.tracker.associate import Tracks
from hrtrack.tracker.boxes import BoxOptions, BoxProposer, Detector
from hrtrack.tracker.extent import person_boxes, reaches
from hrtrack.tracker.frame import Frame
from hrtrack.tracker.held import Drawn

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
        self.looks.append(self.index)
        places = np.array(self.seen(self.index), np.float32).reshape(-1, 2)
        boxes = np.concatenate([places, places + SIZE], axis=1).astype(np.float32)
        return boxes, np.full(len(boxes), 0.9, np.float32)

    def frame(self) -> Frame:
        return Frame(self.index, self.index / self.fps, self.image)

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
            poses = self.estimate(proposals.boxes, proposals.scores)
            result.append(tracks.update(poses, proposals))
            proposer.finish()
            self.index += 1
        return result


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
    none = Drawn(np.zeros((0, 4)), np.zeros((0, 17, 2)), np.zeros((0, 17), bool))
    drawn = none.renewed(first, new, certain)
    np.testing.assert_allclose(drawn.carried(first.keypoints, certain, first.boxes), first.boxes)
    corner = first.boxes[0, :2]
    nearer = replace(first, keypoints=corner + 1.5 * (first.keypoints - corner) + 20)
    later = drawn.renewed(nearer, np.array([0]), certain)
    np.testing.assert_allclose(later.boxes, first.boxes)
    expected = (first.boxes.reshape(2, 2) - corner) * 1.5 + corner + 20
    carried = later.carried(nearer.keypoints, certain, nearer.boxes)
    np.testing.assert_allclose(carried.reshape(2, 2), expected, atol=0.5)
    few = np.zeros_like(certain)
    few[0, :2] = True
    np.testing.assert_allclose(later.carried(nearer.keypoints, few, nearer.boxes), nearer.boxes)


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


def test_beside_the_loop_late_boxes_are_carried_forward() -> None:
    scene = Scene(lambda i: [(6.0 * i, 20), (880 - 6.0 * i, 100)])

    def slow(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        found = scene.detect(image)
        time.sleep(0.03)
        return found

    people, tracks = People(slow, every=5, background=True), Tracks(COCO17)
    shown = 0
    for _ in range(60):
        poses = scene.run(people, tracks, 1)[0]
        time.sleep(0.01)
        if len(poses):
            shown += 1
        if shown > 10:  # the first boxes come late, and no velocity is known yet
            assert poses.ids.tolist() == [1, 2]
            truth = frame(0, 0.0, scene.walk(scene.index - 1)).boxes
            assert (np.diag(iou(poses.boxes, truth)) > 0.6).all()
    people.close()
    assert shown > 40
    assert tracks.ids_given == 2


def test_a_detector_that_fails_beside_the_loop_is_heard() -> None:
    def broken(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        raise RuntimeError("no more memory")

    scene = Scene(lambda i: [(100, 20)])
    people = People(broken, every=1, background=True)

    def loop() -> None:
        tracks = Tracks(COCO17)
        for _ in range(50):
            scene.run(people, tracks, 1)
            time.sleep(0.01)

    with pytest.raises(RuntimeError, match="no more memory"):
        loop()
    people.close()


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
