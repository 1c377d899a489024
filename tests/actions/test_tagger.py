"""Live actions: buffers, timing, voting and "unknown"."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from hrtrack import Tracker
from hrtrack.actions.info import ActionInfo, Window
from hrtrack.actions.tagger import ActionTagger, Voting, open_action
from hrtrack.errors import ModelError
from hrtrack.poses import Poses
from hrtrack.skeleton import ACTION13, COCO17, Skeleton

INFO = ActionInfo(("hands_up", "hands_down"), Window(2.0, 32), threshold=0.5)
WRISTS, SHOULDERS = [5, 6], [1, 2]


class ByWrists:
    """Tells raised from lowered hands by the mean height of the wrists, and counts its calls."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, joints: NDArray[np.float32]) -> NDArray[np.float32]:
        self.batches.append(len(joints))
        y = joints[:, 1]
        up = (y[..., SHOULDERS] - y[..., WRISTS]).mean((1, 2))
        return np.stack((4 * up, -4 * up, np.zeros_like(up)), 1).astype(np.float32)


def _person(hands: float, at: float = 100.0, size: float = 50.0) -> NDArray[np.float32]:
    """A standing person whose wrists are ``hands`` above (+1) or below (-1) the shoulders."""
    x = np.array([0, -1, 1, -1, 1, -1, 1, -0.5, 0.5, -0.5, 0.5, -0.5, 0.5])
    y = np.array([-1, 0, 0, -0.5 * hands, -0.5 * hands, -hands, -hands, 2, 2, 3, 3, 4, 4])
    return (np.stack((x, y), 1) * size + at).astype(np.float32)


def _poses(frame: int, time: float, people: dict[int, NDArray[np.float32]]) -> Poses:
    count = len(people)
    keypoints = np.stack(list(people.values())) if people else np.zeros((0, 13, 2), np.float32)
    return Poses(
        frame,
        time,
        np.zeros((count, 4), np.float32),
        np.ones(count, np.float32),
        keypoints,
        np.full((count, 13), 0.9, np.float32),
        np.array(list(people), np.int64),
    )


def _tagger(voting: Voting | None = None) -> tuple[ActionTagger, ByWrists]:
    network = ByWrists()
    return ActionTagger(network, INFO, ACTION13, voting), network


def _labels(tagger: ActionTagger, poses: Poses) -> list[str | None]:
    actions = tagger.update(poses).actions
    assert actions is not None
    return [a.label if a else None for a in actions]


def test_each_person_gets_their_own_answer_in_one_batch() -> None:
    tagger, network = _tagger()
    for i in range(40):
        people = {7: _person(1.0), 3: _person(-1.0, at=400)}
        labels = _labels(tagger, _poses(i, i / 20, people))
    assert labels == ["hands_up", "hands_down"]
    assert set(network.batches) == {2}


def test_nothing_is_said_before_enough_was_seen() -> None:
    tagger, _ = _tagger(Voting(warm_up=0.6))
    said = [_labels(tagger, _poses(i, i / 10, {1: _person(1.0)}))[0] for i in range(10)]
    assert said[:6] == [None] * 6
    assert said[6:] == ["hands_up"] * 4


def test_a_window_shorter_than_the_warm_up_is_enough() -> None:
    info = ActionInfo(INFO.labels, Window(0.6, 16), threshold=0.5)
    tagger = ActionTagger(ByWrists(), info, ACTION13, Voting(warm_up=1.0))
    said = [_labels(tagger, _poses(i, i / 30, {1: _person(1.0)}))[0] for i in range(40)]
    assert said[:18] == [None] * 18
    assert said[-10:] == ["hands_up"] * 10


@pytest.mark.parametrize("rate", [10, 25, 60])
def test_asks_by_time_not_by_frame(rate: int) -> None:
    tagger, network = _tagger(Voting(every=0.2, warm_up=0.6))
    for i in range(3 * rate + 1):
        tagger.update(_poses(i, i / rate, {1: _person(1.0)}))
    assert 11 <= len(network.batches) <= 13


def test_a_label_holds_through_a_weak_moment_and_yields_to_another() -> None:
    tagger, _ = _tagger(Voting(memory=0.3))
    labels: list[str | None] = []
    hands = [1.0] * 60 + [0.25] * 15 + [-1.0] * 80
    for i, height in enumerate(hands):
        labels += _labels(tagger, _poses(i, i / 20, {1: _person(height)}))
    assert labels[59:75] == ["hands_up"] * 16
    assert labels[-1] == "hands_down"
    changes = sum(a != b for a, b in itertools.pairwise(labels[20:]))
    assert changes <= 2, "the label flickers"


def test_unsure_is_unknown() -> None:
    tagger, _ = _tagger()
    for i in range(40):
        poses = tagger.update(_poses(i, i / 20, {1: _person(0.0)}))
    assert poses.actions is not None
    action = poses.actions[0]
    assert action is not None
    assert action.label == "unknown"
    assert 0 <= action.score <= 1


def test_the_temperature_cools_the_confidence() -> None:
    scores = []
    for temperature in (1.0, 2.0, 100.0):
        info = ActionInfo(INFO.labels, INFO.window, temperature, INFO.threshold)
        tagger = ActionTagger(ByWrists(), info, ACTION13)
        for i in range(40):
            poses = tagger.update(_poses(i, i / 20, {1: _person(1.0)}))
        assert poses.actions is not None
        assert poses.actions[0] is not None
        scores.append(poses.actions[0])
    assert [action.label for action in scores] == ["hands_up", "hands_up", "unknown"]
    assert scores[0].score > scores[1].score


def test_too_few_joints_give_no_label() -> None:
    tagger, _ = _tagger()
    for i in range(40):
        poses = _poses(i, i / 20, {1: _person(1.0)})
        poses.scores[:, 4:] = 0.05
        labels = _labels(tagger, poses)
    assert labels == [None]


def test_people_come_and_go_without_leftovers() -> None:
    tagger, _ = _tagger()
    for i in range(200):
        tagger.update(_poses(i, i / 20, {i // 10: _person(1.0)}))
    assert len(tagger._tracks) <= 6
    assert _labels(tagger, _poses(200, 10.0, {})) == []
    assert _labels(tagger, _poses(201, 10.05, {-1: _person(1.0)})) == [None]


def test_a_jump_back_in_time_starts_afresh() -> None:
    tagger, _ = _tagger()
    for i in range(40):
        labels = _labels(tagger, _poses(i, 100 + i / 20, {1: _person(1.0)}))
    assert labels == ["hands_up"]
    assert _labels(tagger, _poses(40, 0.0, {1: _person(1.0)})) == [None]


def test_a_foreign_skeleton_is_refused() -> None:
    hand = Skeleton("hand", ("thumb", "palm"), (), (), (0.1, 0.1))
    with pytest.raises(ModelError, match="'hand'"):
        ActionTagger(ByWrists(), INFO, hand)


def test_the_bundled_model_runs_without_torch() -> None:
    code = (
        "import sys; from hrtrack.actions.tagger import open_action; "
        "from hrtrack.skeleton import COCO17; open_action('action_penn', COCO17, threads=1); "
        "sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_walker_is_unknown_to_the_bundled_model() -> None:
    from hrtrack.actions.training.bystanders import bystanders

    walkers = bystanders(np.random.default_rng(3), 20, 96, 1 / 30)
    tagger = open_action("action_penn", ACTION13, threads=1)
    for i in range(96):
        people = {k: (300 * walkers[k, i, :, :2]).astype(np.float32) for k in range(20)}
        poses = tagger.update(_poses(i, i / 30, people))
    assert poses.actions is not None
    unknown = sum(a is not None and a.label == "unknown" for a in poses.actions)
    assert unknown >= 18


def test_importing_the_tagger_loads_no_runtime() -> None:
    code = (
        "import sys; import hrtrack.actions.tagger; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'openvino', 'scipy', 'cv2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_model_is_named() -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx"):
        open_action("nowhere.onnx", COCO17)
    with pytest.raises(ModelError, match=r"nowhere\.onnx"):
        Tracker(action="nowhere.onnx", threads=1)


def test_every_clip_of_a_tracker_begins_with_nobody_known() -> None:
    with Tracker(action="action_penn", threads=1) as tracker:
        first, second = (tracker.pipeline().tagger for _ in range(2))
    assert isinstance(first, ActionTagger)
    assert first is not second
