from dataclasses import replace

import numpy as np
import pytest

from hrtrack.poses import Poses
from hrtrack.skeleton import COCO17, MPII16, by_name
from hrtrack.tracker.tracking import motion as kalman
from hrtrack.tracker.tracking.associate import AssociationOptions, Tracks
from hrtrack.tracker.tracking.similarity import Deciding, association_probability, similarities

from .people import frame


def follow(tracks: Tracks, frames: list[Poses]) -> list[Poses]:
    return [tracks.update(poses) for poses in frames]


def test_a_photo_needs_no_second_frame() -> None:
    poses = Tracks(COCO17).update(frame(0, 0.0, [(0, 0), (300, 0)]))
    assert poses.ids.tolist() == [1, 2]


def test_identities_stay_with_walking_people() -> None:
    tracks = Tracks(COCO17)
    frames = [frame(i, i / 30, [(5 * i, 0), (600 - 5 * i, 200)]) for i in range(60)]
    for poses in follow(tracks, frames):
        assert poses.ids.tolist() == [1, 2]
    assert tracks.ids_given == 2


def test_two_people_who_cross_keep_their_ids() -> None:
    tracks = Tracks(COCO17)
    for i in range(100):
        poses = tracks.update(frame(i, i / 30, [(3 * i, 0), (300 - 3 * i, 4)]))
        if len(poses) == 2:
            assert poses.ids.tolist() == [1, 2]
    assert tracks.ids_given == 2
    assert poses.ids.tolist() == [1, 2]


def test_newcomers_wait_for_a_second_look() -> None:
    tracks = Tracks(COCO17)
    tracks.update(frame(0, 0.0, [(0, 0)]))
    assert tracks.update(frame(1, 0.03, [(0, 0), (400, 0)])).ids.tolist() == [1]
    assert tracks.update(frame(2, 0.07, [(0, 0), (400, 0)])).ids.tolist() == [1, 2]


def test_a_false_box_of_one_frame_uses_up_no_id() -> None:
    tracks = Tracks(COCO17)
    for i in range(20):
        false = [(400.0 + 90 * (i % 3), 0.0)] if i % 2 else []
        poses = tracks.update(frame(i, i / 30, [(0, 0), *false]))
        assert poses.ids.tolist() == [1]
    assert tracks.ids_given == 1


def test_low_scores_continue_a_track_but_start_none() -> None:
    tracks = Tracks(COCO17)
    tracks.update(frame(0, 0.0, [(0, 0)]))
    for i in range(1, 10):
        poses = tracks.update(frame(i, i / 30, [(0, 0), (400, 0)], score=0.15))
        assert poses.ids.tolist() == [1]
    assert len(tracks.update(frame(10, 0.33, [(0, 0)], score=0.05))) == 0


def test_someone_who_was_hidden_gets_the_id_back() -> None:
    tracks = Tracks(COCO17)
    for i in range(90):
        hidden = 30 <= i < 60
        poses = tracks.update(frame(i, i / 30, [] if hidden else [(2 * i, 0)]))
        assert poses.ids.tolist() == ([] if hidden else [1])


def test_memory_ends_and_ids_are_never_reused() -> None:
    tracks = Tracks(COCO17, AssociationOptions(memory=1.0))
    time, seen = 0.0, []
    for round_ in range(200):
        for i in range(3):
            poses = tracks.update(frame(round_ * 3 + i, time, [(0, 0)]))
            time += 0.03
        seen += poses.ids.tolist()
        time += 5.0
        assert len(tracks) == 1
    assert seen == list(range(1, 201))


def test_two_minutes_of_people_who_come_and_go_leave_no_more_than_the_first() -> None:
    tracks = Tracks(COCO17)
    most, ever = [0, 0, 0, 0], []
    for i in range(2 * 60 * 15):
        # Every three seconds someone walks in from the left, and leaves six seconds later.
        places = [(10.0 * (i - start), 200.0 * (start // 45 % 3)) for start in range(0, i + 1, 45)]
        poses = tracks.update(frame(i, i / 15, [p for p in places if p[0] < 900]))
        ever += poses.ids.tolist()
        most[i // 450] = max(most[i // 450], len(tracks))
    assert max(most[1:]) <= most[0] + 1
    assert sorted(set(ever)) == list(range(1, 41))


def test_two_poses_of_one_person_become_one() -> None:
    tracks = Tracks(COCO17)
    poses = tracks.update(frame(0, 0.0, [(0, 0), (2, 2), (300, 0)], score=[0.6, 0.8, 0.7]))
    assert poses.boxes[:, 0].tolist() == [2.0, 300.0]


def test_a_box_that_shrank_when_it_was_last_seen_is_not_gone_a_second_later() -> None:
    boxes = np.array([[100.0, 100, 180, 300]])
    state = kalman.start(boxes, 0.03)
    for narrower in (10, 20, 30):
        state = kalman.predict(state, 1 / 30, 8.0, 30.0)
        seen = boxes + np.array([[narrower, 0, -narrower, 0]])
        state = kalman.correct(state, seen, 0.03, np.ones(1))
    assert state.velocity[0, 2] < -50
    width = state.position[0, 2]
    for _ in range(30):
        state = kalman.predict(state, 1 / 30, 8.0, 1.0)
    assert 0.3 * width < state.position[0, 2] < width


def test_a_pose_is_surely_whose_it_is_when_the_other_has_one_too() -> None:
    # Both poses would fit the first person, but the second one can only have the second pose.
    similarity = np.array([[0.9, 0.9], [0.05, 0.9], [0.0, 0.0]])
    pairs = np.array([0, 1]), np.array([0, 1])
    assert (association_probability(similarity, *pairs, np.ones(3, bool), 16.0) > 0.99).all()
    # Without a pose for the second person that pose may be of either.
    alone = association_probability(
        similarity, np.array([0]), np.array([1]), np.ones(3, bool), 16.0
    )
    np.testing.assert_allclose(alone, 0.5, atol=1e-3)
    # Two who fit either pose are even.
    even = association_probability(np.full((2, 2), 0.8), *pairs, np.ones(2, bool), 16.0)
    np.testing.assert_allclose(even, 0.5)
    # Someone who may be the first one seen twice is no rival.
    newcomer = association_probability(np.full((2, 2), 0.8), *pairs, np.array([True, False]), 16.0)
    np.testing.assert_allclose(newcomer, [1.0, 0.5])


def test_motion_is_in_seconds() -> None:
    # The same walk at 50 and, with frames dropped at random, at about 5 frames a second.
    rng = np.random.default_rng(0)
    for keep in (1.0, 0.1):
        tracks = Tracks(COCO17)
        for i in range(300):
            if rng.random() <= keep or i < 2:
                poses = tracks.update(frame(i, i / 50, [(2 * i, 0), (2 * i, 170)]))
                assert poses.ids.tolist() == [1, 2]
        # A velocity fades between frames far apart, but carries people to where they are.
        live = tracks.live(6.1)
        expected = frame(305, 6.1, [(610, 0), (610, 170)])
        assert live.boxes == pytest.approx(expected.boxes, abs=15 if keep < 1 else 2)
        assert (live.velocity[:, 0] > 30).all()


def test_a_rewound_source_starts_over_with_new_ids() -> None:
    tracks = Tracks(COCO17)
    follow(tracks, [frame(i, 10 + i / 30, [(0, 0)]) for i in range(5)])
    poses = follow(tracks, [frame(i, i / 30, [(0, 0)]) for i in range(5)])
    assert poses[-1].ids.tolist() == [2]
    # A frame that is a little late is not another showing.
    assert tracks.update(frame(5, 0.1, [(0, 0)])).ids.tolist() == [2]


def test_a_box_that_ran_ahead_tells_whose_the_detector_s_new_box_is() -> None:
    tracks = Tracks(COCO17)
    follow(tracks, [frame(i, i / 30, [(12 * i, 0)]) for i in range(20)])
    for i in range(20, 26):  # stops at once; the box that is followed goes on for a while
        here = frame(i, i / 30, [(195, 0)], score=0.9)
        ahead = replace(
            here, boxes=here.boxes + np.array([35, 0, 35, 0]), person_scores=np.array([0.6])
        )
        both = Poses(
            i, i / 30,
            *(np.concatenate([getattr(ahead, k), getattr(here, k)]).astype(np.float32)
              for k in ("boxes", "person_scores", "keypoints", "scores")),
            np.full(2, -1, np.int64),
        )  # fmt: skip
        poses = tracks.update(both if i < 22 else here)
        assert poses.ids.tolist() == [1]
        np.testing.assert_array_equal(poses.boxes, here.boxes)
    assert tracks.ids_given == 1


def test_alarms_tell_of_weak_and_lost_tracks() -> None:
    tracks = Tracks(COCO17)
    follow(tracks, [frame(i, i / 30, [(0, 0), (300, 0)]) for i in range(5)])
    assert tracks.alarms == 0
    tracks.update(frame(5, 5 / 30, [(0, 0)]))
    assert tracks.alarms == 1
    tracks.update(frame(6, 6 / 30, [(0, 0)], joint_score=0.3))
    assert tracks.alarms == 2


def test_nobody_without_joints_worth_showing_is_shown() -> None:
    tracks = Tracks(COCO17)
    for i in range(10):
        poses = frame(i, i / 30, [(0, 0), (300, 0)])
        poses.scores[1] = 0.25
        assert tracks.update(poses).ids.tolist() == [1]
    for i in range(10, 20):
        poses = frame(i, i / 30, [(0, 0), (300, 0)])
        faded = i >= 15
        poses.scores[1, 2:] = 0.25 if faded else 0.9
        # The track goes on, and is the same person when the joints are back.
        assert tracks.update(poses).ids.tolist() == ([1] if faded else [1, 2])
    assert tracks.update(frame(20, 20 / 30, [(0, 0), (300, 0)])).ids.tolist() == [1, 2]


def test_live_people_are_carried_forward() -> None:
    tracks = Tracks(COCO17)
    follow(tracks, [frame(i, i / 30, [(6 * i, 0)]) for i in range(30)])
    live = tracks.live(30 / 30)
    expected = frame(30, 1.0, [(180, 0)])
    assert live.boxes == pytest.approx(expected.boxes, abs=2)
    # The box around the joints goes along; its discs differ from the figure's box.
    figure, before = expected.keypoints[0], frame(29, 29 / 30, [(174, 0)]).keypoints[0]
    assert figure.max(axis=0) - before.max(axis=0) == pytest.approx([6, 0])
    middle = (live.bodies[0, :2] + live.bodies[0, 2:]) / 2
    assert middle[0] == pytest.approx(210, abs=2)
    assert live.ids.tolist() == [1]


def test_nobody_at_all() -> None:
    tracks = Tracks(COCO17)
    assert len(tracks.update(frame(0, 0.0, []))) == 0
    assert len(tracks.live(0.1)) == 0


def whole(poses: Poses, details: Poses) -> Poses:
    """COCO's joints of the one, and all points of face, hands and feet at the other's nose."""
    keypoints = np.tile(details.keypoints[:, :1], (1, 133, 1))
    keypoints[:, :17] = poses.keypoints
    return replace(poses, keypoints=keypoints, scores=np.full((len(poses), 133), 0.9, np.float32))


def test_hands_and_faces_do_not_outvote_the_body() -> None:
    skeleton = by_name("wholebody133")
    deciding = Deciding.of(skeleton)
    assert deciding.joints == slice(0, 23)
    here, there = frame(0, 0.0, [(0, 0)]), frame(0, 0.0, [(25, 0)])
    tracks = Tracks(skeleton)
    tracks.update(whole(here, here))
    state = tracks._state
    moved = whole(frame(1, 0.03, [(2, 0)]), there)  # the same body, and somebody's face
    options = {"box_noise": 0.03, "pose_weight": 9.0, "max_cost": 16.0}
    sigmas = np.array(skeleton.sigmas) * 2.5
    (everything,) = similarities(state, moved, 0.03, sigmas, **options)
    (body,) = similarities(state, moved, 0.03, deciding.sigmas * 2.5, deciding.joints, **options)
    assert body > 0.8
    assert everything < 0.3


def test_all_joints_decide_where_there_is_only_a_body() -> None:
    for skeleton in (COCO17, MPII16):
        deciding = Deciding.of(skeleton)
        assert deciding.joints == slice(None)
        np.testing.assert_array_equal(deciding.sigmas, skeleton.sigmas)
    # AI Challenger judges five times as strictly as COCO, whose people move as far.
    aic = by_name("aic14")
    shoulder = Deciding.of(aic).sigmas[aic.index("left_shoulder")]
    assert shoulder == COCO17.sigmas[COCO17.index("left_shoulder")]


@pytest.mark.parametrize("name", ["wholebody133", "halpe26"])
def test_people_of_many_joints_keep_their_ids(name: str) -> None:
    skeleton = by_name(name)
    tracks = Tracks(skeleton)
    for i in range(30):
        poses = frame(i, i / 30, [(5 * i, 0), (300 - 5 * i, 200)])
        poses = whole(poses, poses)
        count = len(skeleton)
        poses = replace(poses, keypoints=poses.keypoints[:, :count], scores=poses.scores[:, :count])
        assert tracks.update(poses).ids.tolist() == [1, 2]
